//! What every backend's kernels do: the operations the model is made of, and their parameters.
//!
//! Each operation exists three times with one meaning: as WGSL on WebGPU (`gpu`), as SIMD code on
//! the CPU (`cpu`), and as a composition of differentiable tensor operations (`composed`), which is
//! the oracle in tests, the path of training, and that of any other device.
//!
//! Tensors are contiguous and row-major. Rows of every matrix are outputs, so that the values which
//! one output needs lie side by side: `W: [outputs, inputs]`, as in PyTorch.

use burn::backend::Backend;
use burn::backend::tensor::{FloatTensor, IntTensor};

/// How the elements of a matrix are stored; see `weights::quantise` for the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Plain f32 (or, with f16 activations, f16): trainable, not packed.
    Float,
    /// Pairs of IEEE halves in a u32, the first in the low bits; GPU only, the CPU widens at load.
    F16,
    /// Signed bytes -127..=127, four to a u32, the first in the lowest byte; one f16 scale a group.
    Q8,
    /// Nibbles holding value + 8 (0..=15, value -8..=7), eight to a u32, the first in the lowest
    /// nibble; one f16 scale a group.
    Q4,
}

/// What happens to `x·Wᵀ + b` before the residual is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `x·Φ(x)` with the exact error function, as the reference.
    Gelu,
    /// Nothing below zero, as in the NLVR2 head.
    Relu,
    /// Half of it: the mean of two products is one onto the other.
    Half,
}

/// Which input is normalised on the way in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Normed {
    /// None.
    Neither,
    /// Each row of `x` (`inputs` wide) passes a LayerNorm first.
    Input {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Each row of the residual (`outputs` wide) passes a LayerNorm first.
    Residual {
        /// Added to the variance.
        epsilon: f32,
    },
}

/// Parameters of a matrix product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearSpec {
    /// Rows of `x` and of the result.
    pub rows: usize,
    /// Width of `x`: columns of the matrix, before padding.
    pub inputs: usize,
    /// Rows of the matrix.
    pub outputs: usize,
    /// Elements from one row of `x` to the next; `inputs` unless only some rows are wanted.
    pub row_stride: usize,
    /// How the matrix is stored.
    pub format: Format,
    /// Columns that share a scale (a multiple of 32); 0 for float formats. Quantised rows are padded
    /// with zeros to a multiple of it.
    pub group: usize,
    /// The non-linearity.
    pub activation: Activation,
    /// Which input is normalised.
    pub normed: Normed,
}

/// A matrix on a device. On the CPU the layout of `packed` is that of `kernels::cpu::pack`.
#[derive(Clone, Debug)]
pub enum MatrixTensors<B: Backend> {
    /// `[outputs, inputs]`.
    Float(FloatTensor<B>),
    /// Codes `[outputs, padded·bits/32]` and scales (pairs of f16 in a u32)
    /// `[outputs, ceil(groups/2)]`; no scales for [`Format::F16`].
    Packed(IntTensor<B>, Option<IntTensor<B>>),
}

/// Attention of many queries over keys and values that lie side by side in one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttentionSpec {
    /// Sequences of queries.
    pub batch: usize,
    /// Sequences of keys: `batch`, or 1 when all share one.
    pub kv_batch: usize,
    /// Queries of a sequence.
    pub queries: usize,
    /// Keys of a sequence.
    pub keys: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head, at most 128 and a multiple of 4.
    pub head_dim: usize,
    /// Elements from one query's row to the next, and the offset of the queries in a row.
    pub q_stride: usize,
    /// Offset of the queries in a row.
    pub q_offset: usize,
    /// Elements from one key's row to the next.
    pub kv_stride: usize,
    /// Elements from one sequence of keys to the next.
    pub kv_batch_stride: usize,
    /// Offset of the keys in a row.
    pub k_offset: usize,
    /// Offset of the values in a row.
    pub v_offset: usize,
    /// `Some(past)`: query `i` sees keys `0..=past + i` only.
    pub causal: Option<usize>,
}

/// One decoding step's self-attention: writes the new keys and values, then attends to all.
///
/// The cache is `[rows, capacity, 2·heads·head_dim]`, keys then values; the position is read from
/// the decoding state, never from here, so that every step of a caption is the same launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepAttentionSpec {
    /// Sequences decoded side by side.
    pub rows: usize,
    /// Tokens a row of the cache has room for.
    pub capacity: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Where an embedding's positions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Ids are `[rows, seq]`; token `j` of each row stands at position `past + j`.
    Sequence {
        /// Tokens of a row.
        seq: usize,
        /// Tokens before the first.
        past: usize,
    },
    /// Ids and the position are those of the decoding state.
    State,
}

/// Parameters of an embedding lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EmbedSpec {
    /// Tokens in all.
    pub tokens: usize,
    /// Width.
    pub width: usize,
    /// How the table is stored.
    pub format: Format,
    /// As in [`LinearSpec::group`].
    pub group: usize,
    /// Rows of the table: an id outside it is read as 0 (it cannot happen; memory stays safe).
    pub vocab: usize,
    /// Where tokens stand.
    pub place: Place,
}

/// Greedy choice of the next token of every row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdvanceSpec {
    /// Rows of the logits.
    pub rows: usize,
    /// Width of the logits.
    pub vocab: usize,
    /// The token that ends a sequence.
    pub eos: u32,
    /// While fewer tokens stand in the sequence (prompt included), the end token is not chosen.
    pub min_length: usize,
    /// Positions that the history has room for.
    pub capacity: usize,
}

/// The decoding state is an integer tensor: `[position, 0, 0, 0, token of row 0, …, finished of row 0, …]`.
///
/// `position` is the number of tokens in the caches: where the state's tokens are about to stand.
pub mod state {
    /// Index of the position.
    pub const POSITION: usize = 0;
    /// Index of row 0's token; the flags follow the tokens.
    pub const TOKENS: usize = 4;

    /// Elements of the state of `rows` rows.
    pub const fn len(rows: usize) -> usize {
        TOKENS + 2 * rows
    }
}

/// The operations.
pub trait Kernels: Backend {
    /// `activation(norm(x)·Wᵀ + bias) + norm(residual)`: `[rows, outputs]`.
    ///
    /// `norm` is `[2, width]`, scale then shift, of whichever input `spec.normed` names.
    fn linear(
        x: FloatTensor<Self>,
        matrix: MatrixTensors<Self>,
        bias: Option<FloatTensor<Self>>,
        norm: Option<FloatTensor<Self>>,
        residual: Option<FloatTensor<Self>>,
        spec: LinearSpec,
    ) -> FloatTensor<Self>;

    /// LayerNorm of each row with `norm: [2, width]`, scale then shift: `[rows, width]` to the same.
    fn layer_norm(
        x: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        rows: usize,
        width: usize,
        epsilon: f32,
    ) -> FloatTensor<Self>;

    /// Each row divided by its Euclidean length, at least 1e-12: `[rows, width]` to the same.
    fn normalise(x: FloatTensor<Self>, rows: usize, width: usize) -> FloatTensor<Self>;

    /// `softmax(q·kᵀ/√head_dim)·v` by head: `[batch·queries, heads·head_dim]`.
    ///
    /// `pads` is `[kv_batch, keys]`, non-zero at keys that must not be seen; a query that may see no
    /// key gets some finite value.
    fn attention(
        q: FloatTensor<Self>,
        kv: FloatTensor<Self>,
        pads: Option<IntTensor<Self>>,
        spec: AttentionSpec,
    ) -> FloatTensor<Self>;

    /// One step of cached self-attention: `qkv: [rows, 3·width]` to `[rows, width]`, and the cache
    /// with the new keys and values at the state's position of each row.
    ///
    /// `lineage: [rows, capacity]` names the cache row that holds each earlier token of a row, for
    /// beams that share a past; without it every row has its own. The new token is always in its own.
    fn step_attention(
        qkv: FloatTensor<Self>,
        cache: FloatTensor<Self>,
        state: IntTensor<Self>,
        lineage: Option<IntTensor<Self>>,
        spec: StepAttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Word plus position embedding, not yet normalised: `[tokens, width]`.
    ///
    /// `ids` is `[tokens]`, or the decoding state with [`Place::State`]; `positions` is `[longest, width]`.
    fn embed(
        ids: IntTensor<Self>,
        table: MatrixTensors<Self>,
        positions: FloatTensor<Self>,
        spec: EmbedSpec,
    ) -> FloatTensor<Self>;

    /// Class token in front of the patches, plus positions: `[batch·patches, width]`, `[width]`,
    /// `[1 + patches, width]` to `[batch·(1 + patches), width]`.
    fn assemble(
        patches: FloatTensor<Self>,
        class: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        batch: usize,
        width: usize,
    ) -> FloatTensor<Self>;

    /// Each row of `a` with the same row of `b` behind it: `[rows, a]`, `[rows, b]` to `[rows, a + b]`.
    fn join(a: FloatTensor<Self>, b: FloatTensor<Self>, rows: usize, widths: [usize; 2])
    -> FloatTensor<Self>;

    /// `count` rows from row `first` on, as a tensor of their own: `[rows, width]` to `[count, width]`.
    fn rows(x: FloatTensor<Self>, first: usize, count: usize, width: usize) -> FloatTensor<Self>;

    /// The `k` highest logits of each row, highest first (of equals the lower id first), with their
    /// ids as floats, and the row's log-sum-exp: `[rows, vocab]` to `[rows, 2·k + 1]`
    /// (values, ids, log-sum-exp). `k ≤ 32`.
    fn top_k(logits: FloatTensor<Self>, rows: usize, vocab: usize, k: usize) -> FloatTensor<Self>;

    /// Greedy step: chooses each row's highest logit (of equals the lower id), writes token and
    /// log-probability (the bits of an f32) to `history: [capacity, rows, 2]` at the state's
    /// position, makes it the state's token, raises the finished flag at the end token, and moves
    /// the position on. A finished row repeats the end token with log-probability 0.
    fn advance(
        logits: FloatTensor<Self>,
        state: IntTensor<Self>,
        history: IntTensor<Self>,
        spec: AdvanceSpec,
    ) -> (IntTensor<Self>, IntTensor<Self>);
}

impl AttentionSpec {
    /// Self-attention of `batch` sequences whose queries, keys and values lie side by side in rows of
    /// `3·heads·head_dim`.
    pub fn packed(batch: usize, seq: usize, heads: usize, head_dim: usize) -> Self {
        let width = heads * head_dim;
        Self {
            batch,
            kv_batch: batch,
            queries: seq,
            keys: seq,
            heads,
            head_dim,
            q_stride: 3 * width,
            q_offset: 0,
            kv_stride: 3 * width,
            kv_batch_stride: seq * 3 * width,
            k_offset: width,
            v_offset: 2 * width,
            causal: None,
        }
    }

    /// Queries `[batch·queries, width]` over keys and values that lie side by side in rows of
    /// `2·heads·head_dim`.
    pub fn crossed(
        batch: usize,
        queries: usize,
        kv_batch: usize,
        keys: usize,
        heads: usize,
        head_dim: usize,
    ) -> Self {
        let width = heads * head_dim;
        Self {
            batch,
            kv_batch,
            queries,
            keys,
            heads,
            head_dim,
            q_stride: width,
            q_offset: 0,
            kv_stride: 2 * width,
            kv_batch_stride: keys * 2 * width,
            k_offset: 0,
            v_offset: width,
            causal: None,
        }
    }
}
