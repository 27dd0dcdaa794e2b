//! The heads of the three objectives: ITC, ITM and LM (paper §3.2).

use burn::module::{Module, Param};
use burn::nn::LayerNorm;
use burn::tensor::activation::gelu;
use burn::tensor::module::linear as linear_op;
use burn::tensor::{Device, Tensor};

use crate::config::TextConfig;
use crate::nn::{Linear, layer_norm, linear, parameter};

/// Projections of the two class tokens into the space where image and text are compared.
#[derive(Module, Debug)]
pub struct ItcHead {
    vision_proj: Linear,
    text_proj: Linear,
}

impl ItcHead {
    /// A freshly initialised pair of projections.
    pub fn init(vision_width: usize, text_width: usize, width: usize, device: &Device) -> Self {
        Self {
            vision_proj: linear(vision_width, width, device),
            text_proj: linear(text_width, width, device),
        }
    }

    /// Unit-length image features from image tokens: `[batch, tokens, dim]` to `[batch, width]`.
    pub fn image_features(&self, tokens: Tensor<3>) -> Tensor<2> {
        normalise(self.vision_proj.forward(first(tokens)))
    }

    /// Unit-length text features from unimodal states: `[batch, seq, dim]` to `[batch, width]`.
    pub fn text_features(&self, states: Tensor<3>) -> Tensor<2> {
        normalise(self.text_proj.forward(first(states)))
    }
}

/// Match or no match.
#[derive(Module, Debug)]
pub struct ItmHead {
    classifier: Linear,
}

impl ItmHead {
    /// A freshly initialised classifier.
    pub fn init(width: usize, device: &Device) -> Self {
        Self { classifier: linear(width, 2, device) }
    }

    /// Logits from image-grounded states, index 1 = match: `[batch, seq, dim]` to `[batch, 2]`.
    pub fn forward(&self, states: Tensor<3>) -> Tensor<2> {
        self.classifier.forward(first(states))
    }
}

/// Scores of every vocabulary entry; its matrix is the word embedding unless the file says otherwise.
#[derive(Module, Debug)]
pub struct LmHead {
    transform: Linear,
    layer_norm: LayerNorm,
    decoder: Option<Param<Tensor<2>>>,
    bias: Param<Tensor<1>>,
}

impl LmHead {
    /// A freshly initialised head.
    pub fn init(config: &TextConfig, tied: bool, device: &Device) -> Self {
        let width = config.hidden_size;
        Self {
            transform: linear(width, width, device),
            layer_norm: layer_norm(width, config.layer_norm_eps, device),
            decoder: (!tied).then(|| parameter([config.vocab_size, width], device)),
            bias: burn::nn::Initializer::Zeros.init([config.vocab_size], device),
        }
    }

    /// Scores of the token that follows each state.
    ///
    /// # Shapes
    /// - states: `[batch, seq, dim]`
    /// - embedding: `[vocab, dim]`, the word embedding that a tied head uses
    /// - output: `[batch, seq, vocab]`
    pub fn forward(&self, states: Tensor<3>, embedding: Tensor<2>) -> Tensor<3> {
        let states = self.layer_norm.forward(gelu(self.transform.forward(states)));
        let matrix = self.decoder.as_ref().map_or(embedding, Param::val);
        linear_op(states, matrix.transpose(), Some(self.bias.val()))
    }
}

/// Cosines of all pairs of unit-length features: `[images, width] × [texts, width]` to `[images, texts]`.
pub fn cosine(images: Tensor<2>, texts: Tensor<2>) -> Tensor<2> {
    images.matmul(texts.transpose())
}

/// The class token's state: `[batch, seq, dim]` to `[batch, dim]`.
fn first(states: Tensor<3>) -> Tensor<2> {
    let [batch, _, dim] = states.dims();
    states.narrow(1, 0, 1).reshape([batch, dim])
}

/// Divides each row by its length, at least 1e-12 as the reference does.
fn normalise(features: Tensor<2>) -> Tensor<2> {
    let length = features.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    features / length
}
