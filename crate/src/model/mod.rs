//! The BLIP model: an image encoder, one kind of text transformer in three modes, three heads.
//!
//! Pure functions of tensors: no I/O, no clock, no global state. The same `forward` runs on every
//! device, for training and for inference. Wrong shapes in here are bugs and panic; user data is
//! checked before it gets this far.

mod heads;
mod med;
mod networks;
mod positions;
mod vision;

pub use heads::{ItcHead, ItmHead, LmHead, cosine};
pub use med::{CrossKv, Grounding, KvCache, Med, MedLayer, TextMode};
pub use networks::{DecoderNetwork, Networks};
pub use positions::{bicubic_taps, interpolate_positions};
pub use vision::VisionModel;

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor};

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
}

impl Blip {
    /// A model of this shape with freshly initialised parameters.
    pub fn init(config: &BlipConfig, networks: &Networks, device: &Device) -> Self {
        let (vision, text) = (&config.vision_config, &config.text_config);
        let shared = matches!(networks.decoder, Some(DecoderNetwork::Shared));
        Self {
            vision: VisionModel::init(vision, device),
            text_encoder: networks.text_encoder.then(|| Med::init(text, vision.hidden_size, shared, device)),
            text_decoder: match networks.decoder {
                Some(DecoderNetwork::Own { grounding_width }) => {
                    Some(Med::init(text, grounding_width, false, device))
                }
                Some(DecoderNetwork::Shared) | None => None,
            },
            lm: networks.decoder.is_some().then(|| LmHead::init(text, networks.tied_lm, device)),
            itc: networks.itc.then(|| {
                ItcHead::init(vision.hidden_size, text.hidden_size, config.image_text_hidden_size, device)
            }),
            itm: networks.itm.then(|| ItmHead::init(text.hidden_size, device)),
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
    /// - pads: `[batch, seq]`, true at padding
    /// - output: `[batch, seq, vocab]`
    ///
    /// # Panics
    /// When the model has no decoder; [`Networks`] says so beforehand.
    pub fn lm_logits(
        &self,
        ids: Tensor<2, Int>,
        pads: Option<Tensor<2, Bool>>,
        grounding: &Grounding,
        cache: Option<&mut KvCache>,
    ) -> Tensor<3> {
        let med = self.decoder().expect("the caller checked that the model has a decoder");
        let states = med.forward(ids, pads, Some(grounding), TextMode::Causal, cache);
        self.score_states(states)
    }

    /// Like [`lm_logits`](Self::lm_logits), but only for the last position: `[batch, vocab]`.
    pub fn last_logits(&self, ids: Tensor<2, Int>, grounding: &Grounding, cache: &mut KvCache) -> Tensor<2> {
        let med = self.decoder().expect("the caller checked that the model has a decoder");
        let states = med.forward(ids, None, Some(grounding), TextMode::Causal, Some(cache));
        let [batch, seq, width] = states.dims();
        let logits = self.score_states(states.slice([0..batch, seq - 1..seq, 0..width]));
        let vocab = logits.dims()[2];
        logits.reshape([batch, vocab])
    }

    fn score_states(&self, states: Tensor<3>) -> Tensor<3> {
        let med = self.decoder().expect("the caller checked that the model has a decoder");
        let lm = self.lm.as_ref().expect("a decoder comes with its head");
        lm.forward(states, med.word_embeddings())
    }
}
