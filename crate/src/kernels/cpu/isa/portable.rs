//! Four lanes in plain Rust: the twin that every other instruction set is tested against, and what
//! aarch64 runs, where the compiler turns these arrays into NEON registers.

use super::Isa;
use std::array::from_fn;

/// Plain Rust, four lanes.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Isa for Portable {
    type F = [f32; 4];
    type I = [i32; 4];
    const LANES: usize = 4;
    const ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load_at(self, from: *const f32) -> [f32; 4] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_at(self, to: *mut f32, x: [f32; 4]) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(x) }
    }
    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        // Without the instruction, a fused product is a slow library call.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            from_fn(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    fn max(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| if a[i] < b[i] { b[i] } else { a[i] })
    }
    #[inline(always)]
    fn min(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        from_fn(|i| if b[i] < a[i] { b[i] } else { a[i] })
    }
    #[inline(always)]
    fn sqrt(self, x: [f32; 4]) -> [f32; 4] {
        x.map(f32::sqrt)
    }
    #[inline(always)]
    fn pick_lt(self, a: [f32; 4], b: [f32; 4], x: [f32; 4], y: [f32; 4]) -> [f32; 4] {
        from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn sum(self, x: [f32; 4]) -> f32 {
        (x[0] + x[2]) + (x[1] + x[3])
    }
    #[inline(always)]
    fn greatest(self, x: [f32; 4]) -> f32 {
        x[0].max(x[1]).max(x[2].max(x[3]))
    }

    #[inline(always)]
    fn splat_int(self, x: i32) -> [i32; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load_int(self, from: *const u8) -> [i32; 4] {
        // SAFETY: the caller's promise.
        unsafe { from.cast::<[i32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_int(self, to: *mut u8, x: [i32; 4]) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[i32; 4]>().write_unaligned(x) }
    }
    #[inline(always)]
    fn add_int(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn sub_int(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        from_fn(|i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn and(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        from_fn(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn or(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn xor(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        from_fn(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, x: [i32; 4]) -> [i32; 4] {
        x.map(|x| x << N)
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, x: [i32; 4]) -> [i32; 4] {
        x.map(|x| (x as u32 >> N) as i32)
    }
    #[inline(always)]
    fn to_float(self, x: [i32; 4]) -> [f32; 4] {
        x.map(|x| x as f32)
    }
    #[inline(always)]
    fn to_bits(self, x: [f32; 4]) -> [i32; 4] {
        x.map(|x| x.to_bits() as i32)
    }
    #[inline(always)]
    fn from_bits(self, x: [i32; 4]) -> [f32; 4] {
        x.map(|x| f32::from_bits(x as u32))
    }
    #[inline(always)]
    fn dot(self, sum: [i32; 4], weights: [i32; 4], codes: [i32; 4]) -> [i32; 4] {
        from_fn(|i| {
            let (w, c) = (weights[i].to_le_bytes(), codes[i].to_le_bytes());
            let product = |j: usize| i32::from(w[j] as i8) * i32::from(c[j] as i8);
            sum[i].wrapping_add((product(0) + product(1)) + (product(2) + product(3)))
        })
    }
    #[inline(always)]
    unsafe fn store_narrow(self, to: *mut u8, x: [[i32; 4]; 4]) {
        let bytes: [u8; 16] = from_fn(|i| x[i / 4][i % 4] as u8);
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[u8; 16]>().write_unaligned(bytes) }
    }
}
