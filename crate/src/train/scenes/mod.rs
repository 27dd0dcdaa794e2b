//! Scenes composed from icons.
