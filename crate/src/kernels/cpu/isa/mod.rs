//! Lanes of SIMD: one vocabulary for every instruction set, so that a kernel is written once.
//!
//! A kernel is a [`Kernel`] whose `run` takes an [`Isa`] and is instantiated by [`dispatch`] inside a
//! function that has the instruction set's features switched on. Everything between the two must be
//! `#[inline(always)]`: only then do the instructions arrive in that function and in no other.
//!
//! In the browser, relaxed SIMD is a run-time matter: a variant of the module without those functions'
//! bodies exists for browsers that lack it, and [`enable_relaxed_simd`] is called where it does not run.
#![allow(unsafe_code, reason = "vector loads and stores, and functions for one instruction set")]

mod portable;
#[cfg(test)]
mod tests;
#[cfg(all(target_family = "wasm", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use portable::Portable;
use std::sync::atomic::{AtomicU8, Ordering};

/// The widest vector of any instruction set, in f32 lanes.
pub const MAX_LANES: usize = 16;

/// An instruction set; a value of it proves that the machine has it.
///
/// `F` is a vector of [`Isa::LANES`] floats, `I` one of as many i32, also seen as four times as many
/// bytes. Integer arithmetic is the same number everywhere; floats differ by the rounding of
/// [`Isa::fma`], which is fused where the hardware does that, and by the order of [`Isa::sum`].
#[expect(clippy::wrong_self_convention, reason = "`self` is the instruction set, not what is converted")]
pub trait Isa: Copy + Send + Sync + 'static {
    /// Floats.
    type F: Copy;
    /// 32-bit integers.
    type I: Copy;
    /// Elements of a vector: 4, 8 or 16.
    const LANES: usize;
    /// Rows of a tile of byte products, 4, 6 or 12, whose sums stay in registers.
    const ROWS: usize;

    /// The same float in all lanes.
    fn splat(self, x: f32) -> Self::F;
    /// Reads [`Isa::LANES`] floats.
    ///
    /// # Safety
    /// They must be readable; any alignment will do.
    unsafe fn load_at(self, from: *const f32) -> Self::F;
    /// Writes [`Isa::LANES`] floats.
    ///
    /// # Safety
    /// They must be writable; any alignment will do.
    unsafe fn store_at(self, to: *mut f32, x: Self::F);
    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, rounded once or twice.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a < b ? b : a`: the first of NaNs.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `b < a ? b : a`: the first of NaNs.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// Square root.
    fn sqrt(self, x: Self::F) -> Self::F;
    /// `a < b ? x : y`, by lane.
    fn pick_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    /// Sum of the lanes, in pairs.
    fn sum(self, x: Self::F) -> f32;
    /// Greatest lane.
    fn greatest(self, x: Self::F) -> f32;

    /// The same integer in all lanes; with four bytes in it, those four everywhere.
    fn splat_int(self, x: i32) -> Self::I;
    /// Reads `4 · LANES` bytes.
    ///
    /// # Safety
    /// They must be readable; any alignment will do.
    unsafe fn load_int(self, from: *const u8) -> Self::I;
    /// Writes `4 · LANES` bytes.
    ///
    /// # Safety
    /// They must be writable; any alignment will do.
    unsafe fn store_int(self, to: *mut u8, x: Self::I);
    /// `a + b`, wrapping.
    fn add_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a - b`, wrapping.
    fn sub_int(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a & b`.
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a | b`.
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a ^ b`.
    fn xor(self, a: Self::I, b: Self::I) -> Self::I;
    /// Each lane moved `N` bits up.
    fn shift_left<const N: u32>(self, x: Self::I) -> Self::I;
    /// Each lane moved `N` bits down; zeros follow.
    fn shift_right<const N: u32>(self, x: Self::I) -> Self::I;
    /// The float of each integer.
    fn to_float(self, x: Self::I) -> Self::F;
    /// The integer with each float's bits.
    fn to_bits(self, x: Self::F) -> Self::I;
    /// The float with each integer's bits.
    fn from_bits(self, x: Self::I) -> Self::F;
    /// To each lane of `sum` the products of its four signed `weights` and four `codes` of 0..=127.
    fn dot(self, sum: Self::I, weights: Self::I, codes: Self::I) -> Self::I;
    /// Writes the integers of four vectors, each 0..=127, as `4 · LANES` bytes in order.
    ///
    /// # Safety
    /// The bytes must be writable; any alignment will do.
    unsafe fn store_narrow(self, to: *mut u8, x: [Self::I; 4]);

    /// The nearest integer (of two the even one) of floats below 2²² in size.
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::I {
        // At 1.5·2²³ the last bit of a float is worth one.
        let unit = self.splat(12_582_912.0);
        self.sub_int(self.to_bits(self.add(x, unit)), self.to_bits(unit))
    }

    /// Zeros.
    #[inline(always)]
    fn zero(self) -> Self::F {
        self.splat(0.0)
    }

    /// `|x|`.
    #[inline(always)]
    fn abs(self, x: Self::F) -> Self::F {
        self.from_bits(self.and(self.to_bits(x), self.splat_int(i32::MAX)))
    }

    /// The first [`Isa::LANES`] floats of a slice that has as many.
    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::F {
        assert!(from.len() >= Self::LANES, "a vector's worth");
        // SAFETY: that many are there.
        unsafe { self.load_at(from.as_ptr()) }
    }

    /// Writes the first [`Isa::LANES`] floats of a slice that has as many.
    #[inline(always)]
    fn store(self, to: &mut [f32], x: Self::F) {
        assert!(to.len() >= Self::LANES, "a vector's worth");
        // SAFETY: that many are there.
        unsafe { self.store_at(to.as_mut_ptr(), x) }
    }

    /// The floats of a slice shorter than a vector; `fill` in the other lanes.
    #[inline(always)]
    fn load_part(self, from: &[f32], fill: f32) -> Self::F {
        let mut lanes = [fill; MAX_LANES];
        lanes[..from.len()].copy_from_slice(from);
        self.load(&lanes)
    }

    /// As many lanes as the slice is long, which is at most [`Isa::LANES`].
    #[inline(always)]
    fn store_part(self, to: &mut [f32], x: Self::F) {
        let mut lanes = [0.0; MAX_LANES];
        self.store(&mut lanes, x);
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

/// Work that is instantiated for an instruction set.
pub trait Kernel {
    /// What the work results in.
    type Output;
    /// Does it; `#[inline(always)]` in every implementation.
    fn run<S: Isa>(self, simd: S) -> Self::Output;
}

/// The instruction sets that kernels are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Level {
    /// Plain Rust on four lanes, which the compiler vectorises where it can (NEON); the definition
    /// that the others are tested against.
    Portable = 1,
    /// WebAssembly's 128-bit SIMD.
    Simd128,
    /// The same, with fused multiply-add and the byte dot product.
    RelaxedSimd,
    /// 256 bits and fused multiply-add.
    Avx2,
    /// The same, with the byte dot product.
    AvxVnni,
    /// 512 bits, with the byte dot product.
    Avx512,
}

impl Level {
    /// Every level of this build that the machine can run, best last.
    pub fn available() -> Vec<Self> {
        #[cfg(not(all(target_family = "wasm", target_feature = "simd128")))]
        let mut levels = vec![Self::Portable];
        #[cfg(all(target_family = "wasm", target_feature = "simd128"))]
        let mut levels = vec![Self::Simd128];
        #[cfg(all(target_family = "wasm", target_feature = "simd128"))]
        if RELAXED.load(Ordering::Relaxed) != 0 {
            levels.push(Self::RelaxedSimd);
        }
        #[cfg(target_arch = "x86_64")]
        x86::detect(&mut levels);
        levels
    }

    /// The best level, found out once.
    #[inline]
    pub fn best() -> Self {
        match BEST.load(Ordering::Relaxed) {
            0 => {
                let best = *Self::available().last().expect("every build has a level");
                BEST.store(best as u8, Ordering::Relaxed);
                best
            }
            2 => Self::Simd128,
            3 => Self::RelaxedSimd,
            4 => Self::Avx2,
            5 => Self::AvxVnni,
            6 => Self::Avx512,
            _ => Self::Portable,
        }
    }
}

/// [`Level::best`] as a number; 0 while it is not known.
static BEST: AtomicU8 = AtomicU8::new(0);
/// Whether the browser runs relaxed SIMD.
#[cfg(all(target_family = "wasm", target_feature = "simd128"))]
static RELAXED: AtomicU8 = AtomicU8::new(0);

/// Tells that the browser runs relaxed SIMD and that this is the module which has it. Called by the
/// shell before any arithmetic; does nothing elsewhere.
pub fn enable_relaxed_simd() {
    #[cfg(all(target_family = "wasm", target_feature = "simd128"))]
    RELAXED.store(1, Ordering::Relaxed);
    BEST.store(0, Ordering::Relaxed);
}

/// Runs `kernel` on the machine's best instruction set.
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    dispatch_at(Level::best(), kernel)
}

/// Runs `kernel` on one of [`Level::available`]; any other level is taken as the first of this build.
#[inline]
pub(crate) fn dispatch_at<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        #[cfg(all(target_family = "wasm", target_feature = "simd128"))]
        Level::RelaxedSimd => wasm::relaxed(kernel),
        // The portable code is not linked where there is better.
        #[cfg(all(target_family = "wasm", target_feature = "simd128"))]
        _ => wasm::simd128(kernel),
        // SAFETY: levels other than the portable one come from detection only.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::avx2(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni => unsafe { x86::avx_vnni(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::avx512(kernel) },
        #[cfg(not(all(target_family = "wasm", target_feature = "simd128")))]
        _ => kernel.run(Portable),
    }
}
