//! Every instruction set of this machine against the portable one.

use super::*;

/// Everything on a few vectors, as numbers.
struct Everything<'a> {
    a: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
    bytes: &'a [u8],
    codes: &'a [u8],
}

/// Exact results and rounded ones.
#[derive(Debug, Default, PartialEq)]
struct Results {
    exact: Vec<u32>,
    rounded: Vec<f32>,
}

impl Kernel for Everything<'_> {
    type Output = Results;
    #[inline(always)]
    fn run<S: Isa>(self, s: S) -> Results {
        let mut out = Results::default();
        let mut exact = [const { Vec::new() }; 16];
        for i in (0..self.a.len()).step_by(S::LANES) {
            let [a, b, c] = [self.a, self.b, self.c].map(|x| s.load(&x[i..]));
            // SAFETY: four bytes for each float.
            let (w, k) = unsafe {
                (s.load_int(self.bytes[4 * i..].as_ptr()), s.load_int(self.codes[4 * i..].as_ptr()))
            };
            let floats = [s.add(a, b), s.sub(a, b), s.mul(a, b), s.div(a, b), s.max(a, b), s.min(a, b)];
            let more = [s.abs(a), s.sqrt(s.abs(a)), s.pick_lt(a, b, b, c), s.to_float(w)];
            let ints = [
                s.dot(s.splat_int(-5), w, k),
                s.round(a),
                s.add_int(w, k),
                s.sub_int(s.and(w, k), s.or(w, k)),
                s.xor(s.shift_left::<3>(w), s.shift_right::<5>(w)),
            ];
            let ints = floats.into_iter().chain(more).map(|x| s.to_bits(x)).chain(ints);
            for (to, x) in exact.iter_mut().zip(ints) {
                let mut lanes = [0u32; MAX_LANES];
                // SAFETY: the widest vector fits.
                unsafe { s.store_int(lanes.as_mut_ptr().cast(), x) };
                to.extend_from_slice(&lanes[..S::LANES]);
            }
            let mut lanes = [0.0; MAX_LANES];
            s.store(&mut lanes, s.fma(a, b, c));
            out.rounded.extend_from_slice(&lanes[..S::LANES]);
        }
        out.exact = exact.concat();
        for i in (0..self.codes.len()).step_by(4 * S::LANES) {
            let lanes: [[i32; MAX_LANES]; 4] = std::array::from_fn(|v| {
                std::array::from_fn(|j| i32::from(self.codes[(i + v * S::LANES + j) % self.codes.len()]))
            });
            let mut bytes = [0u8; 4 * MAX_LANES];
            // SAFETY: the widest vector fits.
            unsafe { s.store_narrow(bytes.as_mut_ptr(), lanes.map(|l| s.load_int(l.as_ptr().cast()))) };
            assert_eq!(&bytes[..4 * S::LANES], &self.codes[i..i + 4 * S::LANES]);
        }
        let part = s.load_part(&self.a[..3], -1.0);
        let mut three = [0.0; 3];
        s.store_part(&mut three, part);
        assert_eq!(three, self.a[..3]);
        assert_eq!(s.greatest(s.load_part(&[-7.0, -2.0, -3.0], -4.0)), -2.0);
        assert_eq!(s.sum(s.load_part(&[1.0, 2.0, 4.0], 0.0)), 7.0);
        let (one, none) = (s.splat(1.0), s.splat(f32::NAN));
        for (first, second) in [(one, none), (none, one)] {
            for x in [s.max(first, second), s.min(first, second)] {
                assert_eq!(s.sum(x).is_nan(), s.sum(first).is_nan(), "the first of a pair that has no order");
            }
        }
        let all: Vec<f32> = (0..S::LANES).map(|i| i as f32).collect();
        assert_eq!(s.sum(s.load(&all)) as usize, S::LANES * (S::LANES - 1) / 2);
        assert_eq!(s.greatest(s.load(&all)) as usize, S::LANES - 1);
        out
    }
}

#[test]
fn every_level_computes_what_the_portable_one_does() {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let mut floats = || (0..64).map(|_| next() as f32 / 65536.0 - 128.0).collect::<Vec<_>>();
    let (mut a, b, c) = (floats(), floats(), floats());
    a[..4].copy_from_slice(&[0.5, 1.5, -2.5, 0.0]);
    let mut bytes: Vec<u8> = (0..256).map(|_| next() as u8).collect();
    let mut codes: Vec<u8> = (0..256).map(|_| next() as u8 & 127).collect();
    // The largest sums that the narrow intermediate results have to hold.
    bytes[..8].copy_from_slice(&[128, 128, 128, 128, 127, 127, 127, 127]);
    codes[..8].fill(127);
    let kernel = || Everything { a: &a, b: &b, c: &c, bytes: &bytes, codes: &codes };
    let expected = dispatch_at(Level::Portable, kernel());
    for level in Level::available() {
        let found = dispatch_at(level, kernel());
        // The exact results come operation by operation whatever the width.
        assert_eq!(found.exact, expected.exact, "{level:?}");
        for (i, (x, y)) in found.rounded.iter().zip(&expected.rounded).enumerate() {
            // Two roundings of a product, of which the first may be of a larger number than the sum.
            let size = (a[i] * b[i]).abs() + c[i].abs();
            assert!((x - y).abs() <= size * 1.2e-7, "{level:?} {i}: {x} for {y}");
        }
    }
}
