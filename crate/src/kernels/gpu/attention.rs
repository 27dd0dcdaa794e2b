//! Attention: of many queries, of few, and of one decoding step.

use burn_cubecl::tensor::CubeTensor;

use super::adapter::Adapter;
use super::launch::{Buffer, Float, Shader, fill, holding, launch, output, words};
use crate::kernels::{AttentionSpec, StepAttentionSpec};

/// See [`Kernels::attention`](crate::kernels::Kernels::attention).
pub(super) fn attention(
    q: CubeTensor,
    kv: CubeTensor,
    pads: Option<CubeTensor>,
    spec: AttentionSpec,
) -> CubeTensor {
    check(&q, &kv, pads.as_ref(), &spec);
    let AttentionSpec { batch, queries, keys, heads, head_dim, .. } = spec;
    let shared = spec.kv_batch == 1;
    let result = output(&q, [batch * queries, heads * head_dim], q.dtype);
    let mut buffers = vec![Buffer::Read(&q), Buffer::Read(&kv)];
    buffers.extend(pads.as_ref().map(Buffer::Read));
    buffers.push(Buffer::Write(&result));
    let mut parameters = [0; 12];
    parameters[..11].copy_from_slice(&words([
        queries,
        keys,
        heads,
        spec.q_stride / 4,
        spec.q_offset / 4,
        spec.kv_stride / 4,
        if shared { 0 } else { spec.kv_batch_stride / 4 },
        spec.k_offset / 4,
        spec.v_offset / 4,
        spec.causal.unwrap_or(0),
        if shared { 0 } else { keys },
    ]));
    parameters[11] = scale(head_dim);
    let options =
        Options { float: Float::of(&q), head_dim, pads: pads.is_some(), causal: spec.causal.is_some() };
    let [batch, queries, heads] = words([batch, queries, heads]);
    match Plan::choose(Adapter::current(), queries) {
        Plan::Few => {
            let shader = Few { options, side: side(Adapter::current(), head_dim, WIDE) };
            launch(shader, [batch * queries, heads, 1], &buffers, &parameters);
        }
        Plan::Many { queries: share, tiled } => {
            let shader = Many { options, queries: share, tiled };
            launch(shader, [queries.div_ceil(share), heads, batch], &buffers, &parameters);
        }
    }
    result
}

/// See [`Kernels::step_attention`](crate::kernels::Kernels::step_attention). The cache is changed in
/// place, whoever else holds it.
pub(super) fn step_attention(
    qkv: CubeTensor,
    cache: CubeTensor,
    state: CubeTensor,
    lineage: Option<CubeTensor>,
    spec: StepAttentionSpec,
) -> (CubeTensor, CubeTensor) {
    let StepAttentionSpec { rows, capacity, heads, head_dim } = spec;
    let width = heads * head_dim;
    assert_head(head_dim);
    assert_eq!(qkv.dtype, cache.dtype, "new keys are stored as they are");
    assert_eq!(qkv.meta.num_elements(), rows * 3 * width, "queries, keys and values of each row");
    assert!(cache.meta.num_elements() >= rows * capacity * 2 * width, "the cache has room");
    let result = output(&qkv, [rows, width], qkv.dtype);
    let mut buffers = vec![Buffer::Read(&qkv), Buffer::Update(&cache), Buffer::Read(&state)];
    if let Some(lineage) = &lineage {
        assert!(lineage.meta.num_elements() >= rows * capacity, "every earlier token has a row");
        buffers.push(Buffer::Read(lineage));
    }
    buffers.push(Buffer::Write(&result));
    let side = side(Adapter::current(), head_dim, NARROW);
    let shader = Step { float: Float::of(&qkv), head_dim, side, lineage: lineage.is_some() };
    let [rows, heads, capacity] = words([rows, heads, capacity]);
    launch(shader, [rows, heads, 1], &buffers, &[heads, capacity, scale(head_dim)]);
    (result, cache)
}

/// Which shader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// A workgroup a query.
    Few,
    /// A workgroup for some queries, which share tiles of keys and values or read them for
    /// themselves.
    Many { queries: u32, tiled: bool },
}

impl Plan {
    /// Measured: on SwiftShader barriers and small workgroups decide, and a workgroup a query is
    /// worth it only while lanes of a vector would idle otherwise.
    fn choose(adapter: Adapter, queries: u32) -> Self {
        match adapter {
            Adapter::Hardware if queries <= 16 => Self::Few,
            Adapter::Hardware => Self::Many { queries: 64, tiled: true },
            Adapter::Software if queries <= 2 => Self::Few,
            Adapter::Software => Self::Many { queries: 8, tiled: false },
        }
    }
}

/// Sides of the square of invocations that share a query, for hundreds of keys and for a few.
const WIDE: u32 = 16;
const NARROW: u32 = 8;

/// On software the least that has an invocation for every vector of a head.
fn side(adapter: Adapter, head_dim: usize, hardware: u32) -> u32 {
    match adapter {
        Adapter::Hardware => hardware,
        Adapter::Software if head_dim <= 64 => 4,
        Adapter::Software => 8,
    }
}

/// What all of a head's shaders depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Options {
    pub float: Float,
    pub head_dim: usize,
    pub pads: bool,
    pub causal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Many {
    pub options: Options,
    /// Queries of a workgroup.
    pub queries: u32,
    pub tiled: bool,
}

impl Shader for Many {
    fn workgroup(&self) -> [u32; 3] {
        [self.queries, 1, 1]
    }

    fn source(&self) -> String {
        let Options { float, head_dim, pads, causal } = self.options;
        // Keys and values of a tile in 16 KiB, in whole fours.
        let tile = (16 * 1024 / (2 * head_dim * float.size())).min(64) / 4 * 4;
        fill(
            include_str!("attention.wgsl"),
            &[
                ("enable", float.enable()),
                ("float", float.wgsl()),
                ("lanes", &(head_dim / 4).to_string()),
                ("queries", &self.queries.to_string()),
                ("tile", &tile.to_string()),
            ],
            &holding(&[("pads", pads), ("causal", causal), ("tiled", self.tiled)]),
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Few {
    pub options: Options,
    /// The workgroup has the square of it.
    pub side: u32,
}

impl Shader for Few {
    fn workgroup(&self) -> [u32; 3] {
        [self.side * self.side, 1, 1]
    }

    fn source(&self) -> String {
        let Options { float, head_dim, pads, causal } = self.options;
        fill(
            include_str!("attention_few.wgsl"),
            &[
                ("enable", float.enable()),
                ("float", float.wgsl()),
                ("lanes", &(head_dim / 4).to_string()),
                ("invocations", &(self.side * self.side).to_string()),
                ("side", &self.side.to_string()),
                ("tile", "1024"),
            ],
            &holding(&[("pads", pads), ("causal", causal)]),
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Step {
    pub float: Float,
    pub head_dim: usize,
    /// The workgroup has the square of it.
    pub side: u32,
    pub lineage: bool,
}

impl Shader for Step {
    fn workgroup(&self) -> [u32; 3] {
        [self.side * self.side, 1, 1]
    }

    fn source(&self) -> String {
        fill(
            include_str!("step_attention.wgsl"),
            &[
                ("enable", self.float.enable()),
                ("float", self.float.wgsl()),
                ("lanes", &(self.head_dim / 4).to_string()),
                ("invocations", &(self.side * self.side).to_string()),
                ("side", &self.side.to_string()),
                ("tile", "512"),
            ],
            &holding(&[("lineage", self.lineage)]),
        )
    }
}

/// The bits of `1/√head_dim`.
fn scale(head_dim: usize) -> u32 {
    (1.0 / (head_dim as f32).sqrt()).to_bits()
}

fn assert_head(head_dim: usize) {
    assert!(head_dim.is_multiple_of(4) && (4..=128).contains(&head_dim), "no kernel for heads of {head_dim}");
}

/// Natively the device does not check bounds, so this must.
fn check(q: &CubeTensor, kv: &CubeTensor, pads: Option<&CubeTensor>, spec: &AttentionSpec) {
    let width = spec.heads * spec.head_dim;
    assert_head(spec.head_dim);
    assert_eq!(q.dtype, kv.dtype, "queries and keys have one type");
    assert!(spec.keys > 0, "there is something to attend to");
    assert!(spec.kv_batch == spec.batch || spec.kv_batch == 1, "keys are each sequence's own or shared");
    let vectors = [spec.q_stride, spec.q_offset, spec.kv_stride, spec.k_offset, spec.v_offset];
    assert!(vectors.iter().all(|n| n.is_multiple_of(4)), "rows are whole vectors of four: {spec:?}");
    assert!(spec.kv_batch_stride.is_multiple_of(4), "rows are whole vectors of four: {spec:?}");
    let queries = (spec.batch * spec.queries).saturating_sub(1) * spec.q_stride + spec.q_offset + width;
    assert!(q.meta.num_elements() >= queries, "every query is there: {spec:?}");
    let keys = (spec.kv_batch - 1) * spec.kv_batch_stride
        + (spec.keys - 1) * spec.kv_stride
        + spec.k_offset.max(spec.v_offset)
        + width;
    assert!(kv.meta.num_elements() >= keys, "every key is there: {spec:?}");
    if let Some(pads) = pads {
        assert_eq!(pads.meta.num_elements(), spec.kv_batch * spec.keys, "every key has a flag");
    }
}

/// Shaders for [`sources`](super::sources).
#[cfg(not(target_family = "wasm"))]
pub(super) fn variants(float: Float) -> (Vec<Many>, Vec<Few>, Vec<Step>) {
    let (mut many, mut few, mut step) = (Vec::new(), Vec::new(), Vec::new());
    for adapter in [Adapter::Hardware, Adapter::Software] {
        for (head_dim, pads, causal) in
            [(64, false, false), (128, true, false), (40, false, true), (64, true, true)]
        {
            let options = Options { float, head_dim, pads, causal };
            if let Plan::Many { queries, tiled } = Plan::choose(adapter, 100) {
                many.push(Many { options, queries, tiled });
            }
            few.push(Few { options, side: side(adapter, head_dim, WIDE) });
            step.push(Step { float, head_dim, side: side(adapter, head_dim, NARROW), lineage: pads });
        }
    }
    (many, few, step)
}
