//! Opens devices and reads tensors back.
