//! What a sequence starts from: tokens' embeddings, or an image's patches with their class token.

use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{Buffer, Float, Shader, fill, holding, launch, output, words};
use crate::kernels::{EmbedSpec, Format, MatrixTensors, Place, state};

/// See [`Kernels::embed`](crate::kernels::Kernels::embed). The result has the type of `positions`.
pub(super) fn embed(
    ids: CubeTensor,
    table: MatrixTensors<CubeBackend>,
    positions: CubeTensor,
    spec: EmbedSpec,
) -> CubeTensor {
    let EmbedSpec { tokens, width, format, group, vocab, place } = spec;
    assert!(width.is_multiple_of(4), "rows are whole vectors of four");
    let stated = place == Place::State;
    let named = if stated { state::TOKENS + tokens } else { tokens };
    assert!(ids.meta.num_elements() >= named, "every token has an id");
    let (codes, scales) = match (table, format) {
        (MatrixTensors::Float(codes), Format::Float) => (codes, None),
        (MatrixTensors::Packed(codes, None), Format::F16) => (codes, None),
        (MatrixTensors::Packed(codes, Some(scales)), Format::Q8 | Format::Q4) => (codes, Some(scales)),
        (table, format) => panic!("a table in {format:?} is not stored as {table:?}"),
    };
    let padded = if group == 0 { width } else { width.next_multiple_of(group) };
    let code_words = match format {
        Format::Float => width,
        Format::F16 => width / 2,
        Format::Q8 => padded / 4,
        Format::Q4 => padded / 8,
    };
    assert_eq!(codes.meta.num_elements(), vocab * code_words, "the table is whole");
    let scale_words = scales.as_ref().map_or(0, |_| (padded / group).div_ceil(2));
    if let Some(scales) = &scales {
        assert_eq!(scales.meta.num_elements(), vocab * scale_words, "every group has a scale");
    }
    let longest = positions.meta.num_elements() / width;
    let (seq, past) = match place {
        Place::Sequence { seq, past } => (seq, past),
        Place::State => (1, 0),
    };

    let result = output(&positions, [tokens, width], positions.dtype);
    let table = match format {
        Format::Float => Table::Float(Float::of(&codes)),
        Format::F16 => Table::F16,
        Format::Q8 => Table::Q8,
        Format::Q4 => Table::Q4,
    };
    let shader = Embed { table, float: Float::of(&positions), state: stated };
    let mut buffers = vec![Buffer::Read(&ids), Buffer::Read(&codes)];
    buffers.extend(scales.as_ref().map(Buffer::Read));
    buffers.extend([Buffer::Read(&positions), Buffer::Write(&result)]);
    let parameters =
        words([tokens, width / 4, vocab, longest, seq, past, code_words, scale_words, group / 4]);
    let [vectors] = words([tokens * (width / 4)]);
    launch(shader, grid(vectors), &buffers, &parameters);
    result
}

/// See [`Kernels::assemble`](crate::kernels::Kernels::assemble).
pub(super) fn assemble(
    patches: CubeTensor,
    class: CubeTensor,
    positions: CubeTensor,
    batch: usize,
    width: usize,
) -> CubeTensor {
    assert!(width.is_multiple_of(4), "rows are whole vectors of four");
    let rows = positions.meta.num_elements() / width;
    assert_eq!(patches.meta.num_elements(), batch * (rows - 1) * width, "every place has a patch");
    assert_eq!(class.meta.num_elements(), width, "one class token");
    assert_eq!(class.dtype, positions.dtype, "class token and positions are stored alike");
    let result = output(&patches, [batch * rows, width], patches.dtype);
    let shader = Assemble { float: Float::of(&patches), constant: Float::of(&positions) };
    let [lanes, rows, vectors] = words([width / 4, rows, batch * rows * (width / 4)]);
    let buffers =
        [Buffer::Read(&patches), Buffer::Read(&class), Buffer::Read(&positions), Buffer::Write(&result)];
    launch(shader, grid(vectors), &buffers, &[lanes, rows, vectors]);
    result
}

const INVOCATIONS: u32 = 64;
/// Workgroups along x, below WebGPU's limit of 65535.
const ACROSS: u32 = 1 << 15;

/// Enough workgroups for an invocation a vector.
fn grid(vectors: u32) -> [u32; 3] {
    let groups = vectors.div_ceil(INVOCATIONS);
    [groups.min(ACROSS), groups.div_ceil(ACROSS), 1]
}

/// How the table is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Table {
    /// As activations may be.
    Float(Float),
    /// See [`Format::F16`].
    F16,
    /// See [`Format::Q8`].
    Q8,
    /// See [`Format::Q4`].
    Q4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Embed {
    pub table: Table,
    pub float: Float,
    /// Ids and position are the decoding state's.
    pub state: bool,
}

impl Shader for Embed {
    fn workgroup(&self) -> [u32; 3] {
        [INVOCATIONS, 1, 1]
    }

    fn source(&self) -> String {
        let stored = match self.table {
            Table::Float(float) => float,
            _ => Float::F32,
        };
        let enable = if stored == Float::F16 { stored.enable() } else { self.float.enable() };
        fill(
            include_str!("embed.wgsl"),
            &[
                ("enable", enable),
                ("float", self.float.wgsl()),
                ("table", stored.wgsl()),
                ("first", &state::TOKENS.to_string()),
                ("invocations", &INVOCATIONS.to_string()),
            ],
            &holding(&[
                ("packed", !matches!(self.table, Table::Float(_))),
                ("scaled", matches!(self.table, Table::Q8 | Table::Q4)),
                ("f16", self.table == Table::F16),
                ("q8", self.table == Table::Q8),
                ("q4", self.table == Table::Q4),
                ("state", self.state),
            ]),
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Assemble {
    pub float: Float,
    /// Of the class token and the positions.
    pub constant: Float,
}

impl Shader for Assemble {
    fn workgroup(&self) -> [u32; 3] {
        [INVOCATIONS, 1, 1]
    }

    fn source(&self) -> String {
        let half = self.float == Float::F16 || self.constant == Float::F16;
        fill(
            include_str!("assemble.wgsl"),
            &[
                ("enable", if half { Float::F16.enable() } else { "" }),
                ("float", self.float.wgsl()),
                ("constant", self.constant.wgsl()),
                ("invocations", &INVOCATIONS.to_string()),
            ],
            &[],
        )
    }
}

/// Shaders for [`sources`](super::sources).
#[cfg(not(target_family = "wasm"))]
pub(super) fn variants(float: Float) -> (Vec<Embed>, Assemble) {
    let tables = [Table::Float(float), Table::Float(Float::F32), Table::F16, Table::Q8, Table::Q4];
    let each = |table| [false, true].map(|state| Embed { table, float, state });
    (tables.into_iter().flat_map(each).collect(), Assemble { float, constant: Float::F32 })
}
