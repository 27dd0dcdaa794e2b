//! The operations on the CPU, by SIMD.

pub mod isa;
