//! A matrix as a file holds it: on the host, before any device has seen it.

use half::f16;

use super::contract::Format;

/// Rows of a matrix in host memory. Rows are outputs, and the values of a row lie side by side.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// Plain numbers.
    Float {
        /// Row-major, `outputs·inputs` of them.
        values: Vec<f32>,
        /// `[outputs, inputs]`.
        shape: [usize; 2],
    },
    /// Codes and scales, as [`Format`] describes them.
    Quantised {
        /// [`Format::Q8`] or [`Format::Q4`].
        format: Format,
        /// Columns that share a scale.
        group: usize,
        /// Rows.
        outputs: usize,
        /// Columns before padding.
        inputs: usize,
        /// `outputs` rows of `padded` bytes (q8) or `padded / 2` bytes (q4); what stands in the
        /// padding means zero.
        codes: Vec<u8>,
        /// `outputs` rows of `padded / group` scales, finite and not negative.
        scales: Vec<f16>,
    },
}

impl Stored {
    /// `[outputs, inputs]`, without padding.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Float { shape, .. } => *shape,
            Self::Quantised { outputs, inputs, .. } => [*outputs, *inputs],
        }
    }

    /// How the elements are stored; [`Format::Float`] for plain numbers.
    pub fn format(&self) -> Format {
        match self {
            Self::Float { .. } => Format::Float,
            Self::Quantised { format, .. } => *format,
        }
    }

    /// Bytes of host memory that the numbers take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Float { values, .. } => size_of_val(values.as_slice()),
            Self::Quantised { codes, scales, .. } => codes.len() + size_of_val(scales.as_slice()),
        }
    }

    /// The rows of all parts under each other; `None` when the parts differ in width or format, or
    /// there are none. One part is returned as it is, without a copy.
    pub fn concatenate(parts: Vec<Self>) -> Option<Self> {
        let total: usize = parts.iter().map(|part| part.shape()[0]).sum();
        let mut parts = parts.into_iter();
        let mut whole = parts.next()?;
        for part in parts {
            match (&mut whole, part) {
                (Self::Float { values, shape }, Self::Float { values: more, shape: [rows, width] })
                    if shape[1] == width =>
                {
                    values.reserve_exact(total * width - values.len());
                    values.extend_from_slice(&more);
                    shape[0] += rows;
                }
                (
                    Self::Quantised { format, group, outputs, inputs, codes, scales },
                    Self::Quantised {
                        format: part_format,
                        group: part_group,
                        outputs: rows,
                        inputs: width,
                        codes: more_codes,
                        scales: more_scales,
                    },
                ) if (*format, *group, *inputs) == (part_format, part_group, width) => {
                    let grown = |len: usize| len / *outputs * total - len;
                    codes.reserve_exact(grown(codes.len()));
                    scales.reserve_exact(grown(scales.len()));
                    codes.extend_from_slice(&more_codes);
                    scales.extend_from_slice(&more_scales);
                    *outputs += rows;
                }
                _ => return None,
            }
        }
        Some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantised(outputs: usize, format: Format) -> Stored {
        let codes = vec![outputs as u8; outputs * 32];
        Stored::Quantised {
            format,
            group: 32,
            outputs,
            inputs: 30,
            codes,
            scales: vec![f16::from_f32(outputs as f32); outputs],
        }
    }

    #[test]
    fn rows_of_parts_stand_under_each_other() {
        let float = |rows: usize| Stored::Float { values: vec![rows as f32; rows * 3], shape: [rows, 3] };
        let whole = Stored::concatenate(vec![float(1), float(2)]).unwrap();
        assert_eq!(
            whole,
            Stored::Float { values: vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], shape: [3, 3] }
        );
        let whole = Stored::concatenate(vec![quantised(1, Format::Q8), quantised(2, Format::Q8)]).unwrap();
        assert_eq!((whole.shape(), whole.bytes()), ([3, 30], 3 * 32 + 3 * 2));
    }

    #[test]
    fn parts_that_differ_are_no_matrix() {
        let float = |width: usize| Stored::Float { values: vec![0.0; width], shape: [1, width] };
        assert_eq!(Stored::concatenate(vec![]), None);
        assert_eq!(Stored::concatenate(vec![float(2), float(3)]), None);
        assert_eq!(Stored::concatenate(vec![float(30), quantised(1, Format::Q8)]), None);
        assert_eq!(Stored::concatenate(vec![quantised(1, Format::Q4), quantised(1, Format::Q8)]), None);
    }
}
