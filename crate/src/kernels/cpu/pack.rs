//! The layout of quantised matrices on the CPU: panels of sixteen outputs.
//!
//! Within a panel the columns go in steps of four, and in a step the outputs: `[panel][step][16][4]`
//! bytes. Four bytes of a row of activations, repeated over a vector, then meet the weights of as
//! many outputs as the vector has lanes, whatever its width, and the sums need no adding across
//! lanes. Nibbles hold two steps in a byte, the earlier one low: `[panel][pair of steps][16][4]`.
//! Scales are f32: `[panel][group][16]`. Outputs are padded to whole panels with zeros.

use half::f16;

use crate::kernels::Format;

/// Outputs of a panel.
pub const PANEL: usize = 16;

/// A matrix in panels; both parts live in integer tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Codes, four bytes to a word.
    pub codes: Vec<u32>,
    /// The bits of f32 scales.
    pub scales: Vec<u32>,
}

/// Brings a row-major matrix into panels.
///
/// `codes` are `outputs` rows, padded to whole groups, of signed bytes ([`Format::Q8`]) or nibbles
/// holding value + 8, the first low ([`Format::Q4`]); `scales` are `outputs` rows, one for each group.
///
/// # Panics
/// If the lengths do not fit, the group is not a multiple of 32, or the format is a float one.
pub fn pack(
    format: Format,
    group: usize,
    outputs: usize,
    inputs: usize,
    codes: &[u8],
    scales: &[f16],
) -> Packed {
    let shape = Shape::new(format, group, outputs, inputs);
    let row_bytes = shape.padded() * shape.bits() / 8;
    let groups = shape.groups();
    assert_eq!(codes.len(), outputs * row_bytes, "codes of a {outputs}×{inputs} matrix in groups of {group}");
    assert_eq!(scales.len(), outputs * groups, "scales of a {outputs}×{inputs} matrix in groups of {group}");

    // What zero looks like.
    let filler = if shape.bits() == 4 { 0x8888_8888 } else { 0 };
    let mut packed =
        Packed { codes: vec![filler; shape.code_words()], scales: vec![0; shape.panels() * groups * PANEL] };
    for (output, row) in codes.chunks_exact(row_bytes).enumerate() {
        let (panel, lane) = (output / PANEL, output % PANEL);
        let words = packed.codes[panel * row_bytes / 4 * PANEL..][lane..].iter_mut().step_by(PANEL);
        for (to, from) in words.zip(row.as_chunks::<4>().0) {
            let word = u32::from_le_bytes(*from);
            *to = if shape.bits() == 4 { halves_from_pairs(word) } else { word };
        }
        for (group, scale) in scales[output * groups..][..groups].iter().enumerate() {
            packed.scales[(panel * groups + group) * PANEL + lane] = scale.to_f32().to_bits();
        }
    }
    packed
}

/// Eight nibbles in order become the first four in the low halves of the bytes, the others above.
fn halves_from_pairs(word: u32) -> u32 {
    let nibble = |i: u32| word >> (4 * i) & 15;
    (0..4).fold(0, |out, i| out | (nibble(i) | nibble(4 + i) << 4) << (8 * i))
}

/// The numbers of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    format: Format,
    /// Columns that share a scale.
    pub group: usize,
    /// Rows of the matrix.
    pub outputs: usize,
    /// Columns, before padding.
    pub inputs: usize,
}

impl Shape {
    /// # Panics
    /// If the group is not a multiple of 32 or the format a float one.
    pub fn new(format: Format, group: usize, outputs: usize, inputs: usize) -> Self {
        assert!(matches!(format, Format::Q8 | Format::Q4), "{format:?} is not packed on the CPU");
        assert!(group > 0 && group.is_multiple_of(32), "a group of {group} is no multiple of 32");
        Self { format, group, outputs, inputs }
    }

    /// Bits of a code.
    pub fn bits(&self) -> usize {
        if self.format == Format::Q4 { 4 } else { 8 }
    }

    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.inputs.div_ceil(self.group)
    }

    /// Columns with padding.
    pub fn padded(&self) -> usize {
        self.groups() * self.group
    }

    /// Panels.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// Bytes of codes of a panel.
    pub fn panel_bytes(&self) -> usize {
        self.padded() * self.bits() / 8 * PANEL
    }

    /// Words of codes.
    pub fn code_words(&self) -> usize {
        self.panels() * self.panel_bytes() / 4
    }
}

/// A borrowed matrix in panels.
#[derive(Clone, Copy, Debug)]
pub struct PackedMatrix<'a> {
    shape: Shape,
    codes: &'a [u8],
    scales: &'a [f32],
}

impl<'a> PackedMatrix<'a> {
    /// Borrows the parts that [`pack`] made.
    ///
    /// # Panics
    /// If they have other lengths than it makes.
    pub fn new(shape: Shape, codes: &'a [u32], scales: &'a [u32]) -> Self {
        assert_eq!(codes.len(), shape.code_words(), "words of codes of {shape:?}");
        assert_eq!(scales.len(), shape.panels() * shape.groups() * PANEL, "scales of {shape:?}");
        Self { shape, codes: bytemuck::cast_slice(codes), scales: bytemuck::cast_slice(scales) }
    }

    /// The sizes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The codes of a panel.
    pub fn panel(&self, panel: usize) -> &'a [u8] {
        let bytes = self.shape.panel_bytes();
        &self.codes[panel * bytes..][..bytes]
    }

    /// The scales of a panel: `[group][16]`.
    pub fn panel_scales(&self, panel: usize) -> &'a [f32] {
        let len = self.shape.groups() * PANEL;
        &self.scales[panel * len..][..len]
    }

    /// Writes the values of one row of the matrix, `inputs` of them.
    ///
    /// # Panics
    /// If there is no such row or `out` is not `inputs` long.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let shape = self.shape;
        assert!(row < shape.outputs, "row {row} of {}", shape.outputs);
        assert_eq!(out.len(), shape.inputs, "a value for every column");
        let (codes, scales) = (self.panel(row / PANEL), self.panel_scales(row / PANEL));
        let lane = row % PANEL;
        for (column, out) in out.iter_mut().enumerate() {
            let code = if shape.bits() == 4 {
                let byte = codes[(column / 8 * PANEL + lane) * 4 + column % 4];
                i32::from(byte >> (column % 8 / 4 * 4) & 15) - 8
            } else {
                i32::from(codes[(column / 4 * PANEL + lane) * 4 + column % 4].cast_signed())
            };
            *out = code as f32 * scales[column / shape.group * PANEL + lane];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_from_panels() {
        for (format, group, outputs, inputs) in [
            (Format::Q8, 64, 17, 100),
            (Format::Q8, 32, 16, 32),
            (Format::Q4, 32, 35, 70),
            (Format::Q4, 96, 1, 97),
        ] {
            let shape = Shape::new(format, group, outputs, inputs);
            let row_bytes = shape.padded() * shape.bits() / 8;
            let codes: Vec<u8> = (0..outputs * row_bytes).map(|i| (i * 37 % 251) as u8).collect();
            let scales: Vec<f16> =
                (0..outputs * shape.groups()).map(|i| f16::from_f32(0.01 * (1 + i % 7) as f32)).collect();
            let packed = pack(format, group, outputs, inputs, &codes, &scales);
            let matrix = PackedMatrix::new(shape, &packed.codes, &packed.scales);
            let mut row = vec![0.0; inputs];
            for r in 0..outputs {
                matrix.row(r, &mut row);
                for (c, value) in row.iter().enumerate() {
                    let code = match format {
                        Format::Q4 => i32::from(codes[r * row_bytes + c / 2] >> (c % 2 * 4) & 15) - 8,
                        _ => i32::from(codes[r * row_bytes + c].cast_signed()),
                    };
                    let scale = scales[r * shape.groups() + c / group].to_f32();
                    assert_eq!(*value, code as f32 * scale, "{format:?} {r} {c}");
                }
            }
        }
    }

    #[test]
    fn outputs_beyond_the_matrix_are_zero() {
        let packed = pack(Format::Q4, 32, 1, 32, &[0x9f; 16], &[f16::ONE]);
        assert!(packed.codes.chunks_exact(PANEL).all(|step| step[1..].iter().all(|w| *w == 0x8888_8888)));
        assert!(packed.scales[1..].iter().all(|scale| *scale == 0));
    }

    #[test]
    #[should_panic(expected = "words of codes")]
    fn parts_of_another_matrix_are_refused() {
        let packed = pack(Format::Q8, 32, 1, 32, &[1; 32], &[f16::ONE]);
        PackedMatrix::new(Shape::new(Format::Q8, 32, 17, 32), &packed.codes, &packed.scales);
    }
}
