//! From the model's tensors to the kernels of whatever device they are on.

#[cfg(feature = "wgpu")]
use burn::backend::Cube;
#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{DispatchDevice, DispatchKindConversion, DispatchTensor};
use burn::tensor::{Device, Int, Tensor};

#[cfg(not(target_family = "wasm"))]
use super::composed;
#[cfg(feature = "train")]
use super::contract::Normed;
use super::contract::{
    AdvanceSpec, AttentionSpec, EmbedSpec, Kernels, LinearSpec, MatrixTensors, StepAttentionSpec,
};

/// Whose arithmetic a device uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Our WGSL.
    Gpu,
    /// Our SIMD code.
    Cpu,
    /// Burn's own operations: training, and every device that we have no kernels for.
    Composed,
}

impl Route {
    /// The route of a device.
    pub fn of(device: &Device) -> Self {
        match device.as_dispatch() {
            #[cfg(feature = "wgpu")]
            DispatchDevice::Cube(cubecl::Device::Wgpu(_)) => Self::Gpu,
            #[cfg(feature = "flex")]
            DispatchDevice::Flex(_) => Self::Cpu,
            _ => Self::Composed,
        }
    }
}

/// Runs `$kernel` for the backend of the device, or the composition natively.
macro_rules! routed {
    ($device:expr, $backend:ident => $kernel:expr, $composed:expr) => {
        match Route::of(&$device) {
            #[cfg(feature = "wgpu")]
            Route::Gpu => {
                type $backend = Cube;
                $kernel
            }
            #[cfg(feature = "flex")]
            Route::Cpu => {
                type $backend = Flex;
                $kernel
            }
            #[cfg(not(target_family = "wasm"))]
            _ => $composed,
            #[cfg(target_family = "wasm")]
            other => unreachable!("no device of a browser has the route {other:?}"),
        }
    };
}

/// A matrix as the kernels take it.
#[allow(clippy::large_enum_variant, reason = "it lives for one call; a box would be an allocation in each")]
#[derive(Clone, Debug)]
pub enum MatrixView {
    /// `[outputs, inputs]`.
    Float(Tensor<2>),
    /// Codes and scales, see [`MatrixTensors::Packed`].
    Packed(Tensor<2, Int>, Option<Tensor<2, Int>>),
}

impl MatrixView {
    fn lower<B: Kernels>(self) -> MatrixTensors<B>
    where
        DispatchTensor: DispatchKindConversion<B>,
    {
        match self {
            Self::Float(weight) => MatrixTensors::Float(float::<B, _>(weight)),
            Self::Packed(codes, scales) => MatrixTensors::Packed(int::<B, _>(codes), scales.map(int::<B, _>)),
        }
    }
}

/// See [`Kernels::linear`].
pub fn linear(
    x: Tensor<2>,
    matrix: MatrixView,
    bias: Option<Tensor<1>>,
    norm: Option<Tensor<2>>,
    residual: Option<Tensor<2>>,
    spec: LinearSpec,
) -> Tensor<2> {
    #[cfg(feature = "train")]
    if let (MatrixView::Float(weight), Normed::Neither) = (&matrix, spec.normed)
        && let Some(found) = super::cpu::trained::linear(&x, weight, bias.as_ref(), residual.as_ref(), spec)
    {
        return found;
    }
    routed!(
        x.device(),
        B => raise::<B, _>(B::linear(
            float::<B, _>(x),
            matrix.lower::<B>(),
            bias.map(float::<B, _>),
            norm.map(float::<B, _>),
            residual.map(float::<B, _>),
            spec,
        )),
        composed::linear(x, matrix, bias, norm, residual, spec)
    )
}

/// See [`Kernels::layer_norm`].
pub fn layer_norm(x: Tensor<2>, norm: Tensor<2>, epsilon: f32) -> Tensor<2> {
    #[cfg(feature = "train")]
    if let Some(found) = super::cpu::trained::layer_norm(&x, &norm, epsilon) {
        return found;
    }
    let [rows, width] = x.dims();
    routed!(
        x.device(),
        B => raise::<B, _>(B::layer_norm(float::<B, _>(x), float::<B, _>(norm), rows, width, epsilon)),
        composed::layer_norm(x, norm, epsilon)
    )
}

/// See [`Kernels::normalise`].
pub fn normalise(x: Tensor<2>) -> Tensor<2> {
    let [rows, width] = x.dims();
    routed!(x.device(), B => raise::<B, _>(B::normalise(float::<B, _>(x), rows, width)), composed::normalise(x))
}

/// See [`Kernels::attention`]; `q` and `kv` are the tensors whose strides the spec describes.
pub fn attention(
    q: Tensor<2>,
    kv: Tensor<2>,
    pads: Option<Tensor<2, Int>>,
    spec: AttentionSpec,
) -> Tensor<2> {
    #[cfg(feature = "train")]
    if let Some(found) = super::cpu::trained::attention(&q, &kv, pads.as_ref(), &Sight::default(), spec) {
        return found;
    }
    routed!(
        q.device(),
        B => raise::<B, _>(B::attention(float::<B, _>(q), float::<B, _>(kv), pads.map(int::<B, _>), spec)),
        composed::attention(q, kv, pads, spec)
    )
}

/// What queries look at, where it is not everything of their own sequence.
#[cfg(feature = "train")]
#[derive(Clone, Debug, Default)]
pub struct Sight<'a> {
    /// Of each sequence of queries the sequence of keys that it looks at; the spec's `kv_batch` is the
    /// number of those.
    pub places: Option<&'a [u32]>,
    /// Factors of what queries give to keys, `[batch, heads, queries, keys]`.
    pub factors: Option<Vec<f32>>,
}

/// As [`attention`], with another sight; `pads` are those of the keys.
///
/// # Panics
/// When a sequence of queries has no place.
#[cfg(feature = "train")]
pub fn attention_at(
    q: Tensor<2>,
    kv: Tensor<2>,
    pads: Option<Tensor<2, Int>>,
    sight: Sight<'_>,
    spec: AttentionSpec,
) -> Tensor<2> {
    if let Some(found) = super::cpu::trained::attention(&q, &kv, pads.as_ref(), &sight, spec) {
        return found;
    }
    let AttentionSpec { batch, kv_batch, queries, keys, heads, kv_stride, .. } = spec;
    let device = q.device();
    let (mut kv, mut pads, mut spec) = (kv, pads, spec);
    if let Some(places) = sight.places {
        assert_eq!(places.len(), batch, "a place for every sequence of queries");
        let rows: Vec<i32> = places.iter().map(|place| place.cast_signed()).collect();
        let rows = super::integers(rows, [batch], &device);
        let whole = kv.reshape([kv_batch, keys * kv_stride]).select(0, rows.clone());
        kv = whole.reshape([batch * keys, kv_stride]);
        pads = pads.map(|pads| pads.select(0, rows));
        spec.kv_batch = batch;
    }
    let Some(factors) = sight.factors else { return attention(q, kv, pads, spec) };
    let factors = super::floats(factors, [batch, heads, queries, keys], &device, q.dtype());
    composed::attention_with(q, kv, pads, Some(factors), spec)
}

/// See [`Kernels::step_attention`]; the cache is used up and comes back.
pub fn step_attention(
    qkv: Tensor<2>,
    cache: Tensor<3>,
    state: Tensor<1, Int>,
    lineage: Option<Tensor<2, Int>>,
    spec: StepAttentionSpec,
) -> (Tensor<2>, Tensor<3>) {
    routed!(
        qkv.device(),
        B => {
            let (context, cache) =
                B::step_attention(float::<B, _>(qkv), float::<B, _>(cache), int::<B, _>(state), lineage.map(int::<B, _>), spec);
            (raise::<B, _>(context), raise::<B, _>(cache))
        },
        composed::step_attention(qkv, cache, state, lineage, spec)
    )
}

/// See [`Kernels::embed`].
pub fn embed(ids: Tensor<1, Int>, table: MatrixView, positions: Tensor<2>, spec: EmbedSpec) -> Tensor<2> {
    routed!(
        positions.device(),
        B => raise::<B, _>(B::embed(int::<B, _>(ids), table.lower::<B>(), float::<B, _>(positions), spec)),
        composed::embed(ids, table, positions, spec)
    )
}

/// See [`Kernels::assemble`].
pub fn assemble(patches: Tensor<2>, class: Tensor<1>, positions: Tensor<2>, batch: usize) -> Tensor<2> {
    let width = patches.dims()[1];
    routed!(
        patches.device(),
        B => raise::<B, _>(B::assemble(float::<B, _>(patches), float::<B, _>(class), float::<B, _>(positions), batch, width)),
        composed::assemble(patches, class, positions, batch)
    )
}

/// See [`Kernels::join`].
///
/// # Panics
/// When one has more rows than the other.
pub fn join(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let ([rows, left], [others, right]) = (a.dims(), b.dims());
    assert_eq!(rows, others, "rows are joined one to one");
    routed!(
        a.device(),
        B => raise::<B, _>(B::join(float::<B, _>(a), float::<B, _>(b), rows, [left, right])),
        composed::join(a, b)
    )
}

/// See [`Kernels::rows`].
///
/// # Panics
/// When there are not that many rows.
pub fn rows(x: Tensor<2>, first: usize, count: usize) -> Tensor<2> {
    let [all, width] = x.dims();
    assert!(first + count <= all, "rows {first}..{} of {all}", first + count);
    routed!(
        x.device(),
        B => raise::<B, _>(B::rows(float::<B, _>(x), first, count, width)),
        composed::rows(x, first, count)
    )
}

/// See [`Kernels::top_k`].
pub fn top_k(logits: Tensor<2>, k: usize) -> Tensor<2> {
    let [rows, vocab] = logits.dims();
    routed!(
        logits.device(),
        B => raise::<B, _>(B::top_k(float::<B, _>(logits), rows, vocab, k)),
        composed::top_k(logits, k)
    )
}

/// See [`Kernels::advance`]; state and history are used up and come back.
pub fn advance(
    logits: Tensor<2>,
    state: Tensor<1, Int>,
    history: Tensor<3, Int>,
    spec: AdvanceSpec,
) -> (Tensor<1, Int>, Tensor<3, Int>) {
    routed!(
        logits.device(),
        B => {
            let (state, history) = B::advance(float::<B, _>(logits), int::<B, _>(state), int::<B, _>(history), spec);
            (raise_int::<B, _>(state), raise_int::<B, _>(history))
        },
        composed::advance(logits, state, history, spec)
    )
}

/// Prepares to record launches on the GPU that the tensor is on.
///
/// # Errors
/// On any other device, and what the runtime says.
#[cfg(feature = "wgpu")]
pub fn recorder(on: Tensor<1, Int>) -> Result<super::gpu::Recorder, String> {
    match Route::of(&on.device()) {
        Route::Gpu => super::gpu::Recorder::prepare(&int::<Cube, 1>(on)),
        route => Err(format!("launches of the route {route:?} are not recorded")),
    }
}

/// Bytes of GPU memory that tensors use, and that are held for them; zeros elsewhere.
pub fn memory(device: &Device) -> [u64; 2] {
    match device.as_dispatch() {
        #[cfg(feature = "wgpu")]
        DispatchDevice::Cube(place) => {
            let usage = place.client().memory_report(cubecl::MemoryScope::Device).usage();
            [usage.bytes_in_use, usage.bytes_reserved]
        }
        _ => [0, 0],
    }
}

/// Gives GPU memory back that no tensor uses.
///
/// # Errors
/// What the runtime says.
pub fn release(device: &Device) -> Result<(), String> {
    match device.as_dispatch() {
        #[cfg(feature = "wgpu")]
        DispatchDevice::Cube(place) => place.client().memory_cleanup().map_err(|error| format!("{error:?}")),
        _ => Ok(()),
    }
}

/// The same elements under another shape; never copies.
///
/// # Panics
/// When the number of elements differs.
pub fn view<const D: usize, const E: usize>(x: Tensor<D>, shape: [usize; E]) -> Tensor<E> {
    match Route::of(&x.device()) {
        #[cfg(feature = "wgpu")]
        Route::Gpu => {
            let x: FloatTensor<Cube> = float::<Cube, D>(x);
            raise::<Cube, E>(super::gpu::view(x, &shape))
        }
        #[cfg(feature = "flex")]
        Route::Cpu => {
            let x: FloatTensor<Flex> = float::<Flex, D>(x);
            raise::<Flex, E>(super::cpu::view(x, &shape))
        }
        #[cfg(not(target_family = "wasm"))]
        _ => x.reshape(shape),
        #[cfg(target_family = "wasm")]
        other => unreachable!("no device of a browser has the route {other:?}"),
    }
}

/// As [`view`], for integers.
///
/// # Panics
/// When the number of elements differs.
pub fn view_int<const D: usize, const E: usize>(x: Tensor<D, Int>, shape: [usize; E]) -> Tensor<E, Int> {
    match Route::of(&x.device()) {
        #[cfg(feature = "wgpu")]
        Route::Gpu => raise_int::<Cube, E>(super::gpu::view(int::<Cube, D>(x), &shape)),
        #[cfg(feature = "flex")]
        Route::Cpu => raise_int::<Flex, E>(super::cpu::view(int::<Flex, D>(x), &shape)),
        #[cfg(not(target_family = "wasm"))]
        _ => x.reshape(shape),
        #[cfg(target_family = "wasm")]
        other => unreachable!("no device of a browser has the route {other:?}"),
    }
}

/// The same values in row-major order without gaps, as kernels read them.
pub fn contiguous<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match Route::of(&x.device()) {
        #[cfg(feature = "wgpu")]
        Route::Gpu => raise::<Cube, D>(burn_cubecl::kernel::into_contiguous(float::<Cube, D>(x))),
        #[cfg(feature = "flex")]
        Route::Cpu => raise::<Flex, D>(float::<Flex, D>(x).to_contiguous()),
        _ => x,
    }
}

const ROUTED: &str = "all tensors of one operation are on one device";

pub(super) fn float<B: Kernels, const D: usize>(x: Tensor<D>) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    x.try_into_primitive::<B>().expect(ROUTED)
}

pub(super) fn int<B: Kernels, const D: usize>(x: Tensor<D, Int>) -> IntTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    x.try_into_primitive::<B>().expect(ROUTED)
}

pub(super) fn raise<B: Kernels, const D: usize>(x: FloatTensor<B>) -> Tensor<D>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    Tensor::from_primitive::<B>(x)
}

pub(super) fn raise_int<B: Kernels, const D: usize>(x: IntTensor<B>) -> Tensor<D, Int>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    Tensor::from_primitive::<B>(x)
}
