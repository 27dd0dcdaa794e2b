//! What kind of machine the shaders run on, where a kernel has a variant for each.
//!
//! A graphics processor hides the latency of memory behind many invocations and shares loads in
//! workgroup memory; a software renderer runs them in turn and pays for every barrier. The device
//! layer says which it opened; there is one GPU a process.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// The kind of adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Adapter {
    /// A graphics processor.
    Hardware,
    /// A renderer on the CPU, such as SwiftShader or lavapipe.
    Software,
}

static ADAPTER: AtomicU8 = AtomicU8::new(0);
static NEIGHBOURS: AtomicU32 = AtomicU32::new(0);

impl Adapter {
    /// The kind that was set last; at first [`Adapter::Hardware`].
    pub fn current() -> Self {
        match ADAPTER.load(Ordering::Relaxed) {
            0 => Self::Hardware,
            _ => Self::Software,
        }
    }

    /// Chooses variants for this kind from now on. Results agree either way, up to rounding.
    pub fn set(self) {
        ADAPTER.store(u8::from(self == Self::Software), Ordering::Relaxed);
    }

    /// How many neighbours, at least, can hand each other numbers (a subgroup): 0 where none can, as in
    /// every browser.
    pub fn neighbours() -> u32 {
        NEIGHBOURS.load(Ordering::Relaxed)
    }

    /// Says what the device has; cubecl leaves subgroups out of what it tells of renderers on the CPU.
    pub fn set_neighbours(size: u32) {
        NEIGHBOURS.store(size, Ordering::Relaxed);
    }
}
