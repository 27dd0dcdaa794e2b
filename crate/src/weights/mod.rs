//! Stored tensors.
