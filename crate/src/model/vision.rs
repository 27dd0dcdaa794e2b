//! The vision transformer (paper §3.1; ViT with pre-norm blocks and one final norm over all tokens).

#[cfg(feature = "train")]
use burn::module::ParamId;
use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

use super::positions::positions_for;
#[cfg(feature = "train")]
use super::positions::wave_table;
use crate::config::VisionConfig;
use crate::kernels::{self, AttentionSpec};
use crate::nn::{Branch, LayerNorm, Linear, Noise, Rows, Source};

/// Image encoder: pixels to image tokens.
#[derive(Module, Debug)]
pub struct VisionModel {
    class_embedding: Param<Tensor<1>>,
    position_embedding: Param<Tensor<2>>,
    patch_embedding: Linear,
    layers: Vec<VisionBlock>,
    post_layernorm: LayerNorm,
    patch: usize,
}

impl VisionModel {
    /// An encoder with the source's parameters.
    pub fn build(source: &mut dyn Source, config: &VisionConfig) -> Self {
        let width = config.hidden_size;
        let inputs = 3 * config.patch_size * config.patch_size;
        Self {
            class_embedding: source.vector("vision.class_embedding", width),
            position_embedding: source.table("vision.position_embedding", [config.tokens(), width]),
            patch_embedding: Linear::build(source, "vision.patch_embedding", inputs, width),
            layers: (0..config.num_hidden_layers)
                .map(|index| VisionBlock::build(source, &format!("vision.layers.{index}"), config))
                .collect(),
            post_layernorm: LayerNorm::build(source, "vision.post_layernorm", width, config.layer_norm_eps),
            patch: config.patch_size,
        }
    }

    /// The float type of pixels and tokens.
    pub fn activations(&self) -> DType {
        self.position_embedding.dtype()
    }

    /// Image tokens, normalised; token 0 is the class token.
    ///
    /// A picture of another size than the configuration's gets an interpolated position table.
    ///
    /// # Shapes
    /// - pixels: `[batch, 3, height, width]`, normalised with CLIP's mean and deviation
    /// - output: `[batch, 1 + patches, dim]`
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        self.forward_noisy(pixels, Noise::NONE)
    }

    /// As [`forward`](Self::forward), leaving out what `noise` says.
    pub fn forward_noisy(&self, pixels: Tensor<4>, noise: Noise<'_>) -> Tensor<3> {
        let [_, _, height, width] = pixels.dims();
        let grid = [height / self.patch, width / self.patch];
        self.encode(flatten(pixels, self.patch), grid, noise)
    }

    /// As [`forward`](Self::forward), for pixels that are cut into patches already.
    ///
    /// # Shapes
    /// - patches: `[batch, rows·columns, 3·patch²]`, each by channel, y, x
    /// - grid: rows and columns
    pub fn forward_patches(&self, patches: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        self.encode(patches, grid, Noise::NONE)
    }

    fn encode(&self, patches: Tensor<3>, grid: [usize; 2], noise: Noise<'_>) -> Tensor<3> {
        let (batch, depth) = (patches.dims()[0], self.layers.len());
        let mut x = self.embed(patches, grid);
        for (block, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, Branch::Image { block, depth, batch }, noise);
        }
        unflatten(self.post_layernorm.forward(x), batch)
    }

    /// The output of the embedding and of each block in turn, then the final norm's: the probes
    /// that tell at which layer two implementations part.
    pub fn forward_probes(&self, pixels: Tensor<4>) -> Vec<Tensor<3>> {
        let [batch, _, height, width] = pixels.dims();
        let grid = [height / self.patch, width / self.patch];
        let mut x = self.embed(flatten(pixels, self.patch), grid);
        let mut probes = vec![unflatten(x.clone(), batch)];
        let depth = self.layers.len();
        for (block, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, Branch::Image { block, depth, batch }, Noise::NONE);
            probes.push(unflatten(x.clone(), batch));
        }
        probes.push(unflatten(self.post_layernorm.forward(x), batch));
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
        // A parameter is a leaf of the graph; what is computed from one is not, and would never train.
        self.patch_embedding = self.patch_embedding.with_parameter(|filters| {
            let values = filters.val();
            let [width, inputs] = values.dims();
            let values = values.reshape([width, 3, inputs / 3]);
            let values = (values.clone() - values.mean_dim(2)).reshape([width, inputs]);
            filters.map(|_| values.detach().require_grad())
        });
        let table = wave_table(self.position_embedding.val());
        self.position_embedding = self.position_embedding.map(|_| table.require_grad());
        self
    }

    /// The patch filters `[dim, 3·patch²]` and the position table `[tokens, dim]`, which training
    /// may hold fixed at first.
    #[cfg(feature = "train")]
    pub fn stem(&self) -> (ParamId, ParamId) {
        let filters = self.patch_embedding.matrix().parameter().expect("only plain matrices are trained");
        (filters.id, self.position_embedding.id)
    }

    /// `[batch, patches, 3·patch²]` to `[batch·(1 + patches), dim]`.
    fn embed(&self, patches: Tensor<3>, [rows, columns]: [usize; 2]) -> Tensor<2> {
        let [batch, count, inputs] = patches.dims();
        // A stride-`patch` convolution is a matrix product over flattened patches.
        let patches = Rows::of(kernels::view(patches, [batch * count, inputs]));
        let patches = self.patch_embedding.forward(&patches);
        let positions = positions_for(self.position_embedding.val(), rows, columns);
        kernels::assemble(patches, self.class_embedding.val(), positions, batch)
    }
}

/// `[batch·tokens, dim]` to `[batch, tokens, dim]`.
fn unflatten(x: Tensor<2>, batch: usize) -> Tensor<3> {
    let [rows, width] = x.dims();
    kernels::view(x, [batch, rows / batch, width])
}

/// `[batch, channels, height, width]` to `[batch, patches, channels·patch²]`, each by channel, y, x.
fn flatten(pixels: Tensor<4>, patch: usize) -> Tensor<3> {
    let [batch, channels, height, width] = pixels.dims();
    let (rows, columns) = (height / patch, width / patch);
    let patches = pixels
        .slice([0..batch, 0..channels, 0..rows * patch, 0..columns * patch])
        .reshape([batch, channels, rows, patch, columns, patch])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([batch, rows * columns, channels * patch * patch]);
    // What the permutation left in another order, the kernels could not read.
    kernels::contiguous(patches)
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
    fn build(source: &mut dyn Source, path: &str, config: &VisionConfig) -> Self {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        Self {
            layer_norm1: LayerNorm::build(source, &format!("{path}.layer_norm1"), width, eps),
            attention: VisionAttention {
                qkv: Linear::build(source, &format!("{path}.attention.qkv"), width, 3 * width),
                projection: Linear::build(source, &format!("{path}.attention.projection"), width, width),
                heads: config.num_attention_heads,
            },
            layer_norm2: LayerNorm::build(source, &format!("{path}.layer_norm2"), width, eps),
            mlp: VisionMlp {
                fc1: Linear::build(source, &format!("{path}.mlp.fc1"), width, config.intermediate_size),
                fc2: Linear::build(source, &format!("{path}.mlp.fc2"), config.intermediate_size, width),
            },
        }
    }

    /// `[batch·tokens, dim]` to the same.
    fn forward(&self, x: Tensor<2>, branch: Branch, noise: Noise<'_>) -> Tensor<2> {
        let residual = Rows::of(x.clone());
        let x = self.attention.forward(&Rows::normed(x, &self.layer_norm1), &residual, branch, noise);
        let residual = Rows::of(x.clone());
        self.mlp.forward(&Rows::normed(x, &self.layer_norm2), &residual, branch, noise)
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
    fn forward(&self, x: &Rows, residual: &Rows, branch: Branch, noise: Noise<'_>) -> Tensor<2> {
        let Branch::Image { batch, .. } = branch else { unreachable!("a block of the image encoder") };
        let qkv = self.qkv.forward(x);
        let [rows, width] = qkv.dims();
        let spec = AttentionSpec::packed(batch, rows / batch, self.heads, width / 3 / self.heads);
        let context = kernels::attention(qkv.clone(), qkv, None, spec);
        noise.onto(branch, &self.projection, &Rows::of(context), residual)
    }
}

/// The feed-forward sub-layer.
#[derive(Module, Debug)]
struct VisionMlp {
    fc1: Linear,
    fc2: Linear,
}

impl VisionMlp {
    fn forward(&self, x: &Rows, residual: &Rows, branch: Branch, noise: Noise<'_>) -> Tensor<2> {
        noise.onto(branch, &self.fc2, &Rows::of(self.fc1.forward_gelu(x)), residual)
    }
}
