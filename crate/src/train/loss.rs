//! Losses of the three objectives (paper §3.2).

use burn::tensor::activation::log_softmax;
use burn::tensor::{Bool, Int, Tensor};

/// Next-token cross-entropy with label smoothing, averaged over the targets that count.
///
/// A target is token `t + 1` seen from position `t`; padding and the prompt do not count.
/// With `K` entries and smoothing `ε`: `(1 − ε)(−log p_y) + (ε/K)·Σ_v(−log p_v)`.
///
/// # Shapes
/// - logits: `[batch, seq, vocab]`
/// - ids: `[batch, seq]`
/// - ignored: `[batch, seq]`, true where the token is no target
/// - output: `[1]`
pub fn lm_loss(
    logits: Tensor<3>,
    ids: Tensor<2, Int>,
    ignored: Tensor<2, Bool>,
    smoothing: f64,
) -> Tensor<1> {
    let [batch, seq, vocab] = logits.dims();
    let logits = logits.narrow(1, 0, seq - 1).reshape([batch * (seq - 1), vocab]);
    let targets = ids.narrow(1, 1, seq - 1).reshape([batch * (seq - 1), 1]);
    let counts = ignored.narrow(1, 1, seq - 1).reshape([batch * (seq - 1), 1]).bool_not().float();
    let log_probs = log_softmax(logits, 1);
    let picked = log_probs.clone().gather(1, targets);
    let spread = log_probs.mean_dim(1);
    let losses = (picked.mul_scalar(1.0 - smoothing) + spread.mul_scalar(smoothing)).neg();
    (losses * counts.clone()).sum() / counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn the_smoothed_loss_has_its_closed_form() {
        let device = Device::flex();
        let logits =
            Tensor::<3>::from_data([[[1.0f32, 2.0, 0.5], [0.0, 0.0, 3.0], [9.0, 9.0, 9.0]]], &device);
        let ids = Tensor::<2, Int>::from_data([[0i64, 1, 2]], &device);
        let ignored = Tensor::<2, Bool>::from_data(TensorData::new(vec![true, false, true], [1, 3]), &device);
        let loss = lm_loss(logits, ids, ignored, 0.1).into_data().try_to_vec::<f32>().unwrap()[0];
        let row = [1.0f64, 2.0, 0.5];
        let log_sum = row.iter().map(|z| z.exp()).sum::<f64>().ln();
        let expected = 0.9 * (log_sum - 2.0) + 0.1 / 3.0 * row.iter().map(|z| log_sum - z).sum::<f64>();
        assert!((f64::from(loss) - expected).abs() < 1e-6, "{loss} {expected}");
    }
}
