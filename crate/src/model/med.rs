//! MED, the multimodal mixture of encoder-decoder: one text transformer in three modes (paper §3.1).

mod reverse;
mod trace;

use burn::module::{Module, Param};
use burn::tensor::{DType, Int, Tensor};

use self::trace::Kept;
use super::cache::KvCache;
use crate::config::TextConfig;
use crate::kernels::{self, AttentionSpec, Place};
use crate::nn::{Branch, LayerNorm, Linear, Matrix, Noise, Rows, Source};

pub use self::reverse::{LayerNumbers, Relevance};
pub use self::trace::Trace;

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

/// What sets a text network's layers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One self-attention, one cross-attention.
    Single,
    /// A second self-attention for [`TextMode::Causal`]: the encoder and the decoder of pre-training
    /// share everything else (paper §3.2).
    Shared,
    /// A second cross-attention, for the second image of NLVR2 (paper §5.4).
    Twin,
}

/// What cross-attention reads, as keys and values of every layer: computed once, used by every
/// token, beam and question.
#[derive(Clone, Debug)]
pub struct CrossKv {
    /// Of each layer `[batch·states, 2·dim]`, keys beside values.
    layers: Vec<Tensor<2>>,
    batch: usize,
    /// The second image's, for the layers of [`Layout::Twin`]: as many keys, as large a batch.
    second: Vec<Tensor<2>>,
    /// Which of the sequences each text looks at, where it is not its own or the only one.
    #[cfg(feature = "train")]
    places: Option<std::sync::Arc<[u32]>>,
}

impl CrossKv {
    /// Keys and values of these states with those of `others` behind them, in each of as many
    /// sequences.
    ///
    /// # Panics
    /// When the two are not of one network, or not of as many sequences.
    #[must_use]
    pub fn join(&self, others: &Self) -> Self {
        assert_eq!(self.batch, others.batch, "sequences are joined one to one");
        let layers = self.layers.iter().zip(&others.layers).map(|(a, b)| {
            let ([left, width], [right, _]) = (a.dims(), b.dims());
            let flat = |x: &Tensor<2>, rows: usize| {
                kernels::view(x.clone(), [self.batch, rows / self.batch * width])
            };
            kernels::view(kernels::join(flat(a, left), flat(b, right)), [left + right, width])
        });
        Self::new(layers.collect(), self.batch)
    }

    /// The same keys and values, of which text `i` looks at sequence `places[i]`: an image serves as many
    /// texts as there are, its own and those that it is a wrong image for.
    #[cfg(feature = "train")]
    #[must_use]
    pub fn pick(&self, places: impl IntoIterator<Item = usize>) -> Self {
        Self { places: Some(places.into_iter().map(|place| place as u32).collect()), ..self.clone() }
    }

    /// Which of the sequences each text looks at, where that is said.
    fn places(&self) -> Option<&[u32]> {
        #[cfg(feature = "train")]
        return self.places.as_deref();
        #[cfg(not(feature = "train"))]
        None
    }

    fn new(layers: Vec<Tensor<2>>, batch: usize) -> Self {
        Self {
            layers,
            batch,
            second: Vec::new(),
            #[cfg(feature = "train")]
            places: None,
        }
    }
}

/// Keys and values for cross-attention, and which of the states behind them are padding.
#[derive(Clone, Debug)]
pub struct Grounding {
    /// Keys and values of every layer.
    pub kv: CrossKv,
    /// `[batch, states]` of those sequences, 1 at padding; `None` for images, which have none.
    pub pads: Option<Tensor<2, Int>>,
}

impl Grounding {
    /// Grounding on states without padding, such as image tokens.
    pub fn new(kv: CrossKv) -> Self {
        Self { kv, pads: None }
    }
}

/// The text transformer.
#[derive(Module, Debug)]
pub struct Med {
    word_embeddings: Matrix,
    position_embeddings: Param<Tensor<2>>,
    layer_norm: LayerNorm,
    layers: Vec<MedLayer>,
}

impl Med {
    /// A network with the source's parameters under `path`, whose cross-attention reads states of
    /// `grounding_width`.
    pub fn build(
        source: &mut dyn Source,
        path: &str,
        config: &TextConfig,
        grounding_width: usize,
        layout: Layout,
    ) -> Self {
        let width = config.hidden_size;
        let places = [config.max_position_embeddings, width];
        let layer = |index: usize, source: &mut dyn Source| {
            let path = format!("{path}.layers.{index}");
            MedLayer::build(source, &path, config, grounding_width, (layout, index))
        };
        Self {
            word_embeddings: source
                .matrix(&format!("{path}.word_embeddings.weight"), [config.vocab_size, width]),
            position_embeddings: source.table(&format!("{path}.position_embeddings.weight"), places),
            layer_norm: LayerNorm::build(source, &format!("{path}.layer_norm"), width, config.layer_norm_eps),
            layers: (0..config.num_hidden_layers).map(|index| layer(index, source)).collect(),
        }
    }

    /// The word embedding `[vocab, dim]`.
    pub fn word_embeddings(&self) -> &Matrix {
        &self.word_embeddings
    }

    /// Layers.
    pub fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Values of a state.
    pub fn width(&self) -> usize {
        self.position_embeddings.dims()[1]
    }

    /// The float type of states.
    pub fn activations(&self) -> DType {
        self.position_embeddings.dtype()
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
        let [batch, count, width] = states.dims();
        let states = Rows::of(kernels::view(states, [batch * count, width]));
        let project = |layer: &MedLayer| layer.crossattention.kv.forward(&states);
        CrossKv::new(self.layers.iter().map(project).collect(), batch)
    }

    /// Keys and values of every layer of a [`Layout::Twin`] network, for the first and the second image.
    ///
    /// # Shapes
    /// - first, second: `[batch, states, grounding_width]`
    ///
    /// # Panics
    /// When the network has no second cross-attention.
    pub fn cross_kv_pair(&self, first: Tensor<3>, second: Tensor<3>) -> CrossKv {
        let [batch, count, width] = second.dims();
        let second = Rows::of(kernels::view(second, [batch * count, width]));
        let project = |layer: &MedLayer| {
            let twin = layer.crossattention.twin.as_ref();
            twin.expect("the network has two cross-attentions").kv.forward(&second)
        };
        CrossKv { second: self.layers.iter().map(project).collect(), ..self.cross_kv(first) }
    }

    /// States of every token.
    ///
    /// # Shapes
    /// - ids: `[batch, seq]`
    /// - pads: `[batch, seq]`, 1 at padding
    /// - output: `[batch, seq, dim]`
    ///
    /// # Panics
    /// When the sequence is longer than the position table, or the mode needs a grounding and
    /// there is none.
    pub fn forward(
        &self,
        ids: Tensor<2, Int>,
        pads: Option<Tensor<2, Int>>,
        grounding: Option<&Grounding>,
        mode: TextMode,
    ) -> Tensor<3> {
        self.forward_noisy(ids, pads, grounding, mode, Noise::NONE)
    }

    /// As [`forward`](Self::forward), leaving out what `noise` says.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_noisy(
        &self,
        ids: Tensor<2, Int>,
        pads: Option<Tensor<2, Int>>,
        grounding: Option<&Grounding>,
        mode: TextMode,
        noise: Noise<'_>,
    ) -> Tensor<3> {
        self.pass(ids, pads, grounding, (mode, noise), &mut [])
    }

    /// As [`forward`](Self::forward), keeping what the last layers compute: as many as `kept` has places.
    fn pass(
        &self,
        ids: Tensor<2, Int>,
        pads: Option<Tensor<2, Int>>,
        grounding: Option<&Grounding>,
        (mode, noise): (TextMode, Noise<'_>),
        kept: &mut [Kept],
    ) -> Tensor<3> {
        let [batch, seq] = ids.dims();
        let place = Place::Sequence { seq, past: 0 };
        let positions = self.position_embeddings.val();
        let x =
            self.word_embeddings.embed(kernels::view_int(ids, [batch * seq]), positions, batch * seq, place);
        let scene = Scene { grounding: needed(grounding, mode), mode, batch, pads, noise };
        let mut h = noise.thin_rows(Branch::Text, Rows::normed(x, &self.layer_norm));
        let first = self.layers.len() - kept.len();
        for (index, layer) in self.layers.iter().enumerate() {
            let kept = index.checked_sub(first).map(|place| &mut kept[place]);
            h = layer.forward(&h, &scene, index, None, kept);
        }
        let x = h.settle();
        let width = x.dims()[1];
        kernels::view(x, [batch, seq, width])
    }

    /// States of one new token of every row, which the cache names and remembers: `[rows, dim]`,
    /// the last norm still due.
    ///
    /// # Panics
    /// When the cache is full.
    pub fn step(&self, grounding: &Grounding, cache: &mut KvCache) -> Rows {
        let positions = self.position_embeddings.val();
        let rows = cache.rows();
        let x = self.word_embeddings.embed(cache.state(), positions, rows, Place::State);
        let (mode, noise) = (TextMode::Causal, Noise::NONE);
        let scene = Scene { grounding: Some(grounding), mode, batch: rows, pads: None, noise };
        let mut h = Rows::normed(x, &self.layer_norm);
        for (index, layer) in self.layers.iter().enumerate() {
            h = layer.forward(&h, &scene, index, Some(cache), None);
        }
        h
    }
}

/// What all layers of a pass have in common.
struct Scene<'a> {
    grounding: Option<&'a Grounding>,
    mode: TextMode,
    batch: usize,
    pads: Option<Tensor<2, Int>>,
    noise: Noise<'a>,
}

fn needed(grounding: Option<&Grounding>, mode: TextMode) -> Option<&Grounding> {
    match mode {
        TextMode::Unimodal => None,
        _ => Some(grounding.expect("image-grounded text needs an image")),
    }
}

/// One layer: self-attention, cross-attention, feed-forward, each with residual and post-norm.
#[derive(Module, Debug)]
pub struct MedLayer {
    attention: SelfAttention,
    causal_attention: Option<SelfAttention>,
    crossattention: CrossAttention,
    ffn: FeedForward,
}

impl MedLayer {
    fn build(
        source: &mut dyn Source,
        path: &str,
        config: &TextConfig,
        grounding_width: usize,
        (layout, index): (Layout, usize),
    ) -> Self {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let twin = match layout {
            Layout::Single | Layout::Shared => None,
            Layout::Twin => Some(index >= config.num_hidden_layers / 2),
        };
        Self {
            attention: SelfAttention::build(source, &format!("{path}.attention"), config),
            causal_attention: (layout == Layout::Shared)
                .then(|| SelfAttention::build(source, &format!("{path}.causal_attention"), config)),
            crossattention: CrossAttention::build(
                source,
                &format!("{path}.crossattention"),
                config,
                grounding_width,
                twin,
            ),
            ffn: FeedForward {
                intermediate: Linear::build(
                    source,
                    &format!("{path}.ffn.intermediate"),
                    width,
                    config.intermediate_size,
                ),
                output: Linear::build(source, &format!("{path}.ffn.output"), config.intermediate_size, width),
                layer_norm: LayerNorm::build(source, &format!("{path}.ffn.layer_norm"), width, eps),
            },
        }
    }

    /// Rows of `dim` values to the same.
    fn forward(
        &self,
        h: &Rows,
        scene: &Scene<'_>,
        index: usize,
        cache: Option<&mut KvCache>,
        mut kept: Option<&mut Kept>,
    ) -> Rows {
        let attention = match (&self.causal_attention, scene.mode) {
            (Some(causal), TextMode::Causal) => causal,
            _ => &self.attention,
        };
        let mut h = attention.forward(h, scene, index, cache, kept.as_deref_mut());
        if let Some(grounding) = scene.grounding {
            h = self.crossattention.forward(&h, scene, grounding, index, kept.as_deref_mut());
        }
        self.ffn.forward(&h, scene.noise, kept)
    }
}

/// Attention of text to text; queries, keys and values come packed from one matrix.
#[derive(Module, Debug)]
struct SelfAttention {
    qkv: Linear,
    dense: Linear,
    layer_norm: LayerNorm,
    heads: usize,
}

impl SelfAttention {
    fn build(source: &mut dyn Source, path: &str, config: &TextConfig) -> Self {
        let width = config.hidden_size;
        Self {
            qkv: Linear::build(source, &format!("{path}.qkv"), width, 3 * width),
            dense: Linear::build(source, &format!("{path}.dense"), width, width),
            layer_norm: LayerNorm::build(source, &format!("{path}.layer_norm"), width, config.layer_norm_eps),
            heads: config.num_attention_heads,
        }
    }

    fn forward(
        &self,
        h: &Rows,
        scene: &Scene<'_>,
        index: usize,
        cache: Option<&mut KvCache>,
        kept: Option<&mut Kept>,
    ) -> Rows {
        let qkv = self.qkv.forward(h);
        let [rows, width] = qkv.dims();
        let packed = kept.is_some().then(|| qkv.clone());
        let head_dim = width / 3 / self.heads;
        let context = match cache {
            Some(cache) => cache.attend(index, qkv, self.heads, head_dim),
            None => {
                let mut spec = AttentionSpec::packed(scene.batch, rows / scene.batch, self.heads, head_dim);
                spec.causal = (scene.mode == TextMode::Causal).then_some(0);
                look(qkv.clone(), qkv, scene.pads.clone(), spec, (None, scene.noise))
            }
        };
        let x = scene.noise.onto(Branch::Text, &self.dense, &Rows::of(context), h);
        if let Some(kept) = kept {
            kept.extend(packed);
            kept.push(x.clone());
        }
        Rows::normed(x, &self.layer_norm)
    }
}

/// Attention of text to the image, or to a question's states.
#[derive(Module, Debug)]
struct CrossAttention {
    query: Linear,
    kv: Linear,
    dense: Linear,
    layer_norm: LayerNorm,
    heads: usize,
    twin: Option<Twin>,
}

/// A second cross-attention beside the first, for a second image; both end in one norm.
#[derive(Module, Debug)]
struct Twin {
    query: Linear,
    kv: Linear,
    dense: Linear,
    /// Of both results beside each other; without it they are averaged.
    merge: Option<Linear>,
}

impl CrossAttention {
    /// `twin` adds a second one, whose result is merged by a matrix if it says so.
    fn build(
        source: &mut dyn Source,
        path: &str,
        config: &TextConfig,
        grounding_width: usize,
        twin: Option<bool>,
    ) -> Self {
        let width = config.hidden_size;
        let mut linears = |path: &str| {
            let mut linear = |name: &str, inputs: usize, outputs: usize| {
                Linear::build(source, &format!("{path}.{name}"), inputs, outputs)
            };
            let (query, kv) = (linear("query", width, width), linear("kv", grounding_width, 2 * width));
            (query, kv, linear("dense", width, width))
        };
        let (query, kv, dense) = match twin {
            None => linears(path),
            Some(_) => linears(&format!("{path}.first")),
        };
        let second = twin.map(|merged| (linears(&format!("{path}.second")), merged));
        let twin = second.map(|((query, kv, dense), merged)| Twin {
            query,
            kv,
            dense,
            merge: merged.then(|| Linear::build(source, &format!("{path}.merge"), 2 * width, width)),
        });
        let layer_norm =
            LayerNorm::build(source, &format!("{path}.layer_norm"), width, config.layer_norm_eps);
        Self { query, kv, dense, layer_norm, heads: config.num_attention_heads, twin }
    }

    fn forward(
        &self,
        h: &Rows,
        scene: &Scene<'_>,
        grounding: &Grounding,
        index: usize,
        kept: Option<&mut Kept>,
    ) -> Rows {
        let noise = scene.noise;
        let kv = &grounding.kv;
        let query = self.query.forward(h);
        let asked = kept.is_some().then(|| query.clone());
        let context = self.context(query, scene, &kv.layers[index], grounding);
        let Some(twin) = &self.twin else {
            let x = noise.onto(Branch::Text, &self.dense, &context, h);
            if let Some(kept) = kept {
                kept.extend(asked);
                kept.push(x.clone());
            }
            return Rows::normed(x, &self.layer_norm);
        };
        let second = kv.second.get(index).expect("two cross-attentions look at two images");
        let second = self.context(twin.query.forward(h), scene, second, grounding);
        let x = match &twin.merge {
            Some(merge) => {
                let both = kernels::join(self.dense.forward(&context), twin.dense.forward(&second));
                noise.onto(Branch::Text, merge, &Rows::of(both), h)
            }
            None if noise.is_some() => {
                let both = self.dense.forward(&context) + twin.dense.forward(&second);
                noise.thin(Branch::Text, both.mul_scalar(0.5)) + h.clone().settle()
            }
            None => {
                let first = self.dense.forward_half_onto(&context, h);
                twin.dense.forward_half_onto(&second, &Rows::of(first))
            }
        };
        Rows::normed(x, &self.layer_norm)
    }

    /// What queries find in the states behind keys and values.
    fn context(&self, q: Tensor<2>, scene: &Scene<'_>, kv: &Tensor<2>, grounding: &Grounding) -> Rows {
        let [rows, width] = q.dims();
        let (batch, kv_batch) = (scene.batch, grounding.kv.batch);
        let (keys, head_dim) = (kv.dims()[0] / kv_batch, width / self.heads);
        let places = grounding.kv.places();
        // One image serves all rows: they are so many queries of one sequence.
        let batch = if kv_batch == 1 && places.is_none() { 1 } else { batch };
        let spec = AttentionSpec::crossed(batch, rows / batch, kv_batch, keys, self.heads, head_dim);
        Rows::of(look(q, kv.clone(), grounding.pads.clone(), spec, (places, scene.noise)))
    }
}

/// Attention; queries of sequence `i` look at the keys of `places[i]`, and noise leaves keys out.
fn look(
    q: Tensor<2>,
    kv: Tensor<2>,
    pads: Option<Tensor<2, Int>>,
    spec: AttentionSpec,
    (places, noise): (Option<&[u32]>, Noise<'_>),
) -> Tensor<2> {
    #[cfg(feature = "train")]
    {
        let factors = noise.shares(spec.batch * spec.heads * spec.queries * spec.keys);
        if places.is_some() || factors.is_some() {
            return kernels::attention_at(q, kv, pads, kernels::Sight { places, factors }, spec);
        }
    }
    let _ = (places, noise);
    kernels::attention(q, kv, pads, spec)
}

/// The feed-forward sub-layer with residual and norm.
#[derive(Module, Debug)]
struct FeedForward {
    intermediate: Linear,
    output: Linear,
    layer_norm: LayerNorm,
}

impl FeedForward {
    fn forward(&self, h: &Rows, noise: Noise<'_>, kept: Option<&mut Kept>) -> Rows {
        let hidden = Rows::of(self.intermediate.forward_gelu(h));
        let x = noise.onto(Branch::Text, &self.output, &hidden, h);
        if let Some(kept) = kept {
            // The kernel applies GELU in passing, and the gradient needs what went into it.
            kept.push(self.intermediate.forward(h));
            kept.push(x.clone());
        }
        Rows::normed(x, &self.layer_norm)
    }
}
