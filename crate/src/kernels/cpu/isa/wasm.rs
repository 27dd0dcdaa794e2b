//! WebAssembly's 128-bit vectors, plain and relaxed.
//!
//! Relaxed instructions stand in functions of their own, [`relaxed`]'s instances: the build cuts
//! their bodies out of the module for browsers that would refuse it.

use super::{Isa, Kernel};
use core::arch::wasm32::*;

/// Instructions of the first SIMD proposal.
#[derive(Clone, Copy, Debug)]
pub struct Simd128(());

/// The same and those of the relaxed one, on which machines agree for the operands that we use.
#[derive(Clone, Copy, Debug)]
pub struct Relaxed(());

/// Instantiates a kernel with plain SIMD.
#[inline(never)]
pub fn simd128<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Simd128(()))
}

/// Instantiates a kernel with relaxed SIMD.
#[target_feature(enable = "simd128,relaxed-simd")]
#[inline(never)]
pub fn relaxed<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Relaxed(()))
}

/// Both sets, which differ in `fma` and `dot`.
macro_rules! lanes {
    ($isa:ident, $rows:literal, $fma:expr, $dot:expr) => {
        impl Isa for $isa {
            type F = v128;
            type I = v128;
            const LANES: usize = 4;
            const ROWS: usize = $rows;

            #[inline(always)]
            fn splat(self, x: f32) -> v128 {
                f32x4_splat(x)
            }
            #[inline(always)]
            unsafe fn load_at(self, from: *const f32) -> v128 {
                // SAFETY: the caller's promise.
                unsafe { v128_load(from.cast()) }
            }
            #[inline(always)]
            unsafe fn store_at(self, to: *mut f32, x: v128) {
                // SAFETY: the caller's promise.
                unsafe { v128_store(to.cast(), x) }
            }
            #[inline(always)]
            fn add(self, a: v128, b: v128) -> v128 {
                f32x4_add(a, b)
            }
            #[inline(always)]
            fn sub(self, a: v128, b: v128) -> v128 {
                f32x4_sub(a, b)
            }
            #[inline(always)]
            fn mul(self, a: v128, b: v128) -> v128 {
                f32x4_mul(a, b)
            }
            #[inline(always)]
            fn div(self, a: v128, b: v128) -> v128 {
                f32x4_div(a, b)
            }
            #[inline(always)]
            fn fma(self, a: v128, b: v128, c: v128) -> v128 {
                $fma(a, b, c)
            }
            #[inline(always)]
            fn max(self, a: v128, b: v128) -> v128 {
                max(a, b)
            }
            #[inline(always)]
            fn min(self, a: v128, b: v128) -> v128 {
                min(a, b)
            }
            #[inline(always)]
            fn sqrt(self, x: v128) -> v128 {
                f32x4_sqrt(x)
            }
            #[inline(always)]
            fn pick_lt(self, a: v128, b: v128, x: v128, y: v128) -> v128 {
                v128_bitselect(x, y, f32x4_lt(a, b))
            }
            #[inline(always)]
            fn sum(self, x: v128) -> f32 {
                let pairs = f32x4_add(x, i32x4_shuffle::<2, 3, 2, 3>(x, x));
                f32x4_extract_lane::<0>(pairs) + f32x4_extract_lane::<1>(pairs)
            }
            #[inline(always)]
            fn greatest(self, x: v128) -> f32 {
                let pairs = max(x, i32x4_shuffle::<2, 3, 2, 3>(x, x));
                f32x4_extract_lane::<0>(pairs).max(f32x4_extract_lane::<1>(pairs))
            }

            #[inline(always)]
            fn splat_int(self, x: i32) -> v128 {
                i32x4_splat(x)
            }
            #[inline(always)]
            unsafe fn load_int(self, from: *const u8) -> v128 {
                // SAFETY: the caller's promise.
                unsafe { v128_load(from.cast()) }
            }
            #[inline(always)]
            unsafe fn store_int(self, to: *mut u8, x: v128) {
                // SAFETY: the caller's promise.
                unsafe { v128_store(to.cast(), x) }
            }
            #[inline(always)]
            fn add_int(self, a: v128, b: v128) -> v128 {
                i32x4_add(a, b)
            }
            #[inline(always)]
            fn sub_int(self, a: v128, b: v128) -> v128 {
                i32x4_sub(a, b)
            }
            #[inline(always)]
            fn and(self, a: v128, b: v128) -> v128 {
                v128_and(a, b)
            }
            #[inline(always)]
            fn or(self, a: v128, b: v128) -> v128 {
                v128_or(a, b)
            }
            #[inline(always)]
            fn xor(self, a: v128, b: v128) -> v128 {
                v128_xor(a, b)
            }
            #[inline(always)]
            fn shift_left<const N: u32>(self, x: v128) -> v128 {
                i32x4_shl(x, N)
            }
            #[inline(always)]
            fn shift_right<const N: u32>(self, x: v128) -> v128 {
                u32x4_shr(x, N)
            }
            #[inline(always)]
            fn to_float(self, x: v128) -> v128 {
                f32x4_convert_i32x4(x)
            }
            #[inline(always)]
            fn to_bits(self, x: v128) -> v128 {
                x
            }
            #[inline(always)]
            fn from_bits(self, x: v128) -> v128 {
                x
            }
            #[inline(always)]
            fn dot(self, sum: v128, weights: v128, codes: v128) -> v128 {
                $dot(sum, weights, codes)
            }
            #[inline(always)]
            unsafe fn store_narrow(self, to: *mut u8, x: [v128; 4]) {
                let halves = [i16x8_narrow_i32x4(x[0], x[1]), i16x8_narrow_i32x4(x[2], x[3])];
                // SAFETY: the caller's promise.
                unsafe { v128_store(to.cast(), u8x16_narrow_i16x8(halves[0], halves[1])) }
            }
        }
    };
}

/// Two roundings.
#[inline(always)]
fn mul_add(a: v128, b: v128, c: v128) -> v128 {
    f32x4_add(f32x4_mul(a, b), c)
}

/// Not `f32x4_pmax`: features are the whole module's for the code generator, which makes that the
/// relaxed instruction, in functions that must do without as well, and with another result for NaN.
#[inline(always)]
fn max(a: v128, b: v128) -> v128 {
    v128_bitselect(b, a, f32x4_lt(a, b))
}

/// See [`max`].
#[inline(always)]
fn min(a: v128, b: v128) -> v128 {
    v128_bitselect(b, a, f32x4_lt(b, a))
}

/// Bytes of even and of odd places in 16 bits each, whose products add up in pairs within a lane. The
/// halves of an operand that several products share are made once.
#[inline(always)]
fn widening_dot(sum: v128, weights: v128, codes: v128) -> v128 {
    let even = i32x4_dot_i16x8(i16x8_shr(i16x8_shl(weights, 8), 8), v128_and(codes, i16x8_splat(255)));
    let odd = i32x4_dot_i16x8(i16x8_shr(weights, 8), u16x8_shr(codes, 8));
    i32x4_add(i32x4_add(sum, even), odd)
}

lanes!(Simd128, 4, mul_add, widening_dot);
lanes!(Relaxed, 6, f32x4_relaxed_madd, |sum, weights, codes| i32x4_relaxed_dot_i8x16_i7x16_add(
    weights, codes, sum
));
