//! Training.
pub mod scenes;
