//! MED, the multimodal mixture of encoder-decoder: one text transformer in three modes (paper §3.1).

use burn::module::Module;
use burn::nn::{Embedding, LayerNorm};
use burn::tensor::activation::gelu;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::config::TextConfig;
use crate::nn::{Linear, attend, layer_norm, linear, merge_heads, split_heads, table};

/// What the text transformer is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextMode {
    /// Text alone, every token sees every token; cross-attention is skipped.
    Unimodal,
    /// Text that looks at the image, every token sees every token.
    Grounded,
    /// Text that looks at the image, each token sees only what stands before it.
    Causal,
}

/// What cross-attention reads, as keys and values of every layer: computed once, used by every
/// token, beam and question.
#[derive(Clone, Debug)]
pub struct CrossKv {
    layers: Vec<(Tensor<4>, Tensor<4>)>,
}

/// Keys and values for cross-attention, and which of the states behind them are padding.
#[derive(Clone, Debug)]
pub struct Grounding {
    /// Keys and values of every layer.
    pub kv: CrossKv,
    /// `[batch, states]`, true at padding; `None` for images, which have none.
    pub pads: Option<Tensor<2, Bool>>,
}

impl Grounding {
    /// Grounding on states without padding, such as image tokens.
    pub fn new(kv: CrossKv) -> Self {
        Self { kv, pads: None }
    }
}

/// Keys and values of the tokens decoded so far, per layer `[batch, heads, seq, head_dim]`.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    layers: Vec<(Tensor<4>, Tensor<4>)>,
}

impl KvCache {
    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |(keys, _)| keys.dims()[2])
    }

    /// Whether nothing was decoded yet.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Replaces the rows by the named ones, as beam search does after each step.
    ///
    /// # Shapes
    /// - rows: `[new_batch]`, indices of old rows
    pub fn select(&mut self, rows: Tensor<1, Int>) {
        for (keys, values) in &mut self.layers {
            *keys = keys.clone().select(0, rows.clone());
            *values = values.clone().select(0, rows.clone());
        }
    }

    /// Appends a layer's new keys and values and returns all of them.
    fn extend(&mut self, layer: usize, keys: Tensor<4>, values: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        if let Some((old_keys, old_values)) = self.layers.get_mut(layer) {
            *old_keys = Tensor::cat(vec![old_keys.clone(), keys], 2);
            *old_values = Tensor::cat(vec![old_values.clone(), values], 2);
        } else {
            self.layers.push((keys, values));
        }
        self.layers[layer].clone()
    }
}

/// The text transformer.
#[derive(Module, Debug)]
pub struct Med {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    layer_norm: LayerNorm,
    layers: Vec<MedLayer>,
}

impl Med {
    /// A freshly initialised network whose cross-attention reads states of `grounding_width`.
    ///
    /// `shared` adds a second set of self-attentions for [`TextMode::Causal`]: the encoder and the
    /// decoder of pre-training share everything else (paper §3.2).
    pub fn init(config: &TextConfig, grounding_width: usize, shared: bool, device: &Device) -> Self {
        let layer = |_| MedLayer::init(config, grounding_width, shared, device);
        Self {
            word_embeddings: table(config.vocab_size, config.hidden_size, device),
            position_embeddings: table(config.max_position_embeddings, config.hidden_size, device),
            layer_norm: layer_norm(config.hidden_size, config.layer_norm_eps, device),
            layers: (0..config.num_hidden_layers).map(layer).collect(),
        }
    }

    /// The word embedding `[vocab, dim]`.
    pub fn word_embeddings(&self) -> Tensor<2> {
        self.word_embeddings.weight.val()
    }

    /// Whether causal self-attention has parameters of its own, beside the encoder's.
    pub fn has_causal_attention(&self) -> bool {
        self.layers.iter().all(|layer| layer.causal_attention.is_some())
    }

    /// Keys and values of every layer for cross-attention.
    ///
    /// # Shapes
    /// - states: `[batch, states, grounding_width]`, such as image tokens
    pub fn cross_kv(&self, states: Tensor<3>) -> CrossKv {
        let project = |layer: &MedLayer| layer.crossattention.keys_values(states.clone());
        CrossKv { layers: self.layers.iter().map(project).collect() }
    }

    /// States of every token.
    ///
    /// With a cache, `ids` are the tokens after the cached ones, and the cache grows by them.
    ///
    /// # Shapes
    /// - ids: `[batch, seq]`
    /// - pads: `[batch, seq]`, true at padding
    /// - output: `[batch, seq, dim]`
    ///
    /// # Panics
    /// When the sequence is longer than the position table, or the mode needs a grounding and
    /// there is none.
    pub fn forward(
        &self,
        ids: Tensor<2, Int>,
        pads: Option<Tensor<2, Bool>>,
        grounding: Option<&Grounding>,
        mode: TextMode,
        mut cache: Option<&mut KvCache>,
    ) -> Tensor<3> {
        let grounding = match mode {
            TextMode::Unimodal => None,
            _ => Some(grounding.expect("image-grounded text needs an image")),
        };
        let past = cache.as_ref().map_or(0, |cache| cache.len());
        let [_, seq] = ids.dims();
        let mask = self_mask(pads, past, seq, mode, &ids.device());
        let cross_mask = grounding.and_then(|g| g.pads.clone()).map(hide_keys);
        let positions = self.position_embeddings.weight.val().narrow(0, past, seq).unsqueeze::<3>();
        let mut x = self.layer_norm.forward(self.word_embeddings.forward(ids) + positions);
        for (index, layer) in self.layers.iter().enumerate() {
            let cross = grounding.map(|g| (&g.kv.layers[index], cross_mask.clone()));
            let slot = cache.as_deref_mut().map(|cache| (cache, index));
            x = layer.forward(x, mask.clone(), cross, mode, slot);
        }
        x
    }
}

/// One layer: self-attention, cross-attention, feed-forward, each with residual and post-norm.
#[derive(Module, Debug)]
pub struct MedLayer {
    attention: Attention,
    causal_attention: Option<Attention>,
    crossattention: Attention,
    ffn: FeedForward,
}

/// Keys, values and mask of one layer's cross-attention.
type Cross<'a> = (&'a (Tensor<4>, Tensor<4>), Option<Tensor<4, Bool>>);

impl MedLayer {
    fn init(config: &TextConfig, grounding_width: usize, shared: bool, device: &Device) -> Self {
        let width = config.hidden_size;
        Self {
            attention: Attention::init(config, width, device),
            causal_attention: shared.then(|| Attention::init(config, width, device)),
            crossattention: Attention::init(config, grounding_width, device),
            ffn: FeedForward {
                intermediate: linear(width, config.intermediate_size, device),
                output: linear(config.intermediate_size, width, device),
                layer_norm: layer_norm(width, config.layer_norm_eps, device),
            },
        }
    }

    fn forward(
        &self,
        x: Tensor<3>,
        mask: Option<Tensor<4, Bool>>,
        cross: Option<Cross<'_>>,
        mode: TextMode,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<3> {
        let attention = match (&self.causal_attention, mode) {
            (Some(causal), TextMode::Causal) => causal,
            _ => &self.attention,
        };
        let (mut keys, mut values) = attention.keys_values(x.clone());
        if let Some((cache, index)) = cache {
            (keys, values) = cache.extend(index, keys, values);
        }
        let mut x = attention.forward(x, keys, values, mask);
        if let Some(((keys, values), mask)) = cross {
            x = self.crossattention.forward(x, keys.clone(), values.clone(), mask);
        }
        self.ffn.forward(x)
    }
}

/// Attention over given keys and values, with output projection, residual and norm.
#[derive(Module, Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    layer_norm: LayerNorm,
    heads: usize,
}

impl Attention {
    fn init(config: &TextConfig, source_width: usize, device: &Device) -> Self {
        let width = config.hidden_size;
        Self {
            query: linear(width, width, device),
            key: linear(source_width, width, device),
            value: linear(source_width, width, device),
            dense: linear(width, width, device),
            layer_norm: layer_norm(width, config.layer_norm_eps, device),
            heads: config.num_attention_heads,
        }
    }

    /// `[batch, states, source_width]` to keys and values `[batch, heads, states, head_dim]`.
    fn keys_values(&self, source: Tensor<3>) -> (Tensor<4>, Tensor<4>) {
        let keys = split_heads(self.key.forward(source.clone()), self.heads);
        (keys, split_heads(self.value.forward(source), self.heads))
    }

    fn forward(
        &self,
        x: Tensor<3>,
        keys: Tensor<4>,
        values: Tensor<4>,
        mask: Option<Tensor<4, Bool>>,
    ) -> Tensor<3> {
        let queries = split_heads(self.query.forward(x.clone()), self.heads);
        let context = merge_heads(attend(queries, keys, values, mask));
        self.layer_norm.forward(self.dense.forward(context) + x)
    }
}

/// The feed-forward sub-layer with residual and norm.
#[derive(Module, Debug)]
struct FeedForward {
    intermediate: Linear,
    output: Linear,
    layer_norm: LayerNorm,
}

impl FeedForward {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = gelu(self.intermediate.forward(x.clone()));
        self.layer_norm.forward(self.output.forward(hidden) + x)
    }
}

/// Which keys each query must not see; `None` when it may see all.
fn self_mask(
    pads: Option<Tensor<2, Bool>>,
    past: usize,
    seq: usize,
    mode: TextMode,
    device: &Device,
) -> Option<Tensor<4, Bool>> {
    assert!(past == 0 || pads.is_none(), "padded rows are decoded one at a time");
    let pads = pads.map(hide_keys);
    if mode != TextMode::Causal || seq == 1 {
        return pads;
    }
    let keys = past + seq;
    let later = |index: usize| index % keys > past + index / keys;
    let hidden: Vec<bool> = (0..seq * keys).map(later).collect();
    let causal = Tensor::<4, Bool>::from_data(TensorData::new(hidden, [1, 1, seq, keys]), device);
    Some(match pads {
        Some(pads) => {
            let batch = pads.dims()[0];
            let shape = [batch, 1, seq, keys];
            causal.expand(shape).bool_or(pads.expand(shape))
        }
        None => causal,
    })
}

/// `[batch, keys]` to `[batch, 1, 1, keys]`.
fn hide_keys(pads: Tensor<2, Bool>) -> Tensor<4, Bool> {
    let [batch, keys] = pads.dims();
    pads.reshape([batch, 1, 1, keys])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_causal_mask_hides_what_comes_later() {
        let mask = self_mask(None, 1, 2, TextMode::Causal, &Device::flex()).unwrap();
        assert_eq!(mask.into_data().try_to_vec::<bool>().unwrap(), [false, false, true, false, false, false]);
    }
}
