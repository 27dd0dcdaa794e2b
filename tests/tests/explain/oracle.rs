//! The image-grounded encoder and its match logit out of burn's own operations, with the probabilities
//! of one cross-attention as an input: what automatic differentiation and differences are made of.

use std::collections::BTreeMap;

use blip_tests::compare::values;
use blip_web::config::TextConfig;
use blip_web::weights::Checkpoint;
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// A matching network of a checkpoint with Hugging Face's names.
pub struct Oracle {
    weights: BTreeMap<String, Tensor<2>>,
    config: TextConfig,
    device: Device,
    float: DType,
}

/// Text and picture.
pub struct Pair<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// Image tokens `[states, dim]`, row-major.
    pub tokens: &'a [f32],
}

impl Oracle {
    /// Parameters on `device` as `float`; vectors as single rows.
    pub fn new(config: &TextConfig, checkpoint: &Checkpoint, device: &Device, float: DType) -> Self {
        let mut weights = BTreeMap::new();
        for (name, tensor) in &checkpoint.tensors {
            if name.starts_with("text_encoder") || name.starts_with("itm_head") {
                let shape = match tensor.shape[..] {
                    [rows, columns] => [rows, columns],
                    [columns] => [1, columns],
                    _ => panic!("{name} has the shape {:?}", tensor.shape),
                };
                let data = TensorData::new(tensor.to_f32().unwrap(), shape);
                weights.insert(name.clone(), Tensor::<2>::from_data(data, device).cast(float));
            }
        }
        Self { weights, config: config.clone(), device: device.clone(), float }
    }

    /// The probabilities of a layer's cross-attention, `[1, heads, seq, states]`.
    pub fn probabilities(&self, pair: &Pair<'_>, layer: usize) -> Tensor<4> {
        self.run(pair, layer, None).1
    }

    /// The match logit if a layer's cross-attention had these probabilities: `[1, 1]`.
    pub fn logit(&self, pair: &Pair<'_>, layer: usize, probabilities: Tensor<4>) -> Tensor<2> {
        self.run(pair, layer, Some(probabilities)).0
    }

    /// Grad-CAM by automatic differentiation, `[seq, states]`; the device must record.
    pub fn relevance(&self, pair: &Pair<'_>, layer: usize) -> Vec<f32> {
        let found = self.probabilities(pair, layer);
        let dims = found.dims();
        let data = TensorData::new(values(found), dims);
        let leaf = Tensor::<4>::from_data(data, &self.device).require_grad();
        let gradients = self.logit(pair, layer, leaf.clone()).backward();
        let gradient = leaf.grad(&gradients).unwrap();
        values((leaf.inner() * gradient.clamp_min(0.0)).mean_dim(1))
    }

    fn run(&self, pair: &Pair<'_>, layer: usize, given: Option<Tensor<4>>) -> (Tensor<2>, Tensor<4>) {
        let (width, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let (seq, dim) = (pair.ids.len(), width / heads);
        let ids: Vec<i32> = pair.ids.iter().map(|id| *id as i32).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [seq]), &self.device);
        let states = pair.tokens.len() / self.columns("encoder.layer.0.crossattention.self.key.weight");
        let shape = [states, pair.tokens.len() / states];
        let tokens = TensorData::new(pair.tokens.to_vec(), shape);
        let tokens = Tensor::<2>::from_data(tokens, &self.device).cast(self.float);

        let words = self.text("embeddings.word_embeddings.weight").select(0, ids);
        let places = self.text("embeddings.position_embeddings.weight").narrow(0, 0, seq);
        let mut h = self.norm(words + places, "embeddings.LayerNorm");
        let split = |x: Tensor<2>| {
            let rows = x.dims()[0];
            x.reshape([1, rows, heads, dim]).swap_dims(1, 2)
        };
        let join = |x: Tensor<4>| x.swap_dims(1, 2).reshape([seq, width]);
        let mut seen = None;
        for index in 0..self.config.num_hidden_layers {
            let path = format!("encoder.layer.{index}");
            for (kind, source) in [("attention", None), ("crossattention", Some(&tokens))] {
                let part =
                    |name: &str, x: Tensor<2>| split(self.linear(x, &format!("{path}.{kind}.self.{name}")));
                let source = source.unwrap_or(&h).clone();
                let (q, k) = (part("query", h.clone()), part("key", source.clone()));
                let mut p = softmax(q.matmul(k.swap_dims(2, 3)).div_scalar((dim as f64).sqrt()), 3);
                if kind == "crossattention" && index == layer {
                    p = given.clone().unwrap_or(p);
                    seen = Some(p.clone());
                }
                let context = join(p.matmul(part("value", source)));
                let x = self.linear(context, &format!("{path}.{kind}.output.dense")) + h;
                h = self.norm(x, &format!("{path}.{kind}.output.LayerNorm"));
            }
            let inner = gelu(self.linear(h.clone(), &format!("{path}.intermediate.dense")));
            let x = self.linear(inner, &format!("{path}.output.dense")) + h;
            h = self.norm(x, &format!("{path}.output.LayerNorm"));
        }
        let (weight, bias) = (self.weights["itm_head.weight"].clone(), self.weights["itm_head.bias"].clone());
        let logits = h.narrow(0, 0, 1).matmul(weight.transpose()) + bias;
        (logits.narrow(1, 1, 1), seen.unwrap())
    }

    fn text(&self, name: &str) -> Tensor<2> {
        self.weights[&format!("text_encoder.{name}")].clone()
    }

    fn columns(&self, name: &str) -> usize {
        self.text(name).dims()[1]
    }

    fn linear(&self, x: Tensor<2>, path: &str) -> Tensor<2> {
        x.matmul(self.text(&format!("{path}.weight")).transpose()) + self.text(&format!("{path}.bias"))
    }

    fn norm(&self, x: Tensor<2>, path: &str) -> Tensor<2> {
        let centred = x.clone() - x.mean_dim(1);
        let variance = centred.clone().powi_scalar(2).mean_dim(1);
        let normed = centred / (variance + self.config.layer_norm_eps).sqrt();
        normed * self.text(&format!("{path}.weight")) + self.text(&format!("{path}.bias"))
    }
}
