//! Cross-entropies: what all objectives are made of (paper §3.2, spec §1.5).

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// What a text network is to predict: of all positions of a batch of texts only those that count.
#[derive(Clone, Debug)]
pub struct Targets {
    /// `[targets]`, the positions that predict, as rows of the states `[batch·seq, dim]`.
    pub rows: Tensor<1, Int>,
    /// `[targets]`, the token that follows each.
    pub tokens: Tensor<1, Int>,
    /// `[targets]`, what each counts in the loss.
    pub weights: Tensor<1>,
}

/// `Σ_t w_t·ℓ_t`, the next-token cross-entropy with label smoothing.
///
/// With `K` entries and smoothing `ε`: `ℓ = (1 − ε)(−log p_y) + (ε/K)·Σ_v(−log p_v)`. Weights of
/// `1/targets` make it the mean.
///
/// # Shapes
/// - logits: `[targets, vocab]`
/// - output: `[1]`
pub fn smoothed_cross_entropy(logits: Tensor<2>, targets: &Targets, smoothing: f64) -> Tensor<1> {
    let log_probs = log_softmax(logits, 1);
    let picked = log_probs.clone().gather(1, targets.tokens.clone().unsqueeze_dim(1));
    let spread = log_probs.mean_dim(1);
    let losses = (picked.mul_scalar(1.0 - smoothing) + spread.mul_scalar(smoothing)).neg();
    (losses.squeeze_dim::<1>(1) * targets.weights.clone()).sum()
}

/// The mean over rows of `−Σ_j t_j·log softmax(logits)_j`, for targets that are distributions.
///
/// # Shapes
/// - logits, targets: `[rows, candidates]`
/// - output: `[1]`
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let rows = logits.dims()[0] as f64;
    (log_softmax(logits, 1) * targets).sum().div_scalar(-rows)
}

/// The mean cross-entropy of rows that have one label each.
///
/// # Shapes
/// - logits: `[rows, classes]`
/// - labels: `[rows]`
/// - output: `[1]`
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1)).mean().neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::block_on;
    use crate::kernels::read_floats;
    use crate::model::integers;
    use burn::tensor::Device;

    fn scalar(x: Tensor<1>) -> f64 {
        f64::from(block_on(read_floats(x)).unwrap()[0])
    }

    fn targets(tokens: Vec<i32>, weights: Vec<f32>) -> Targets {
        let (device, count) = (Device::flex(), tokens.len());
        Targets {
            rows: integers((0..count as i32).collect(), [count], &device),
            tokens: integers(tokens, [count], &device),
            weights: Tensor::from_floats(weights.as_slice(), &device),
        }
    }

    const LOGITS: [[f32; 3]; 2] = [[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]];

    fn log_probs(row: [f32; 3]) -> [f64; 3] {
        let row = row.map(f64::from);
        let log_sum = row.iter().map(|z| z.exp()).sum::<f64>().ln();
        row.map(|z| z - log_sum)
    }

    #[test]
    fn the_smoothed_loss_has_its_closed_form() {
        let logits = Tensor::<2>::from_data(LOGITS, &Device::flex());
        let loss = scalar(smoothed_cross_entropy(logits, &targets(vec![1, 2], vec![0.25, 2.0]), 0.1));
        let one = |row, token: usize| {
            let log_probs = log_probs(row);
            -0.9 * log_probs[token] - 0.1 / 3.0 * log_probs.iter().sum::<f64>()
        };
        let expected = 0.25 * one(LOGITS[0], 1) + 2.0 * one(LOGITS[1], 2);
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
    }

    #[test]
    fn without_smoothing_it_is_the_cross_entropy_and_all_smoothing_forgets_the_label() {
        let logits = || Tensor::<2>::from_data(LOGITS, &Device::flex());
        let mean = targets(vec![1, 2], vec![0.5, 0.5]);
        let labels = integers(vec![1, 2], [2], &Device::flex());
        let plain = scalar(smoothed_cross_entropy(logits(), &mean, 0.0));
        assert!((plain - scalar(cross_entropy(logits(), labels))).abs() < 1e-6);
        let other = targets(vec![0, 0], vec![0.5, 0.5]);
        let all = scalar(smoothed_cross_entropy(logits(), &mean, 1.0));
        assert!((all - scalar(smoothed_cross_entropy(logits(), &other, 1.0))).abs() < 1e-6);
        // Smoothing mixes the two ends.
        let mixed = scalar(smoothed_cross_entropy(logits(), &mean, 0.3));
        assert!((mixed - (0.7 * plain + 0.3 * all)).abs() < 1e-6);
    }

    #[test]
    fn one_hot_distributions_are_labels() {
        let device = Device::flex();
        let logits = || Tensor::<2>::from_data(LOGITS, &device);
        let hot = Tensor::<2>::from_data([[0.0f32, 1.0, 0.0], [0.0, 0.0, 1.0]], &device);
        let soft = scalar(soft_cross_entropy(logits(), hot));
        assert!((soft - scalar(cross_entropy(logits(), integers(vec![1, 2], [2], &device)))).abs() < 1e-6);
    }

    #[test]
    fn equal_scores_of_one_match_among_three_cost_the_prior() {
        // Whoever learned nothing but that a third of the pairs match (spec §12).
        let logits = [[0.0f32, (0.5f32).ln()]; 3];
        let logits = Tensor::<2>::from_data(logits, &Device::flex());
        let loss = scalar(cross_entropy(logits, integers(vec![1, 0, 0], [3], &Device::flex())));
        assert!((loss - 0.636_514).abs() < 1e-5, "{loss}");
    }
}
