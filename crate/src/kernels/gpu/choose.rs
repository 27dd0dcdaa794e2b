//! From logits to tokens: the highest of each row, and the greedy step.
//!
//! Both take two dispatches: the first finds the best of each chunk of a row, the second merges the
//! chunks.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;

use super::adapter::Adapter;
use super::launch::{Buffer, Float, Shader, fill, holding, launch, output, words};
use crate::kernels::{AdvanceSpec, state};

/// See [`Kernels::top_k`](crate::kernels::Kernels::top_k). The result is in f32 whatever the logits are.
pub(super) fn top_k(logits: CubeTensor, rows: usize, vocab: usize, k: usize) -> CubeTensor {
    assert!((1..=32).contains(&k), "no kernel for the highest {k}");
    let (chunk, chunks) = split(vocab);
    let best = best(&logits, None, [rows, vocab, chunk, chunks, k], &[]);
    let result = output(&logits, [rows, 2 * k + 1], DType::F32);
    let [rows, chunks, k] = words([rows, chunks, k]);
    launch(
        TopK { side: MERGE_SIDE },
        [rows, 1, 1],
        &[Buffer::Read(&best), Buffer::Write(&result)],
        &[chunks, k],
    );
    result
}

/// See [`Kernels::advance`](crate::kernels::Kernels::advance). State and history are changed in place,
/// whoever else holds them.
pub(super) fn advance(
    logits: CubeTensor,
    state: CubeTensor,
    history: CubeTensor,
    spec: AdvanceSpec,
) -> (CubeTensor, CubeTensor) {
    let AdvanceSpec { rows, vocab, eos, min_length, capacity } = spec;
    assert_eq!(state.meta.num_elements(), state::len(rows), "a token and a flag of each row");
    assert_eq!(history.meta.num_elements(), capacity * rows * 2, "the history has room");
    let (chunk, chunks) = split(vocab);
    let [min_length] = words([min_length]);
    let best = best(&logits, Some(&state), [rows, vocab, chunk, chunks, 1], &[min_length, eos]);
    let [rows, chunks, capacity] = words([rows, chunks, capacity]);
    launch(
        Advance { side: MERGE_SIDE },
        [1, 1, 1],
        &[Buffer::Read(&best), Buffer::Update(&state), Buffer::Update(&history)],
        &[rows, chunks, eos, capacity],
    );
    (state, history)
}

/// The first dispatch: `[rows, chunks, 2·count + 2]` words.
fn best(
    logits: &CubeTensor,
    state: Option<&CubeTensor>,
    [rows, vocab, chunk, chunks, count]: [usize; 5],
    rule: &[u32],
) -> CubeTensor {
    assert!(vocab > 0 && logits.meta.num_elements() == rows * vocab, "every token has a logit");
    let result = output(logits, [rows, chunks, 2 * count + 2], DType::I32);
    let side = match Adapter::current() {
        Adapter::Hardware => 8,
        Adapter::Software => 4,
    };
    let shader = Best { float: Float::of(logits), state: state.is_some(), side };
    let mut buffers = vec![Buffer::Read(logits)];
    buffers.extend(state.map(Buffer::Read));
    buffers.push(Buffer::Write(&result));
    let mut parameters = words([vocab, chunk, count]).to_vec();
    parameters.extend(rule);
    let [rows, chunks] = words([rows, chunks]);
    launch(shader, [chunks, rows, 1], &buffers, &parameters);
    result
}

/// The merge has the square of it in invocations, one for each chunk.
const MERGE_SIDE: u32 = 8;

/// Size and number of the chunks of a row.
fn split(vocab: usize) -> (usize, usize) {
    let most = (MERGE_SIDE * MERGE_SIDE) as usize;
    let chunk = vocab.div_ceil(most).next_multiple_of(64).max(1024);
    (chunk, vocab.div_ceil(chunk))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Best {
    pub float: Float,
    /// The end token may be too early.
    pub state: bool,
    pub side: u32,
}

impl Shader for Best {
    fn workgroup(&self) -> [u32; 3] {
        [self.side * self.side, 1, 1]
    }

    fn source(&self) -> String {
        let template = concat!(include_str!("order.wgsl"), include_str!("best.wgsl"));
        filled(template, self.side, self.float, &[("state", self.state)])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TopK {
    pub side: u32,
}

impl Shader for TopK {
    fn workgroup(&self) -> [u32; 3] {
        [self.side * self.side, 1, 1]
    }

    fn source(&self) -> String {
        let template = concat!(include_str!("order.wgsl"), include_str!("top_k.wgsl"));
        filled(template, self.side, Float::F32, &[])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Advance {
    pub side: u32,
}

impl Shader for Advance {
    fn workgroup(&self) -> [u32; 3] {
        [self.side * self.side, 1, 1]
    }

    fn source(&self) -> String {
        let template = concat!(include_str!("order.wgsl"), include_str!("advance.wgsl"));
        filled(template, self.side, Float::F32, &[])
    }
}

fn filled(template: &str, side: u32, float: Float, flags: &[(&'static str, bool)]) -> String {
    let values = [
        ("enable", float.enable()),
        ("float", float.wgsl()),
        ("side", &side.to_string()),
        ("invocations", &(side * side).to_string()),
        ("first", &state::TOKENS.to_string()),
    ];
    fill(template, &values, &holding(flags))
}

/// Shaders for [`sources`](super::sources).
#[cfg(not(target_family = "wasm"))]
pub(super) fn variants(float: Float) -> (Vec<Best>, TopK, Advance) {
    let each = |state| [4, 8].map(|side| Best { float, state, side });
    let best = [false, true].into_iter().flat_map(each).collect();
    (best, TopK { side: MERGE_SIDE }, Advance { side: MERGE_SIDE })
}
