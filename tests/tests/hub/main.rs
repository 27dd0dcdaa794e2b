//! Models of repositories and servers: converted while they are downloaded, whatever the connection does.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod archives;
mod conversions;
mod damage;
mod downloads;
mod full_size;
mod server;
