//! The BLIP model: an image encoder, one kind of text transformer in three modes, three heads.
//!
//! Pure functions of tensors: no I/O, no clock, no global state. The same `forward` runs on every
//! device, for training and for inference. Wrong shapes in here are bugs and panic; user data is
//! checked before it gets this far.

mod cache;
mod heads;
mod med;
mod networks;
mod positions;
mod vision;

pub use crate::kernels::integers;
pub use cache::KvCache;
pub use heads::{ItcHead, ItmHead, LmHead, PairHead, cosine};
pub use med::{CrossKv, Grounding, LayerNumbers, Layout, Med, MedLayer, Relevance, TextMode, Trace};
pub use networks::{DecoderNetwork, Networks};
pub use positions::bicubic_taps;
#[cfg(not(target_family = "wasm"))]
pub use positions::interpolate_positions;
pub use vision::VisionModel;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use crate::kernels;
#[cfg(feature = "train")]
use crate::nn::Noise;
use crate::nn::{RandomSource, Rows, Source};

use crate::config::BlipConfig;

/// A BLIP model with the networks that its checkpoint holds (see [`Networks`]).
///
/// Parameters are named after the fields: `text_decoder.layers.3.crossattention.query.weight`.
#[derive(Module, Debug)]
pub struct Blip {
    /// Image encoder.
    pub vision: VisionModel,
    /// Text network for the unimodal and the image-grounded encoder.
    pub text_encoder: Option<Med>,
    /// Text network that generates; `None` also when the encoder's parameters are shared with it.
    pub text_decoder: Option<Med>,
    /// Language-model head of the decoder.
    pub lm: Option<LmHead>,
    /// Projections of the image-text contrastive objective.
    pub itc: Option<ItcHead>,
    /// Two-way classifier of the image-text matching objective.
    pub itm: Option<ItmHead>,
    /// Two-way classifier of statements about two images.
    pub nlvr2: Option<PairHead>,
}

impl Blip {
    /// A model of this shape with freshly initialised parameters.
    pub fn init(config: &BlipConfig, networks: &Networks, device: &Device) -> Self {
        Self::build(&mut RandomSource::new(device), config, networks)
    }

    /// A model of this shape with the source's parameters.
    pub fn build(source: &mut dyn Source, config: &BlipConfig, networks: &Networks) -> Self {
        let vision = VisionModel::build(source, &config.vision_config);
        Self::build_over(vision, source, config, networks)
    }

    /// Text networks and heads with the source's parameters, over an image encoder that there is.
    pub fn build_over(
        tower: VisionModel,
        source: &mut dyn Source,
        config: &BlipConfig,
        networks: &Networks,
    ) -> Self {
        let (vision, text) = (&config.vision_config, &config.text_config);
        let layout = match networks.decoder {
            _ if networks.nlvr2 => Layout::Twin,
            Some(DecoderNetwork::Shared) => Layout::Shared,
            Some(DecoderNetwork::Own { .. }) | None => Layout::Single,
        };
        Self {
            vision: tower,
            text_encoder: networks
                .text_encoder
                .then(|| Med::build(source, "text_encoder", text, vision.hidden_size, layout)),
            text_decoder: match networks.decoder {
                Some(DecoderNetwork::Own { grounding_width }) => {
                    Some(Med::build(source, "text_decoder", text, grounding_width, Layout::Single))
                }
                Some(DecoderNetwork::Shared) | None => None,
            },
            lm: networks.decoder.is_some().then(|| LmHead::build(source, text, networks.tied_lm)),
            itc: networks.itc.then(|| {
                ItcHead::build(source, vision.hidden_size, text.hidden_size, config.image_text_hidden_size)
            }),
            itm: networks.itm.then(|| ItmHead::build(source, text.hidden_size)),
            nlvr2: networks.nlvr2.then(|| PairHead::build(source, text.hidden_size)),
        }
    }

    /// The network that decodes: its own, or the encoder's when the two share their parameters.
    pub fn decoder(&self) -> Option<&Med> {
        self.text_decoder.as_ref().or(self.text_encoder.as_ref().filter(|med| med.has_causal_attention()))
    }

    /// Scores of every vocabulary entry after each token.
    ///
    /// # Shapes
    /// - ids: `[batch, seq]`, `[DEC]` first
    /// - pads: `[batch, seq]`, 1 at padding
    /// - output: `[batch, seq, vocab]`
    ///
    /// # Panics
    /// When the model has no decoder; [`Networks`] says so beforehand.
    pub fn lm_logits(
        &self,
        ids: Tensor<2, Int>,
        pads: Option<Tensor<2, Int>>,
        grounding: &Grounding,
    ) -> Tensor<3> {
        let (med, lm) = self.captioner();
        let states = med.forward(ids, pads, Some(grounding), TextMode::Causal);
        let [batch, seq, width] = states.dims();
        let states = Rows::of(kernels::view(states, [batch * seq, width]));
        let logits = lm.forward(&states, med.word_embeddings());
        let vocab = logits.dims()[1];
        kernels::view(logits, [batch, seq, vocab])
    }

    /// As [`lm_logits`](Self::lm_logits), after some of the tokens only: a loss asks for no others.
    ///
    /// # Shapes
    /// - places: `[tokens]`, of the states `[batch·seq, dim]`
    /// - output: `[tokens, vocab]`
    ///
    /// # Panics
    /// As [`lm_logits`](Self::lm_logits).
    #[cfg(feature = "train")]
    pub fn lm_logits_after(
        &self,
        ids: Tensor<2, Int>,
        grounding: &Grounding,
        places: Tensor<1, Int>,
        noise: Noise<'_>,
    ) -> Tensor<2> {
        let (med, lm) = self.captioner();
        // Padding stands at the end, where no real token looks: the causal mask hides it already.
        let states = med.forward_noisy(ids, None, Some(grounding), TextMode::Causal, noise);
        let [batch, seq, width] = states.dims();
        let states = states.reshape([batch * seq, width]).select(0, places);
        lm.forward(&Rows::of(states), med.word_embeddings())
    }

    /// Scores of the token after the one that the cache was fed last: `[rows, vocab]`.
    ///
    /// The caller counts the step ([`KvCache::advance`], [`KvCache::choose`]).
    ///
    /// # Panics
    /// As [`lm_logits`](Self::lm_logits).
    pub fn step_logits(&self, grounding: &Grounding, cache: &mut KvCache) -> Tensor<2> {
        let (med, lm) = self.captioner();
        lm.forward(&med.step(grounding, cache), med.word_embeddings())
    }

    /// Puts the token that the cache was fed last into the caches, without scoring what follows.
    ///
    /// # Panics
    /// As [`lm_logits`](Self::lm_logits).
    pub fn remember(&self, grounding: &Grounding, cache: &mut KvCache) {
        self.captioner().0.step(grounding, cache);
    }

    fn captioner(&self) -> (&Med, &LmHead) {
        let med = self.decoder().expect("the caller checked that the model has a decoder");
        (med, self.lm.as_ref().expect("a decoder comes with its head"))
    }
}
