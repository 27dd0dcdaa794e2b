//! Exponential, logarithm and power that give the same bits on every machine.
//!
//! The ones of `std` come from the platform, and the browser's differ from the native ones in the
//! last bit: enough to flip a near tie or a draw. These use only IEEE additions, multiplications
//! and divisions, in a fixed order; they are exact to about 1e-15 relative.

/// The upper bits of ln 2: a multiple of it by any exponent below 2048 is exact.
const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
/// What [`LN_2_HIGH`] lacks.
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// `e^x`; 0 below −700 and infinite above 700.
pub(super) fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    if x > 700.0 {
        return f64::INFINITY;
    }
    // x = k·ln 2 + r with |r| ≤ ln 2 / 2, then a Taylor series of r: the 14th term is below 1e-17.
    let k = (x * std::f64::consts::LOG2_E + 0.5).floor();
    let r = x - k * LN_2_HIGH - k * LN_2_LOW;
    let mut sum = 1.0;
    for n in (1..=13).rev() {
        sum = 1.0 + sum * r * RECIPROCAL[n];
    }
    // NaN arrives here with k = NaN, which casts to 0 and leaves the NaN in `sum`.
    sum * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

/// `1/n`, so that the series multiplies instead of divides.
const RECIPROCAL: [f64; 14] = {
    let mut table = [0.0; 14];
    let mut n = 1;
    while n < 14 {
        table[n] = 1.0 / n as f64;
        n += 1;
    }
    table
};

/// Natural logarithm of a positive, finite, normal number.
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2·artanh(s), s = (m − 1)/(m + 1), |s| < 0.172: the 12th term is below 1e-18.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for n in (0..=11).rev() {
        sum = sum * square + 1.0 / (2 * n + 1) as f64;
    }
    let exponent = exponent as f64;
    exponent * LN_2_HIGH + (2.0 * s * sum + exponent * LN_2_LOW)
}

/// `base^exponent` of a positive length.
pub(super) fn power(base: usize, exponent: f64) -> f64 {
    // The common exponents are exact, as they are in the references.
    if exponent == 1.0 {
        base as f64
    } else if exponent == 0.0 {
        1.0
    } else {
        exp(exponent * ln(base as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= 4e-15 * expected.abs().max(1e-300)
    }

    #[test]
    fn exp_and_ln_agree_with_the_platform_to_a_few_units_in_the_last_place() {
        for i in -60_000..=6_000 {
            let x = f64::from(i) * 0.010_037;
            assert!(close(exp(x), x.exp()), "exp({x}) = {}, expected {}", exp(x), x.exp());
            let y = x.exp();
            assert!((ln(y) - y.ln()).abs() <= 4e-16 * y.ln().abs().max(1.0), "ln({y}) = {}", ln(y));
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert!(exp(f64::NAN).is_nan());
    }

    #[test]
    fn powers_of_lengths_agree_with_the_platform() {
        for length in 1..=512_usize {
            for exponent in [-10.0, -1.0, 0.0, 0.6, 1.0, 2.0, 10.0] {
                let expected = (length as f64).powf(exponent);
                let found = power(length, exponent);
                assert!((found - expected).abs() <= 1e-13 * expected, "{length}^{exponent} = {found}");
            }
        }
    }

    #[test]
    fn known_bits_pin_the_result_on_every_machine() {
        let found = [exp(-0.3), exp(-17.25), ln(30524.0), ln(0.37), power(7, 0.6)].map(f64::to_bits);
        let expected = [
            0x3fe7_b4c8_69c3_7c05,
            0x3e61_4f49_dbc5_078c,
            0x4024_a70c_ab7c_5d81,
            0xbfef_d0ea_24bf_89b8,
            0x4009_b677_e285_eaf0,
        ];
        assert_eq!(found, expected);
    }
}
