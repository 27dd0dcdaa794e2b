//! Comparing tensors with the reference, with a message that says where they part.

use burn::tensor::Tensor;
use serde_json::{Number, Value};

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

    /// JSON in which everything that `expected` names must be: numbers with a fraction within `tolerance`,
    /// all else exactly. Fields that it does not name may be there as well; list entries may not.
    pub fn json(&mut self, what: &str, got: &Value, expected: &Value, tolerance: f32) {
        match (got, expected) {
            (Value::Object(got), Value::Object(expected)) => {
                for (key, expected) in expected {
                    let got = got.get(key).unwrap_or(&Value::Null);
                    self.json(&format!("{what}.{key}"), got, expected, tolerance);
                }
            }
            (Value::Array(got), Value::Array(expected)) if got.len() == expected.len() => {
                for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
                    self.json(&format!("{what}[{index}]"), got, expected, tolerance);
                }
            }
            (Value::Number(got), Value::Number(expected)) if expected.is_f64() => {
                let float = |number: &Number| number.as_f64().unwrap_or(f64::NAN) as f32;
                self.close(what, &[float(got)], &[float(expected)], tolerance);
            }
            _ => self.equal(what, got, expected),
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

    #[test]
    fn json_must_have_what_is_expected_and_lists_nothing_more() {
        let differs = |got: &str, expected: &str| {
            let mut report = Report::default();
            let value = |text: &str| serde_json::from_str(text).unwrap();
            report.json("x", &value(got), &value(expected), 1e-4);
            report.failures
        };
        let expected = r#"{"a":[{"b":0.5,"c":3,"d":"e"}]}"#;
        assert!(differs(r#"{"a":[{"b":0.50001,"c":3,"d":"e","f":null}],"g":1}"#, expected).is_empty());
        for (got, place) in [
            (r#"{"a":[{"b":0.51,"c":3,"d":"e"}]}"#, "x.a[0].b: off by"),
            (r#"{"a":[{"b":null,"c":3,"d":"e"}]}"#, "x.a[0].b: Null"),
            (r#"{"a":[{"b":0.5,"c":4,"d":"e"}]}"#, "x.a[0].c: "),
            (r#"{"a":[{"b":0.5,"c":3,"d":"f"}]}"#, "x.a[0].d: "),
            (r#"{"a":[{"b":0.5,"c":3}]}"#, "x.a[0].d: Null"),
            (r#"{"a":[]}"#, "x.a: "),
            (r#"{"a":[{"b":0.5,"c":3,"d":"e"},1]}"#, "x.a: "),
            ("null", "x: Null"),
        ] {
            let found = differs(got, expected);
            assert!(found.len() == 1 && found[0].starts_with(place), "{got}: {found:?}");
        }
    }
}
