//! The vision transformer (paper §3.1; ViT with pre-norm blocks and one final norm over all tokens).

#[cfg(feature = "train")]
use burn::module::ParamId;
use burn::module::{Module, Param};
use burn::nn::LayerNorm;
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};

use super::positions::interpolate_positions;
#[cfg(feature = "train")]
use super::positions::wave_table;
use crate::config::VisionConfig;
use crate::nn::{Linear, attend, layer_norm, linear, merge_heads, parameter, split_heads};

/// Image encoder: pixels to image tokens.
#[derive(Module, Debug)]
pub struct VisionModel {
    class_embedding: Param<Tensor<3>>,
    position_embedding: Param<Tensor<3>>,
    patch_embedding: Linear,
    layers: Vec<VisionBlock>,
    post_layernorm: LayerNorm,
    patch: usize,
}

impl VisionModel {
    /// A freshly initialised encoder.
    pub fn init(config: &VisionConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        Self {
            class_embedding: parameter([1, 1, width], device),
            position_embedding: parameter([1, config.tokens(), width], device),
            patch_embedding: linear(3 * config.patch_size * config.patch_size, width, device),
            layers: (0..config.num_hidden_layers).map(|_| VisionBlock::init(config, device)).collect(),
            post_layernorm: layer_norm(width, config.layer_norm_eps, device),
            patch: config.patch_size,
        }
    }

    /// Image tokens, normalised; token 0 is the class token.
    ///
    /// A picture of another size than the configuration's gets an interpolated position table.
    ///
    /// # Shapes
    /// - pixels: `[batch, 3, height, width]`, normalised with CLIP's mean and deviation
    /// - output: `[batch, 1 + patches, dim]`
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let mut x = self.embed(pixels);
        for layer in &self.layers {
            x = layer.forward(x);
        }
        self.post_layernorm.forward(x)
    }

    /// The output of the embedding and of each block in turn, then the final norm's: the probes
    /// that tell at which layer two implementations part.
    pub fn forward_probes(&self, pixels: Tensor<4>) -> Vec<Tensor<3>> {
        let mut probes = vec![self.embed(pixels)];
        for layer in &self.layers {
            let x = layer.forward(probes[probes.len() - 1].clone());
            probes.push(x);
        }
        probes.push(self.post_layernorm.forward(probes[probes.len() - 1].clone()));
        probes
    }

    /// A fresh encoder made quicker to train from nothing.
    ///
    /// Each patch filter loses its mean per channel, so that a plain ground projects to zero instead
    /// of drowning the shapes; positions start as sines and cosines of row and column, as strong as
    /// the shapes, instead of as faint noise. Weights loaded from a file replace both.
    #[cfg(feature = "train")]
    #[must_use]
    pub fn prepared_for_training(mut self) -> Self {
        let filters = self.patch_embedding.weight.val();
        let [inputs, width] = filters.dims();
        let filters = filters.reshape([3, inputs / 3, width]);
        let filters = (filters.clone() - filters.mean_dim(1)).reshape([inputs, width]);
        // A parameter is a leaf of the graph; what is computed from one is not, and would never train.
        self.patch_embedding.weight = self.patch_embedding.weight.map(|_| filters.detach().require_grad());
        let table = wave_table(self.position_embedding.val());
        self.position_embedding = self.position_embedding.map(|_| table.require_grad());
        self
    }

    /// The patch filters `[3·patch², dim]` and the position table `[1, tokens, dim]`, which training
    /// may hold fixed at first.
    #[cfg(feature = "train")]
    pub fn stem(&self) -> (ParamId, ParamId) {
        (self.patch_embedding.weight.id, self.position_embedding.id)
    }

    fn embed(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [batch, channels, height, width] = pixels.dims();
        let patch = self.patch;
        let (rows, columns) = (height / patch, width / patch);
        // A stride-`patch` convolution is a matrix product over flattened patches (channel, y, x).
        let patches = pixels
            .slice([0..batch, 0..channels, 0..rows * patch, 0..columns * patch])
            .reshape([batch, channels, rows, patch, columns, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, rows * columns, channels * patch * patch]);
        let patches = self.patch_embedding.forward(patches);
        let dim = patches.dims()[2];
        let class = self.class_embedding.val().expand([batch, 1, dim]);
        let positions = interpolate_positions(self.position_embedding.val(), rows, columns);
        Tensor::cat(vec![class, patches], 1) + positions
    }
}

/// One pre-norm block: attention and feed-forward, each with its residual.
#[derive(Module, Debug)]
struct VisionBlock {
    layer_norm1: LayerNorm,
    attention: VisionAttention,
    layer_norm2: LayerNorm,
    mlp: VisionMlp,
}

impl VisionBlock {
    fn init(config: &VisionConfig, device: &Device) -> Self {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        Self {
            layer_norm1: layer_norm(width, eps, device),
            attention: VisionAttention {
                qkv: linear(width, 3 * width, device),
                projection: linear(width, width, device),
                heads: config.num_attention_heads,
            },
            layer_norm2: layer_norm(width, eps, device),
            mlp: VisionMlp {
                fc1: linear(width, config.intermediate_size, device),
                fc2: linear(config.intermediate_size, width, device),
            },
        }
    }

    /// `[batch, tokens, dim]` to the same.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.attention.forward(self.layer_norm1.forward(x.clone())) + x;
        self.mlp.forward(self.layer_norm2.forward(x.clone())) + x
    }
}

/// Self-attention over image tokens; queries, keys and values come packed from one matrix.
#[derive(Module, Debug)]
struct VisionAttention {
    qkv: Linear,
    projection: Linear,
    heads: usize,
}

impl VisionAttention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let width = x.dims()[2];
        let qkv = self.qkv.forward(x);
        let part = |index: usize| split_heads(qkv.clone().narrow(2, index * width, width), self.heads);
        self.projection.forward(merge_heads(attend(part(0), part(1), part(2), None)))
    }
}

/// The feed-forward sub-layer.
#[derive(Module, Debug)]
struct VisionMlp {
    fc1: Linear,
    fc2: Linear,
}

impl VisionMlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.fc2.forward(gelu(self.fc1.forward(x)))
    }
}
