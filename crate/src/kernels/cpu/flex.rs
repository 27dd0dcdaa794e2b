//! The kernels on burn's tensors.

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{Bytes, DType, Element, Shape};
use burn_flex::{FlexTensor, Layout};

use super::super::contract::{
    AdvanceSpec, AttentionSpec, EmbedSpec, Format, Kernels, LinearSpec, MatrixTensors, Normed, Place,
    StepAttentionSpec, state,
};
use super::epilogue::Epilogue;
use super::pack::{self, PackedMatrix};
use super::{attention, choose, float, gather, norm, quantised, step_attention};

impl Kernels for Flex {
    fn linear(
        x: FlexTensor,
        matrix: MatrixTensors<Self>,
        bias: Option<FlexTensor>,
        norm: Option<FlexTensor>,
        residual: Option<FlexTensor>,
        spec: LinearSpec,
    ) -> FlexTensor {
        let LinearSpec { rows, inputs, outputs, mut row_stride, .. } = spec;
        let normed = |x: &FlexTensor, stride: usize, width: usize, epsilon: f32| {
            let norm = floats(norm.as_ref().expect("a norm comes with its parameters"));
            assert_eq!(norm.len(), 2 * width, "a norm as wide as what it is for");
            norm::layer_norm(floats(x), stride, rows, norm, epsilon)
        };
        let (mut normed_x, mut normed_residual) = (None, None);
        match spec.normed {
            Normed::Neither => {}
            Normed::Input { epsilon } => {
                normed_x = Some(normed(&x, row_stride, inputs, epsilon));
                row_stride = inputs;
            }
            Normed::Residual { epsilon } => {
                let residual = residual.as_ref().expect("there is a residual to normalise");
                normed_residual = Some(normed(residual, outputs, outputs, epsilon));
            }
        }
        let x = normed_x.as_deref().unwrap_or_else(|| floats(&x));
        let epilogue = Epilogue {
            bias: bias.as_ref().map(floats),
            activation: spec.activation,
            residual: normed_residual.as_deref().or_else(|| residual.as_ref().map(floats)),
        };
        let mut out = vec![0.0; rows * outputs];
        match (&matrix, spec.format) {
            (MatrixTensors::Float(weights), Format::Float) => {
                float::linear_float(x, row_stride, rows, floats(weights), inputs, epilogue, &mut out);
            }
            (MatrixTensors::Packed(codes, Some(scales)), format) => {
                let matrix = packed(codes, scales, format, spec.group, outputs, inputs);
                quantised::linear_packed(x, row_stride, rows, matrix, epilogue, &mut out);
            }
            (_, format) => panic!("{format:?} is stored otherwise on the CPU"),
        }
        tensor(out, [rows, outputs])
    }

    fn layer_norm(x: FlexTensor, norm: FlexTensor, rows: usize, width: usize, epsilon: f32) -> FlexTensor {
        let norm = floats(&norm);
        assert_eq!(norm.len(), 2 * width, "scale and shift");
        tensor(norm::layer_norm(floats(&x), width, rows, norm, epsilon), [rows, width])
    }

    fn normalise(x: FlexTensor, rows: usize, width: usize) -> FlexTensor {
        tensor(norm::normalise(floats(&x), width), [rows, width])
    }

    fn attention(q: FlexTensor, kv: FlexTensor, pads: Option<FlexTensor>, spec: AttentionSpec) -> FlexTensor {
        let out = attention::attention(floats(&q), floats(&kv), pads.as_ref().map(ints), &spec);
        tensor(out, [spec.batch * spec.queries, spec.heads * spec.head_dim])
    }

    fn step_attention(
        qkv: FlexTensor,
        mut cache: FlexTensor,
        state: FlexTensor,
        lineage: Option<FlexTensor>,
        spec: StepAttentionSpec,
    ) -> (FlexTensor, FlexTensor) {
        let position = position(ints(&state));
        let lineage = lineage.as_ref().map(ints);
        let out =
            step_attention::step_attention(floats(&qkv), floats_mut(&mut cache), position, lineage, &spec);
        (tensor(out, [spec.rows, spec.heads * spec.head_dim]), cache)
    }

    fn embed(
        ids: FlexTensor,
        table: MatrixTensors<Self>,
        positions: FlexTensor,
        spec: EmbedSpec,
    ) -> FlexTensor {
        let EmbedSpec { tokens, width, vocab, .. } = spec;
        let ids = ints(&ids);
        let (ids, first, seq) = match spec.place {
            Place::Sequence { seq, past } => (ids, past, seq),
            Place::State => (&ids[state::TOKENS..], position(ids), 1),
        };
        assert!(ids.len() >= tokens, "an id for each of {tokens} tokens");
        let pairs = (0..tokens).map(|token| (ids[token], first + token % seq));
        let positions = floats(&positions);
        let out = match (&table, spec.format) {
            (MatrixTensors::Float(table), Format::Float) => {
                let table = floats(table);
                let row = |id: usize, to: &mut [f32]| to.copy_from_slice(&table[id * width..][..width]);
                gather::embed(pairs, vocab, row, positions, width)
            }
            (MatrixTensors::Packed(codes, Some(scales)), format) => {
                let table = packed(codes, scales, format, spec.group, vocab, width);
                gather::embed(pairs, vocab, |id, to| table.row(id, to), positions, width)
            }
            (_, format) => panic!("{format:?} is stored otherwise on the CPU"),
        };
        tensor(out, [tokens, width])
    }

    fn assemble(
        patches: FlexTensor,
        class: FlexTensor,
        positions: FlexTensor,
        batch: usize,
        width: usize,
    ) -> FlexTensor {
        let out = gather::assemble(floats(&patches), floats(&class), floats(&positions), batch);
        let rows = out.len() / width;
        tensor(out, [rows, width])
    }

    fn join(a: FlexTensor, b: FlexTensor, rows: usize, widths: [usize; 2]) -> FlexTensor {
        tensor(gather::join(floats(&a), floats(&b), widths), [rows, widths[0] + widths[1]])
    }

    fn rows(x: FlexTensor, first: usize, count: usize, width: usize) -> FlexTensor {
        tensor(floats(&x)[first * width..][..count * width].to_vec(), [count, width])
    }

    fn top_k(logits: FlexTensor, rows: usize, vocab: usize, k: usize) -> FlexTensor {
        let logits = floats(&logits);
        assert_eq!(logits.len(), rows * vocab, "a logit for every token of every row");
        tensor(choose::top_k(logits, vocab, k), [rows, 2 * k + 1])
    }

    fn advance(
        logits: FlexTensor,
        mut state: FlexTensor,
        mut history: FlexTensor,
        spec: AdvanceSpec,
    ) -> (FlexTensor, FlexTensor) {
        let logits = floats(&logits);
        assert_eq!(logits.len(), spec.rows * spec.vocab, "a logit for every token of every row");
        let position = position(ints(&state));
        assert!(position < spec.capacity, "position {position} of a history of {}", spec.capacity);
        let entry = &mut ints_mut(&mut history)[position * 2 * spec.rows..][..2 * spec.rows];
        choose::advance(logits, ints_mut(&mut state), entry, &spec);
        (state, history)
    }
}

/// The same elements under another shape.
///
/// # Panics
/// When the number of elements differs.
pub fn view(x: FloatTensor<Flex>, shape: &[usize]) -> FloatTensor<Flex> {
    let layout = Layout::contiguous(Shape::from(shape.to_vec()));
    // Not `reshape`, which brings code along that rearranges elements of every type.
    assert_eq!(x.layout().contiguous_offsets(), Some((0, layout.num_elements())), "{CONTIGUOUS}");
    x.with_layout(layout)
}

/// The elements, row-major.
///
/// # Errors
/// In the browser, for a tensor that is not contiguous; no kernel makes one.
pub fn read<E: Element + bytemuck::Pod>(x: FloatTensor<Flex>) -> Result<Vec<E>, String> {
    match x.as_slice::<E>() {
        Some(elements) => Ok(elements.to_vec()),
        // Tensors of burn's own operations are read as well.
        #[cfg(not(target_family = "wasm"))]
        None => Ok(x.into_data().iter::<E>().collect()),
        #[cfg(target_family = "wasm")]
        None => Err(CONTIGUOUS.to_owned()),
    }
}

const CONTIGUOUS: &str = "tensors between kernels are contiguous and of the device's own element type";

/// The elements of a float tensor.
fn floats(x: &FloatTensor<Flex>) -> &[f32] {
    x.as_slice().expect(CONTIGUOUS)
}

/// The elements of a tensor of 32-bit integers, with or without a sign.
fn ints(x: &IntTensor<Flex>) -> &[i32] {
    match x.dtype() {
        DType::U32 => bytemuck::cast_slice(words(x)),
        _ => x.as_slice().expect(CONTIGUOUS),
    }
}

/// The same, as bits.
fn words(x: &IntTensor<Flex>) -> &[u32] {
    match x.dtype() {
        DType::I32 => bytemuck::cast_slice(x.as_slice::<i32>().expect(CONTIGUOUS)),
        _ => x.as_slice().expect(CONTIGUOUS),
    }
}

/// The elements for writing: in place when nobody else holds the tensor, else in a copy.
fn floats_mut(x: &mut FloatTensor<Flex>) -> &mut [f32] {
    let (start, end) = x.layout().contiguous_offsets().expect(CONTIGUOUS);
    &mut x.storage_mut()[start..end]
}

/// The same for 32-bit integers.
fn ints_mut(x: &mut IntTensor<Flex>) -> &mut [i32] {
    let (start, end) = x.layout().contiguous_offsets().expect(CONTIGUOUS);
    match x.dtype() {
        DType::U32 => bytemuck::cast_slice_mut(&mut x.storage_mut::<u32>()[start..end]),
        _ => &mut x.storage_mut()[start..end],
    }
}

fn tensor(values: Vec<f32>, shape: [usize; 2]) -> FloatTensor<Flex> {
    debug_assert_eq!(values.len(), shape[0] * shape[1]);
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(shape)), DType::F32)
}

/// The position of a decoding state.
fn position(now: &[i32]) -> usize {
    usize::try_from(now[state::POSITION]).expect("a position is never negative")
}

fn packed<'a>(
    codes: &'a IntTensor<Flex>,
    scales: &'a IntTensor<Flex>,
    format: Format,
    group: usize,
    outputs: usize,
    inputs: usize,
) -> PackedMatrix<'a> {
    PackedMatrix::new(pack::Shape::new(format, group, outputs, inputs), words(codes), words(scales))
}
