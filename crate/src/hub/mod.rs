//! Models of this machine, of repositories on the Hugging Face hub and of any server: [`Models`] opens what
//! people name, and keeps what it downloads in a cache on disk.
//!
//! A checkpoint is converted while it is downloaded: the cache holds model directories, never a
//! checkpoint. A download that was cut off, by the network or by the user, goes on where it was.

mod cache;
mod checkpoint;
mod client;
mod directory;
mod local;
mod location;
mod models;
mod pieces;
mod repository;

pub use cache::Cache;
pub use checkpoint::convert_file;
pub use client::{Client, Patience};
pub use directory::fetch_directory;
pub use local::{manifest_in, open_checkpoint, read_manifest, weights_in};
pub use location::Location;
pub use models::Models;
pub use repository::{Repository, convert_repository, fetch_repository};

/// What a download reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// How far it is.
    Progress {
        /// The file.
        file: &'a str,
        /// Its bytes so far.
        done: u64,
        /// All of its bytes.
        total: u64,
    },
    /// Something that the user should know.
    Notice(&'a str),
}

/// What hears of it.
pub type Listener<'a> = dyn FnMut(Event<'_>) + 'a;
