//! The operations on burn's tensors: each goes to the file of its name.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn_cubecl::CubeBackend;

use super::{attention, choose, embed, join, layer_norm, linear, rows};
use crate::kernels::{
    AdvanceSpec, AttentionSpec, EmbedSpec, Kernels, LinearSpec, MatrixTensors, StepAttentionSpec,
};

/// For devices of the wgpu runtime, whose compiler takes WGSL; the router sees to that.
impl Kernels for CubeBackend {
    fn linear(
        x: FloatTensor<Self>,
        matrix: MatrixTensors<Self>,
        bias: Option<FloatTensor<Self>>,
        norm: Option<FloatTensor<Self>>,
        residual: Option<FloatTensor<Self>>,
        spec: LinearSpec,
    ) -> FloatTensor<Self> {
        linear::linear(x, matrix, bias, norm, residual, spec)
    }

    fn layer_norm(
        x: FloatTensor<Self>,
        norm: FloatTensor<Self>,
        rows: usize,
        width: usize,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        layer_norm::layer_norm(x, norm, rows, width, epsilon)
    }

    fn normalise(x: FloatTensor<Self>, rows: usize, width: usize) -> FloatTensor<Self> {
        layer_norm::normalise(x, rows, width)
    }

    fn attention(
        q: FloatTensor<Self>,
        kv: FloatTensor<Self>,
        pads: Option<IntTensor<Self>>,
        spec: AttentionSpec,
    ) -> FloatTensor<Self> {
        attention::attention(q, kv, pads, spec)
    }

    fn step_attention(
        qkv: FloatTensor<Self>,
        cache: FloatTensor<Self>,
        state: IntTensor<Self>,
        lineage: Option<IntTensor<Self>>,
        spec: StepAttentionSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention::step_attention(qkv, cache, state, lineage, spec)
    }

    fn embed(
        ids: IntTensor<Self>,
        table: MatrixTensors<Self>,
        positions: FloatTensor<Self>,
        spec: EmbedSpec,
    ) -> FloatTensor<Self> {
        embed::embed(ids, table, positions, spec)
    }

    fn assemble(
        patches: FloatTensor<Self>,
        class: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        batch: usize,
        width: usize,
    ) -> FloatTensor<Self> {
        embed::assemble(patches, class, positions, batch, width)
    }

    fn join(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        rows: usize,
        widths: [usize; 2],
    ) -> FloatTensor<Self> {
        join::join(a, b, rows, widths)
    }

    fn rows(x: FloatTensor<Self>, first: usize, count: usize, width: usize) -> FloatTensor<Self> {
        rows::rows(x, first, count, width)
    }

    fn top_k(logits: FloatTensor<Self>, rows: usize, vocab: usize, k: usize) -> FloatTensor<Self> {
        choose::top_k(logits, rows, vocab, k)
    }

    fn advance(
        logits: FloatTensor<Self>,
        state: IntTensor<Self>,
        history: IntTensor<Self>,
        spec: AdvanceSpec,
    ) -> (IntTensor<Self>, IntTensor<Self>) {
        choose::advance(logits, state, history, spec)
    }
}
