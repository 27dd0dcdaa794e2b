//! Scaled dot-product attention over heads.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Tensor};

/// `softmax(q·kᵀ / √head_dim)·v`.
///
/// One set of keys and values may serve many queries: with `k` and `v` of batch 1 and no mask, the
/// batch of `q` is folded into its sequence, so beams share one image's keys without a copy.
///
/// # Shapes
/// - q: `[batch, heads, queries, head_dim]`
/// - k, v: `[batch or 1, heads, keys, head_dim]`
/// - mask: `[batch or 1, 1, queries or 1, keys]`, true where a key must not be seen
/// - output: `[batch, heads, queries, head_dim]`
pub fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, mask: Option<Tensor<4, Bool>>) -> Tensor<4> {
    let [batch, heads, queries, head_dim] = q.dims();
    let [kv_batch, _, keys, _] = k.dims();
    if kv_batch == 1 && batch > 1 && mask.is_none() {
        let folded = q.swap_dims(0, 1).reshape([1, heads, batch * queries, head_dim]);
        let out = attend(folded, k, v, None);
        return out.reshape([heads, batch, queries, head_dim]).swap_dims(0, 1);
    }
    let scale = 1.0 / (head_dim as f64).sqrt();
    let mut scores = q.mul_scalar(scale).matmul(k.swap_dims(2, 3));
    if let Some(mask) = mask {
        // A finite value instead of -inf: a row whose keys are all hidden stays a number.
        scores = scores.mask_fill(mask.expand([batch, heads, queries, keys]), -1e9);
    }
    softmax(scores, 3).matmul(v)
}

/// `[batch, seq, heads·head_dim]` to `[batch, heads, seq, head_dim]`.
pub fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, seq, width] = x.dims();
    x.reshape([batch, seq, heads, width / heads]).swap_dims(1, 2)
}

/// `[batch, heads, seq, head_dim]` to `[batch, seq, heads·head_dim]`.
pub fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, seq, head_dim] = x.dims();
    x.swap_dims(1, 2).reshape([batch, seq, heads * head_dim])
}
