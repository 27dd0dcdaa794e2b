//! The BLIP model.
