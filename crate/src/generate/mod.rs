//! Decoding: from scored tokens to sequences, without knowing what a model is.
