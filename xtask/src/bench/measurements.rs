//! What `bench/run.mjs` wrote: timings, sizes, counters, and why a part is missing.

use super::statistics::{Sample, Summary};
use crate::workspace::read;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

/// The file as it is; keys are those of `bench/README.md`.
pub struct Measurements(pub Value);

impl Measurements {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read(path)?;
        serde_json::from_str(&text).map(Self).with_context(|| format!("{} is no JSON", path.display()))
    }

    /// The warm timings under `key`, or why there are none.
    pub fn warm(&self, key: &str) -> Result<Summary, String> {
        Summary::of(&self.samples("timings", key)).ok_or_else(|| self.why_missing(key))
    }

    /// The first timing under `key`.
    pub fn cold(&self, key: &str) -> Option<f64> {
        self.samples("cold", key).first().map(|sample| sample.ms)
    }

    /// A size or a duration that was taken once, or why there is none.
    pub fn value(&self, key: &str) -> Result<f64, String> {
        self.0["values"][key].as_f64().ok_or_else(|| self.why_missing(key))
    }

    /// A counter of a steady token, or why there is none.
    pub fn per_token(&self, counter: &str) -> Result<f64, String> {
        self.0["counters"]["token"][counter].as_f64().ok_or_else(|| self.why_missing("counters"))
    }

    /// Whether the GPU of the run is a program.
    pub fn has_software_gpu(&self) -> bool {
        let words = self.0["adapter"].to_string().to_lowercase();
        ["swiftshader", "llvmpipe", "lavapipe", "\"isfallbackadapter\":true", "\"software\":true"]
            .iter()
            .any(|word| words.contains(word))
    }

    /// The failure of the part that `key` belongs to.
    pub fn why_missing(&self, key: &str) -> String {
        let parts = self.0["failures"].as_object().into_iter().flatten();
        let failure = parts
            .filter(|(part, _)| key.starts_with(part.as_str()))
            .find_map(|(part, reason)| Some(format!("{part} failed: {}", reason.as_str()?)));
        failure.unwrap_or_else(|| format!("{key} was not measured in this mode"))
    }

    fn samples(&self, kind: &str, key: &str) -> Vec<Sample> {
        let list = self.0[kind][key].as_array();
        list.into_iter()
            .flatten()
            .filter_map(|entry| {
                Some(Sample { ms: entry["ms"].as_f64()?, other_cores: entry["otherCores"].as_f64() })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_missing_timing_names_the_failure_of_its_part() {
        let measured =
            Measurements(json!({ "failures": { "cpu.ours": "no such model" }, "values": { "x": 2 } }));
        assert_eq!(measured.warm("cpu.ours.stepMs"), Err("cpu.ours failed: no such model".to_owned()));
        assert_eq!(measured.value("gpu"), Err("gpu was not measured in this mode".to_owned()));
        assert_eq!(measured.value("x"), Ok(2.0));
    }

    #[test]
    fn a_software_adapter_is_recognised() {
        let adapter = |adapter: Value| Measurements(json!({ "adapter": adapter })).has_software_gpu();
        assert!(adapter(json!({ "vendor": "google", "architecture": "swiftshader" })));
        assert!(!adapter(json!({ "vendor": "nvidia", "architecture": "ampere" })));
    }
}
