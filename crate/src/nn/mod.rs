//! Layers shared by vision and text.
