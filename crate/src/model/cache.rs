//! What decoding remembers: keys and values of the tokens so far, and where it stands.

use burn::tensor::{Device, Int, Tensor};

use super::Med;
use crate::kernels::{self, AdvanceSpec, StepAttentionSpec, integers, state};

/// Caches and state of some sequences that are decoded side by side.
///
/// Memory for all tokens is taken once. The position and the next tokens live on the device
/// ([`state`]), so that the steps of a caption are the same launches over and over; the host knows the
/// position as well, because it counts the steps.
#[derive(Debug)]
pub struct KvCache {
    device: Device,
    /// Of each layer `[rows, capacity, 2·dim]`, keys beside values; taken out while a kernel writes.
    layers: Vec<Option<Tensor<3>>>,
    state: Tensor<1, Int>,
    lineage: Option<Lineage>,
    rows: usize,
    room: usize,
    capacity: usize,
    position: usize,
}

/// Which cache row holds each past token of a row: beams share a past without copying it.
#[derive(Clone, Debug)]
struct Lineage {
    /// `[rows, capacity]` on the host.
    host: Vec<i32>,
    device: Tensor<2, Int>,
}

impl KvCache {
    /// Caches for at most `room` sequences of at most `capacity` tokens of `decoder`.
    pub fn new(decoder: &Med, room: usize, capacity: usize, device: &Device) -> Self {
        let (layers, width, float) = (decoder.depth(), decoder.width(), decoder.activations());
        let empty = || Tensor::<3>::empty([room, capacity, 2 * width], (device, float));
        Self {
            device: device.clone(),
            layers: (0..layers).map(|_| Some(empty())).collect(),
            state: integers(vec![0; state::len(1)], [state::len(1)], device),
            lineage: None,
            rows: 1,
            room,
            capacity,
            position: 0,
        }
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.position
    }

    /// Whether nothing was decoded yet.
    pub fn is_empty(&self) -> bool {
        self.position == 0
    }

    /// Sequences decoded side by side.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Sequences that there is memory for.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Tokens that a sequence may have.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The decoding state on the device.
    pub fn state(&self) -> Tensor<1, Int> {
        self.state.clone()
    }

    /// Forgets every token; the memory is kept.
    pub fn clear(&mut self) {
        (self.rows, self.position, self.lineage) = (1, 0, None);
    }

    /// Names the next token of every row; row `i` continues what row `parents[i]` had.
    ///
    /// # Panics
    /// When there are more rows than room, or the cache is full.
    pub fn feed(&mut self, parents: &[usize], tokens: &[u32]) {
        assert!(tokens.len() <= self.room, "{} rows, room for {}", tokens.len(), self.room);
        assert!(self.position < self.capacity, "the cache holds {} tokens", self.capacity);
        let same =
            parents.len() == self.rows && parents.iter().enumerate().all(|(row, parent)| row == *parent);
        if self.room > 1 && (!same || self.lineage.is_some()) {
            self.inherit(parents);
        }
        self.rows = tokens.len();
        let mut now = vec![0; state::len(self.rows)];
        now[state::POSITION] = self.position as i32;
        for (slot, token) in now[state::TOKENS..].iter_mut().zip(tokens) {
            *slot = token.cast_signed();
        }
        let length = now.len();
        self.state = integers(now, [length], &self.device);
    }

    /// Prepares to record steps; only where the device's kernels can be repeated.
    ///
    /// # Errors
    /// Why they cannot.
    #[cfg(feature = "wgpu")]
    pub fn recorder(&self) -> Result<kernels::gpu::Recorder, String> {
        kernels::recorder(self.state.clone())
    }

    /// Takes back the count of a step that did not run.
    pub fn retreat(&mut self) {
        self.position -= 1;
    }

    /// Counts the token that a step has just put into every layer.
    pub fn advance(&mut self) {
        self.position += 1;
    }

    /// Chooses each row's next token greedily on the device, where the choice stays; counts the step.
    ///
    /// `history` is as in [`kernels::Kernels::advance`].
    pub fn choose(
        &mut self,
        logits: Tensor<2>,
        history: Tensor<3, Int>,
        eos: u32,
        min_length: usize,
    ) -> Tensor<3, Int> {
        let spec = AdvanceSpec {
            rows: self.rows,
            vocab: logits.dims()[1],
            eos,
            min_length,
            capacity: history.dims()[0],
        };
        let (state, history) = kernels::advance(logits, self.state.clone(), history, spec);
        self.state = state;
        self.position += 1;
        history
    }

    /// Self-attention of one layer's new token to itself and all before it: `[rows, 3·dim]` to
    /// `[rows, dim]`.
    pub(super) fn attend(
        &mut self,
        layer: usize,
        qkv: Tensor<2>,
        heads: usize,
        head_dim: usize,
    ) -> Tensor<2> {
        let spec = StepAttentionSpec { rows: self.rows, capacity: self.capacity, heads, head_dim };
        let lineage = self.lineage.as_ref().map(|lineage| lineage.device.clone());
        let cache = self.layers[layer].take().expect("a layer's cache is put back after every step");
        let (context, cache) = kernels::step_attention(qkv, cache, self.state.clone(), lineage, spec);
        self.layers[layer] = Some(cache);
        context
    }

    fn inherit(&mut self, parents: &[usize]) {
        let (capacity, position) = (self.capacity, self.position);
        let old = self.lineage.as_ref().map(|lineage| lineage.host.as_slice());
        let mut host = vec![0; parents.len() * capacity];
        for (row, (parent, past)) in parents.iter().zip(host.chunks_exact_mut(capacity)).enumerate() {
            for (token, place) in past.iter_mut().enumerate() {
                *place = match old {
                    Some(old) if token < position => old[parent * capacity + token],
                    None if token < position => *parent as i32,
                    _ => row as i32,
                };
            }
        }
        let device = integers(host.clone(), [parents.len(), capacity], &self.device);
        self.lineage = Some(Lineage { host, device });
    }
}
