//! The heads of the three objectives: ITC, ITM and LM (paper §3.2).

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::config::TextConfig;
use crate::kernels::{self, Activation};
use crate::nn::{LayerNorm, Linear, Matrix, Rows, Source};

/// Projections of the two class tokens into the space where image and text are compared.
#[derive(Module, Debug)]
pub struct ItcHead {
    vision_proj: Linear,
    text_proj: Linear,
}

impl ItcHead {
    /// Projections with the source's parameters.
    pub fn build(source: &mut dyn Source, vision_width: usize, text_width: usize, width: usize) -> Self {
        Self {
            vision_proj: Linear::build(source, "itc.vision_proj", vision_width, width),
            text_proj: Linear::build(source, "itc.text_proj", text_width, width),
        }
    }

    /// Unit-length image features from image tokens: `[batch, tokens, dim]` to `[batch, width]`.
    pub fn image_features(&self, tokens: Tensor<3>) -> Tensor<2> {
        kernels::normalise(self.vision_proj.forward(&class_tokens(tokens)))
    }

    /// As [`image_features`](Self::image_features), before they are brought to unit length.
    pub fn image_projections(&self, tokens: Tensor<3>) -> Tensor<2> {
        self.vision_proj.forward(&class_tokens(tokens))
    }

    /// Unit-length text features from unimodal states: `[batch, seq, dim]` to `[batch, width]`.
    pub fn text_features(&self, states: Tensor<3>) -> Tensor<2> {
        kernels::normalise(self.text_proj.forward(&class_tokens(states)))
    }
}

/// Match or no match.
#[derive(Module, Debug)]
pub struct ItmHead {
    classifier: Linear,
}

impl ItmHead {
    /// A classifier with the source's parameters.
    pub fn build(source: &mut dyn Source, width: usize) -> Self {
        Self { classifier: Linear::build(source, "itm.classifier", width, 2) }
    }

    /// Logits from image-grounded states, index 1 = match: `[batch, seq, dim]` to `[batch, 2]`.
    pub fn forward(&self, states: Tensor<3>) -> Tensor<2> {
        self.classifier.forward(&class_tokens(states))
    }

    /// The matrix `[2, dim]`: the gradients of both logits with respect to the first state.
    pub fn matrix(&self) -> &Matrix {
        self.classifier.matrix()
    }
}

/// Whether a statement holds for two images (NLVR2, paper §5.4).
#[derive(Module, Debug)]
pub struct PairHead {
    hidden: Linear,
    classifier: Linear,
}

impl PairHead {
    /// A classifier with the source's parameters.
    pub fn build(source: &mut dyn Source, width: usize) -> Self {
        Self {
            hidden: Linear::build(source, "nlvr2.hidden", width, width),
            classifier: Linear::build(source, "nlvr2.classifier", width, 2),
        }
    }

    /// Logits from states grounded in both images, index 1 = true: `[batch, seq, dim]` to `[batch, 2]`.
    pub fn forward(&self, states: Tensor<3>) -> Tensor<2> {
        self.classifier.forward(&Rows::of(self.hidden.forward_relu(&class_tokens(states))))
    }
}

/// Scores of every vocabulary entry; its matrix is the word embedding unless the file says otherwise.
#[derive(Module, Debug)]
pub struct LmHead {
    transform: Linear,
    layer_norm: LayerNorm,
    decoder: Option<Matrix>,
    bias: Param<Tensor<1>>,
}

impl LmHead {
    /// A head with the source's parameters.
    pub fn build(source: &mut dyn Source, config: &TextConfig, tied: bool) -> Self {
        let width = config.hidden_size;
        Self {
            transform: Linear::build(source, "lm.transform", width, width),
            layer_norm: LayerNorm::build(source, "lm.layer_norm", width, config.layer_norm_eps),
            decoder: (!tied).then(|| source.matrix("lm.decoder", [config.vocab_size, width])),
            bias: source.vector("lm.bias", config.vocab_size),
        }
    }

    /// Scores of the token that follows each state: `[rows, dim]` to `[rows, vocab]`.
    ///
    /// `embedding` is the word embedding `[vocab, dim]`, which a tied head uses.
    pub fn forward(&self, states: &Rows, embedding: &Matrix) -> Tensor<2> {
        let states = Rows::normed(self.transform.forward_gelu(states), &self.layer_norm);
        let matrix = self.decoder.as_ref().unwrap_or(embedding);
        matrix.multiply(&states, Some(self.bias.val()), Activation::None, None)
    }
}

/// Cosines of all pairs of unit-length features: `[images, width] × [texts, width]` to `[images, texts]`.
pub fn cosine(images: Tensor<2>, texts: Tensor<2>) -> Tensor<2> {
    let texts = Matrix::from_parameter(Param::from_tensor(texts));
    texts.multiply(&Rows::of(images), None, Activation::None, None)
}

/// The class tokens of `[batch, seq, dim]`.
fn class_tokens(states: Tensor<3>) -> Rows {
    let [batch, seq, dim] = states.dims();
    Rows::first_of(kernels::view(states, [batch * seq, dim]), seq)
}
