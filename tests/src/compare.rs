//! Comparing tensors with the reference, with a message that says where they part.

use burn::tensor::Tensor;

/// Differences found so far; every case of a test is looked at before it fails.
#[derive(Debug, Default)]
pub struct Report {
    failures: Vec<String>,
    worst: f32,
}

impl Report {
    /// Values that must agree with the reference within `tolerance` everywhere.
    pub fn close(&mut self, what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
        if got.len() != expected.len() {
            self.failures.push(format!("{what}: {} values, expected {}", got.len(), expected.len()));
            return;
        }
        let mut worst = (0, 0.0);
        for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
            let difference = (got - expected).abs();
            // NaN is as far off as can be.
            if difference.is_nan() || difference > worst.1 {
                worst = (index, if difference.is_nan() { f32::INFINITY } else { difference });
            }
        }
        let (index, difference) = worst;
        self.worst = self.worst.max(difference);
        if difference > tolerance {
            let (got, expected) = (got[index], expected[index]);
            self.failures.push(format!(
                "{what}: off by {difference:e} at element {index} ({got}, expected {expected}), allowed {tolerance:e}"
            ));
        }
    }

    /// Anything that must be exactly equal.
    pub fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, got: &T, expected: &T) {
        if got != expected {
            self.failures.push(format!("{what}: {got:?}, expected {expected:?}"));
        }
    }

    /// Prints the largest difference seen.
    ///
    /// # Panics
    /// When anything differed by more than was allowed, with all such differences.
    #[expect(clippy::print_stdout, reason = "a passing test shows how close it came")]
    pub fn finish(self) {
        assert!(
            self.failures.is_empty(),
            "{} differences:\n{}",
            self.failures.len(),
            self.failures.join("\n")
        );
        println!("largest difference: {:e}", self.worst);
    }
}

/// All values of a tensor, row-major.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(got: &[f32], expected: &[f32]) -> Vec<String> {
        let mut report = Report::default();
        report.close("x", got, expected, 1e-4);
        report.failures
    }

    #[test]
    fn a_difference_a_length_and_a_nan_are_noticed() {
        assert!(failures(&[1.0, 2.0], &[1.0, 2.000_01]).is_empty());
        assert!(failures(&[1.0, 2.0], &[1.0, 2.001])[0].contains("element 1"));
        assert!(failures(&[1.0, f32::NAN], &[1.0, 2.0])[0].contains("element 1"));
        assert!(failures(&[1.0], &[1.0, 2.0])[0].contains("1 values"));
    }
}
