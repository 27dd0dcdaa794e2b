//! AVX2 with and without the byte dot product, and AVX-512 with it.

use super::{Isa, Kernel, Level};
use core::arch::x86_64::*;

/// 256 bits and fused multiply-add.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

/// 256 bits, fused multiply-add and the byte dot product.
#[derive(Clone, Copy, Debug)]
pub struct AvxVnni(());

/// 512 bits with the byte dot product.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

/// Adds the levels that this machine runs, best last.
pub fn detect(levels: &mut Vec<Level>) {
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        return;
    }
    levels.push(Level::Avx2);
    if is_x86_feature_detected!("avxvnni") {
        levels.push(Level::AvxVnni);
    }
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        levels.push(Level::Avx512);
    }
}

/// Instantiates a kernel.
///
/// # Safety
/// The machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
pub unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// Instantiates a kernel.
///
/// # Safety
/// The machine has AVX2, FMA and AVX-VNNI.
#[target_feature(enable = "avx2,fma,avxvnni")]
#[inline(never)]
pub unsafe fn avx_vnni<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(AvxVnni(()))
}

/// Instantiates a kernel.
///
/// # Safety
/// The machine has AVX-512 F and VNNI.
#[target_feature(enable = "avx2,fma,avx512f,avx512vnni")]
#[inline(never)]
pub unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

/// A method that is one expression of intrinsics.
macro_rules! methods {
    ($($name:ident ( $($arg:ident : $kind:ty),* ) -> $out:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $kind),*) -> $out {
            // SAFETY: a value of this type exists only where the machine has the features.
            unsafe { $body }
        }
    )*};
}

/// A method whose pointer the caller answers for.
macro_rules! memory {
    ($($name:ident ( $($arg:ident : $kind:ty),* ) -> $out:ty = $body:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, $($arg: $kind),*) -> $out {
            // SAFETY: the caller's promise, and the machine has the features.
            unsafe { $body }
        }
    )*};
}

/// Both sets of 256 bits, which differ in `dot`.
macro_rules! lanes256 {
    ($isa:ident, $rows:literal, $dot:ident) => {
        impl Isa for $isa {
            type F = __m256;
            type I = __m256i;
            const LANES: usize = 8;
            const ROWS: usize = $rows;

            methods! {
                splat(x: f32) -> __m256 = _mm256_set1_ps(x);
                add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
                sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
                mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
                div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
                fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
                max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(b, a);
                min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(b, a);
                sqrt(x: __m256) -> __m256 = _mm256_sqrt_ps(x);
                pick_lt(a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 =
                    _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b));
                sum(x: __m256) -> f32 = {
                    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
                    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
                };
                greatest(x: __m256) -> f32 = {
                    let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
                    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
                };
                splat_int(x: i32) -> __m256i = _mm256_set1_epi32(x);
                add_int(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
                sub_int(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32(a, b);
                and(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
                or(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
                xor(a: __m256i, b: __m256i) -> __m256i = _mm256_xor_si256(a, b);
                to_float(x: __m256i) -> __m256 = _mm256_cvtepi32_ps(x);
                to_bits(x: __m256) -> __m256i = _mm256_castps_si256(x);
                from_bits(x: __m256i) -> __m256 = _mm256_castsi256_ps(x);
                dot(sum: __m256i, weights: __m256i, codes: __m256i) -> __m256i = $dot(sum, weights, codes);
            }
            memory! {
                load_at(from: *const f32) -> __m256 = _mm256_loadu_ps(from);
                store_at(to: *mut f32, x: __m256) -> () = _mm256_storeu_ps(to, x);
                load_int(from: *const u8) -> __m256i = _mm256_loadu_si256(from.cast());
                store_int(to: *mut u8, x: __m256i) -> () = _mm256_storeu_si256(to.cast(), x);
                store_narrow(to: *mut u8, x: [__m256i; 4]) -> () = {
                    // Packing works within halves of the register; the shuffle puts fours in order.
                    let bytes = _mm256_packus_epi16(_mm256_packs_epi32(x[0], x[1]), _mm256_packs_epi32(x[2], x[3]));
                    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                    _mm256_storeu_si256(to.cast(), _mm256_permutevar8x32_epi32(bytes, order));
                };
            }
            #[inline(always)]
            fn shift_left<const N: u32>(self, x: __m256i) -> __m256i {
                // SAFETY: a value of this type exists only where the machine has the features.
                unsafe { _mm256_sll_epi32(x, _mm_cvtsi32_si128(N as i32)) }
            }
            #[inline(always)]
            fn shift_right<const N: u32>(self, x: __m256i) -> __m256i {
                // SAFETY: a value of this type exists only where the machine has the features.
                unsafe { _mm256_srl_epi32(x, _mm_cvtsi32_si128(N as i32)) }
            }
        }
    };
}

/// Pairs in 16 bits, which codes of seven bits cannot overflow, then pairs of those in 32.
#[inline(always)]
unsafe fn dot_by_pairs(sum: __m256i, weights: __m256i, codes: __m256i) -> __m256i {
    // SAFETY: called by `Avx2` only.
    unsafe {
        let pairs = _mm256_maddubs_epi16(codes, weights);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// One instruction.
#[inline(always)]
unsafe fn dot_at_once(sum: __m256i, weights: __m256i, codes: __m256i) -> __m256i {
    // SAFETY: called by `AvxVnni` only.
    unsafe { _mm256_dpbusd_avx_epi32(sum, codes, weights) }
}

lanes256!(Avx2, 4, dot_by_pairs);
lanes256!(AvxVnni, 6, dot_at_once);

impl Isa for Avx512 {
    type F = __m512;
    type I = __m512i;
    const LANES: usize = 16;
    const ROWS: usize = 12;

    methods! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(b, a);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(b, a);
        sqrt(x: __m512) -> __m512 = _mm512_sqrt_ps(x);
        pick_lt(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 =
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x);
        sum(x: __m512) -> f32 = _mm512_reduce_add_ps(x);
        greatest(x: __m512) -> f32 = _mm512_reduce_max_ps(x);
        splat_int(x: i32) -> __m512i = _mm512_set1_epi32(x);
        add_int(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        sub_int(a: __m512i, b: __m512i) -> __m512i = _mm512_sub_epi32(a, b);
        and(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        or(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        xor(a: __m512i, b: __m512i) -> __m512i = _mm512_xor_si512(a, b);
        to_float(x: __m512i) -> __m512 = _mm512_cvtepi32_ps(x);
        to_bits(x: __m512) -> __m512i = _mm512_castps_si512(x);
        from_bits(x: __m512i) -> __m512 = _mm512_castsi512_ps(x);
        dot(sum: __m512i, weights: __m512i, codes: __m512i) -> __m512i =
            _mm512_dpbusd_epi32(sum, codes, weights);
    }
    memory! {
        load_at(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
        store_at(to: *mut f32, x: __m512) -> () = _mm512_storeu_ps(to, x);
        load_int(from: *const u8) -> __m512i = _mm512_loadu_si512(from.cast());
        store_int(to: *mut u8, x: __m512i) -> () = _mm512_storeu_si512(to.cast(), x);
        store_narrow(to: *mut u8, x: [__m512i; 4]) -> () = {
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(x[0]));
            _mm_storeu_si128(to.add(16).cast(), _mm512_cvtepi32_epi8(x[1]));
            _mm_storeu_si128(to.add(32).cast(), _mm512_cvtepi32_epi8(x[2]));
            _mm_storeu_si128(to.add(48).cast(), _mm512_cvtepi32_epi8(x[3]));
        };
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, x: __m512i) -> __m512i {
        // SAFETY: a value of this type exists only where the machine has the features.
        unsafe { _mm512_slli_epi32::<N>(x) }
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, x: __m512i) -> __m512i {
        // SAFETY: a value of this type exists only where the machine has the features.
        unsafe { _mm512_srli_epi32::<N>(x) }
    }
}
