//! The numbers of quantised matrices.
//!
//! A row is cut into groups of columns; the elements of a group are small integers times one scale:
//!
//! - **q8**: -127..=127, the scale is the largest magnitude divided by 127. Groups of 64, or of 32
//!   where the row is not a multiple of 64 long.
//! - **q4**: -8..=7, the scale is the one that loses least (sum of squares), in groups of 32.
//!
//! Rows are padded with zeros to whole groups. Scales are rounded to f16 *before* the integers are
//! chosen, so that what is stored is the best for the scale that is stored. They are never subnormal:
//! a GPU may read a subnormal as zero, and a step of 2⁻¹⁴ is finer than any other of the matrix.
//!
//! Quantising what was dequantised gives the same codes and scales again.

use half::f16;

use crate::kernels::{Format, Stored};
use crate::{Error, ErrorKind, Result};

/// The largest code of q8; -128 is reserved.
const Q8_MAX: f32 = 127.0;
const Q4_GROUP: usize = 32;
/// The smallest scale that every device reads as it is: the least normal f16, 2⁻¹⁴.
const LEAST_SCALE: f16 = f16::MIN_POSITIVE;

/// Columns that share a scale in a matrix of `inputs` columns; 0 for formats without scales.
pub fn group_of(format: Format, inputs: usize) -> usize {
    match format {
        Format::Float | Format::F16 => 0,
        Format::Q8 if inputs.is_multiple_of(64) => 64,
        Format::Q8 => 32,
        Format::Q4 => Q4_GROUP,
    }
}

/// Bytes of codes and number of scales of one row of `inputs` columns.
///
/// # Panics
/// For formats without codes.
pub fn row_sizes(format: Format, inputs: usize) -> (usize, usize) {
    let group = group_of(format, inputs);
    assert!(group > 0, "{format:?} has no codes");
    let groups = inputs.div_ceil(group);
    let bytes = if format == Format::Q4 { groups * group / 2 } else { groups * group };
    (bytes, groups)
}

/// Quantises a row-major matrix of `inputs` columns as q8 or q4; `name` is for the error.
///
/// # Errors
/// [`ErrorKind::WeightsNotFinite`] for NaN, infinities, and magnitudes whose scale f16 cannot hold.
///
/// # Panics
/// When `values` is no whole number of rows, or the format is not a quantised one.
pub fn quantise(name: &str, values: &[f32], inputs: usize, format: Format) -> Result<Stored> {
    let (row_bytes, row_scales) = row_sizes(format, inputs);
    let outputs = values.len() / inputs.max(1);
    assert_eq!(outputs * inputs, values.len(), "whole rows");
    let group = group_of(format, inputs);
    let mut codes = vec![0; outputs * row_bytes];
    let mut scales = vec![f16::ZERO; outputs * row_scales];
    let quantise_rows = |values: &[f32], codes: &mut [u8], scales: &mut [f16]| {
        let rows = values.chunks_exact(inputs).zip(codes.chunks_exact_mut(row_bytes));
        let mut scales = scales.iter_mut();
        for (row, codes) in rows {
            let groups = row.chunks(group).zip(codes.chunks_exact_mut(row_bytes / row_scales));
            for ((values, codes), scale) in groups.zip(&mut scales) {
                let made = if format == Format::Q4 { q4(values, codes) } else { q8(values, codes) };
                *scale = made?;
            }
        }
        Some(())
    };
    let band = outputs.div_ceil(threads()).max(1);
    let bands = values
        .chunks(band * inputs)
        .zip(codes.chunks_mut(band * row_bytes))
        .zip(scales.chunks_mut(band * row_scales));
    let done =
        in_parallel(bands.map(|((values, codes), scales)| move || quantise_rows(values, codes, scales)));
    if !done {
        return Err(unfit(name, values));
    }
    Ok(Stored::Quantised { format, group, outputs, inputs, codes, scales })
}

/// The numbers that a stored matrix stands for, row-major and without padding.
pub fn dequantise(stored: &Stored) -> Vec<f32> {
    let (format, group, inputs, codes, scales) = match stored {
        Stored::Float { values, .. } => return values.clone(),
        Stored::Quantised { format, group, inputs, codes, scales, .. } => {
            (*format, *group, *inputs, codes, scales)
        }
    };
    let (row_bytes, row_scales) = row_sizes(format, inputs);
    let mut values = Vec::with_capacity(stored.shape()[0] * inputs);
    for (codes, scales) in codes.chunks_exact(row_bytes).zip(scales.chunks_exact(row_scales)) {
        values.extend((0..inputs).map(|column| {
            let code = match format {
                Format::Q4 => i32::from(codes[column / 2] >> (column % 2 * 4) & 15) - 8,
                _ => i32::from(codes[column] as i8),
            };
            code as f32 * scales[column / group].to_f32()
        }));
    }
    values
}

/// What in `values` cannot be quantised.
fn unfit(name: &str, values: &[f32]) -> Error {
    let largest = || values.iter().map(|value| value.abs()).fold(0.0, f32::max);
    let message = match values.iter().position(|value| !value.is_finite()) {
        Some(index) => {
            format!("weights: `{name}` holds {} at element {index}, expected finite numbers", values[index])
        }
        None => format!(
            "weights: `{name}` holds numbers of magnitude {:e}, whose scale f16 cannot hold: convert to f32",
            largest()
        ),
    };
    Error::new(ErrorKind::WeightsNotFinite, message)
}

#[cfg(not(target_family = "wasm"))]
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(target_family = "wasm")]
fn threads() -> usize {
    1
}

/// Runs every piece of work, each on a thread of its own where there are threads; whether all were done.
fn in_parallel(work: impl Iterator<Item = impl FnOnce() -> Option<()> + Send>) -> bool {
    if cfg!(target_family = "wasm") {
        return work.map(|piece| piece()).fold(true, |all, done| all & done.is_some());
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = work.map(|piece| scope.spawn(piece)).collect();
        running.into_iter().fold(true, |all, thread| all & matches!(thread.join(), Ok(Some(()))))
    })
}

/// The nearest f16, at least [`LEAST_SCALE`]; `None` beyond f16's range.
fn scale_near(scale: f32) -> Option<f16> {
    let rounded = f16::from_f32(scale);
    rounded.is_finite().then(|| rounded.max(LEAST_SCALE))
}

/// The nearest integer; exact for magnitudes below 2²², and without a call in the inner loop.
fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2²³: beyond it, f32 holds integers only
    (x + SHIFT) - SHIFT
}

/// The largest magnitude; `None` when a value is not finite.
fn magnitude(values: &[f32]) -> Option<f32> {
    let (mut largest, mut sum) = (0.0f32, 0.0f32);
    for value in values {
        largest = largest.max(value.abs());
        // Stays zero unless a value is not finite.
        sum += value * 0.0;
    }
    (sum == 0.0).then_some(largest)
}

fn q8(values: &[f32], codes: &mut [u8]) -> Option<f16> {
    let largest = magnitude(values)?;
    if largest == 0.0 {
        codes.fill(0);
        return Some(f16::ZERO);
    }
    let scale = scale_near(largest / Q8_MAX)?;
    let inverse = scale.to_f32().recip();
    let (coded, padding) = codes.split_at_mut(values.len());
    let mut used = 0;
    for (code, value) in coded.iter_mut().zip(values) {
        *code = round(value * inverse).clamp(-Q8_MAX, Q8_MAX) as i8 as u8;
        used |= *code;
    }
    padding.fill(0);
    Some(if used == 0 { f16::ZERO } else { scale })
}

/// By what the largest magnitude is divided to get the scales that are tried: from one that lets every
/// value in to some that cut the largest off, which spares the many small ones.
const Q4_DIVISORS: [f32; 9] = [6.5, 7.0, 7.35, 7.7, 8.0, 8.35, 8.7, 9.2, 9.8];

fn q4(values: &[f32], codes: &mut [u8]) -> Option<f16> {
    let largest = magnitude(values)?;
    let mut x = [0.0f32; Q4_GROUP];
    x[..values.len()].copy_from_slice(values);
    let mut q = [0.0f32; Q4_GROUP];
    let mut scale = f16::ZERO;
    if largest > 0.0 {
        scale = match exact_scale(&x, largest, &mut q) {
            Some(scale) => scale,
            None => best_scale(&x, largest, &mut q)?,
        };
        scale = canonical(scale, &mut q);
    }
    for (code, pair) in codes.iter_mut().zip(q.as_chunks::<2>().0) {
        *code = (pair[0] as i32 + 8) as u8 | ((pair[1] as i32 + 8) as u8) << 4;
    }
    Some(scale)
}

/// The nearest codes for a scale.
fn q4_codes(x: &[f32; Q4_GROUP], scale: f32, q: &mut [f32; Q4_GROUP]) {
    let inverse = scale.recip();
    for (q, x) in q.iter_mut().zip(x) {
        *q = round(x * inverse).clamp(-8.0, 7.0);
    }
}

/// A scale whose codes say exactly `x`, if there is one: then nothing has to be searched, and what was
/// quantised before stays what it is.
fn exact_scale(x: &[f32; Q4_GROUP], largest: f32, q: &mut [f32; Q4_GROUP]) -> Option<f16> {
    for divisor in (1..=8).rev() {
        let Some(scale) = scale_near(largest / divisor as f32) else { continue };
        let (step, inverse) = (scale.to_f32(), scale.to_f32().recip());
        let exact = |x: &f32| {
            let code = round(x * inverse);
            code * step == *x && (-8.0..=7.0).contains(&code)
        };
        if x.iter().all(exact) {
            q4_codes(x, step, q);
            return Some(scale);
        }
    }
    None
}

/// The scale that loses least, of those tried and of the least-squares fits to their codes.
fn best_scale(x: &[f32; Q4_GROUP], largest: f32, q: &mut [f32; Q4_GROUP]) -> Option<f16> {
    // With codes q, the scale x·q / q·q loses x·x - (x·q)² / q·q: the more is subtracted, the better.
    let fit = |scale: f16, q: &mut [f32; Q4_GROUP]| {
        q4_codes(x, scale.to_f32(), q);
        let (mut xq, mut qq) = (0.0f32, 0.0f32);
        for (x, q) in x.iter().zip(q) {
            xq += x * *q;
            qq += *q * *q;
        }
        (xq, qq)
    };
    let mut best: Option<(f32, f16)> = None;
    for divisor in Q4_DIVISORS {
        let scale = scale_near(largest / divisor)?;
        let (xq, qq) = fit(scale, q);
        let gain = xq * (xq / qq.max(1.0));
        if best.is_none_or(|(most, _)| gain > most) {
            best = Some((gain, scale_near(xq / qq.max(1.0))?));
        }
    }
    let (_, mut scale) = best?;
    let (xq, qq) = fit(scale, q);
    if qq > 0.0 {
        scale = scale_near(xq / qq)?;
        q4_codes(x, scale.to_f32(), q);
    }
    Some(scale)
}

/// One of the equal ways to say the same numbers: the largest codes whose scale f16 holds exactly.
fn canonical(scale: f16, q: &mut [f32; Q4_GROUP]) -> f16 {
    let common = q.iter().fold(0, |common, q| gcd(common, q.abs() as u32));
    if common == 0 {
        return f16::ZERO;
    }
    let unit = scale.to_f32() * common as f32;
    let (low, high) = q.iter().fold((0.0f32, 0.0f32), |(low, high), q| (low.min(*q), high.max(*q)));
    let (low, high) = (low / common as f32, high / common as f32);
    for factor in (1..=8).rev() {
        let factor = factor as f32;
        let finer = f16::from_f32(unit / factor);
        let fits = low * factor >= -8.0 && high * factor <= 7.0;
        if fits && finer >= LEAST_SCALE && finer.to_f32() * factor == unit {
            for q in q.iter_mut() {
                *q = *q / common as f32 * factor;
            }
            return finer;
        }
    }
    scale
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
