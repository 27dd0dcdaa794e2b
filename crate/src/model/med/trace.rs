//! A pass over one text that keeps what a reverse pass needs.

use burn::tensor::{Int, Tensor};

use super::{Grounding, Med, TextMode};
use crate::nn::Noise;

/// What a layer computed, in this order: queries, keys and values of self-attention; the sum before its
/// norm; queries of cross-attention; the sum before its norm; what goes into GELU; the last sum.
pub(super) type Kept = Vec<Tensor<2>>;

/// A pass of image-grounded text, from some layer on.
#[derive(Debug)]
pub struct Trace {
    /// States of every token, `[1, seq, dim]`.
    pub states: Tensor<3>,
    kept: Vec<Kept>,
    first: usize,
}

impl Med {
    /// The image-grounded states of one text, and what the layers from `first` on computed.
    ///
    /// # Shapes
    /// - ids: `[1, seq]`
    ///
    /// # Panics
    /// As [`forward`](Self::forward), when there is no layer `first`, and when the network has two
    /// cross-attentions.
    pub fn trace(&self, ids: Tensor<2, Int>, grounding: &Grounding, first: usize) -> Trace {
        assert!(first < self.depth(), "layer {first} of {}", self.depth());
        assert!(
            self.layers.iter().all(|layer| layer.crossattention.twin.is_none()),
            "one image is looked at"
        );
        let mut kept = vec![Kept::new(); self.depth() - first];
        let states = self.pass(ids, None, Some(grounding), (TextMode::Grounded, Noise::NONE), &mut kept);
        Trace { states, kept, first }
    }

    /// What [`LayerNumbers::new`](super::LayerNumbers::new) is made of, to be read back: a layer's
    /// activations and parameters. Of the first layer of the trace, only what stands behind its
    /// cross-attention.
    ///
    /// # Panics
    /// When the trace begins behind that layer.
    pub fn traced(&self, trace: &Trace, grounding: &Grounding, layer: usize) -> Vec<Tensor<2>> {
        let float = self.activations();
        let [qkv, attended, query, crossed, hidden, output] = trace.kept[layer - trace.first]
            .clone()
            .try_into()
            .unwrap_or_else(|kept: Kept| panic!("a layer keeps six tensors, not {}", kept.len()));
        let parts = &self.layers[layer];
        let (attention, cross, ffn) = (&parts.attention, &parts.crossattention, &parts.ffn);
        let mut all = vec![
            output,
            ffn.layer_norm.scale_shift(),
            ffn.output.matrix().numbers(float),
            hidden,
            ffn.intermediate.matrix().numbers(float),
            crossed,
            cross.layer_norm.scale_shift(),
            cross.dense.matrix().numbers(float),
            query,
            grounding.kv.layers[layer].clone(),
        ];
        if layer > trace.first {
            all.extend([
                cross.query.matrix().numbers(float),
                attended,
                attention.layer_norm.scale_shift(),
                attention.dense.matrix().numbers(float),
                qkv,
                attention.qkv.matrix().numbers(float),
            ]);
        }
        all
    }
}
