//! From a checkpoint to the container of `models/`.
