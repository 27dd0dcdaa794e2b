//! The options of [`generate`](super::generate), their defaults and their ranges.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// How to search. In JSON the names are camelCase, every field may be left out, and an unknown one
/// is an error.
///
/// The default is greedy search: one decoder row and no surprises. The named sets are those of the
/// reference: [`coco`](Self::coco), [`nocaps`](Self::nocaps), [`nucleus`](Self::nucleus) and
/// [`vqa`](Self::vqa).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GenerateConfig {
    /// Beams, 1 to 16 (default 1: greedy, or sampling). Above 1 it is beam search, which excludes
    /// [`sample`](Self::sample).
    pub num_beams: usize,
    /// Draw tokens at random instead of taking the best (default `false`).
    pub sample: bool,
    /// Sampling only: keep the `top_k` best tokens, 0 to keep all (default 50, which is active in
    /// the reference as well; 0 gives nucleus sampling as papers describe it).
    pub top_k: usize,
    /// Sampling only: of what `top_k` kept, the smallest set whose probability reaches `top_p`;
    /// above 0, at most 1 (default 0.9). The token that crosses the threshold is kept.
    pub top_p: f64,
    /// Sampling only: logits are divided by it, 0.01 to 100 (default 1).
    pub temperature: f64,
    /// How much tokens that occurred already, in the prompt too, lose: negative scores are multiplied
    /// by it, others divided; 0.1 to 10 (default 1: off). The reference samples with 1.1.
    pub repetition_penalty: f64,
    /// The end token is forbidden while the sequence is shorter, **prompt included**; 0 to 512 and
    /// not above `max_length` (default 0).
    pub min_length: usize,
    /// Longest sequence, **prompt included** and the end token counted, 2 to 512 (default 30). It
    /// must exceed the prompt's length; what remains is the number of new tokens.
    pub max_length: usize,
    /// Exponent of the length divisor of beam search, −10 to 10 (default 1). Above 0 it favours long
    /// captions, 0 ranks by the plain sum.
    pub length_penalty: f64,
    /// Which length divides, and when beam search stops (default [`LengthRule::Hf`]).
    pub length_rule: LengthRule,
    /// Stop beam search as soon as `num_beams` sequences are complete, instead of when no open beam
    /// looks able to improve on them (default `false`).
    pub early_stopping: bool,
    /// Sequences to return, 1 to 16 (default 1). Sampling draws them independently; otherwise at most
    /// `num_beams`.
    pub num_captions: usize,
    /// Sampling only: the same seed gives the same captions (default 0). Sample `i` does not depend
    /// on how many samples there are.
    pub seed: u64,
}

/// The two bookkeeping rules of beam search; they return different captions for the same model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LengthRule {
    /// Current transformers: the divisor counts generated tokens with the end token, and reaching
    /// the maximum length completes a sequence.
    #[default]
    Hf,
    /// The original repository with transformers 4.15: the divisor counts prompt and generated
    /// tokens without the end token, and open beams join the ranking at the end.
    Orig,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        Self {
            num_beams: 1,
            sample: false,
            top_k: 50,
            top_p: 0.9,
            temperature: 1.0,
            repetition_penalty: 1.0,
            min_length: 0,
            max_length: 30,
            length_penalty: 1.0,
            length_rule: LengthRule::Hf,
            early_stopping: false,
            num_captions: 1,
            seed: 0,
        }
    }
}

impl GenerateConfig {
    /// The reference's setting for captions of COCO: 3 beams, 5 to 20 tokens in all.
    pub fn coco() -> Self {
        Self { num_beams: 3, min_length: 5, max_length: 20, ..Self::default() }
    }

    /// The reference's setting for NoCaps: [`coco`](Self::coco) with a repetition penalty of 1.1.
    pub fn nocaps() -> Self {
        Self { repetition_penalty: 1.1, ..Self::coco() }
    }

    /// The reference's nucleus sampling: top-p 0.9 of the 50 best, repetition penalty 1.1, 10 to 30
    /// tokens in all.
    pub fn nucleus(seed: u64) -> Self {
        Self { sample: true, repetition_penalty: 1.1, min_length: 10, seed, ..Self::default() }
    }

    /// The reference's setting for answers: 3 beams, 1 to 10 tokens in all.
    pub fn vqa() -> Self {
        Self { num_beams: 3, min_length: 1, max_length: 10, ..Self::default() }
    }

    /// Whether each step takes the highest raw score and nothing else matters but when it may end.
    pub(super) fn is_plain_greedy(&self) -> bool {
        !self.sample && self.num_beams == 1 && self.num_captions == 1 && self.repetition_penalty == 1.0
    }

    /// Checks every option; [`generate`](super::generate) does so itself.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`], naming the option as in JSON, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        in_range("numBeams", self.num_beams, 1..=16)?;
        in_range("topP", self.top_p, 0.0..=1.0)?;
        in_range("temperature", self.temperature, 0.01..=100.0)?;
        in_range("repetitionPenalty", self.repetition_penalty, 0.1..=10.0)?;
        in_range("minLength", self.min_length, 0..=512)?;
        in_range("maxLength", self.max_length, 2..=512)?;
        in_range("lengthPenalty", self.length_penalty, -10.0..=10.0)?;
        in_range("numCaptions", self.num_captions, 1..=16)?;
        let bad = |message: String| Err(Error::new(ErrorKind::BadOption, message));
        if self.top_p == 0.0 {
            return bad("option topP is 0, expected above 0 and at most 1".to_owned());
        }
        if self.min_length > self.max_length {
            let (min, max) = (self.min_length, self.max_length);
            return bad(format!("option minLength is {min}, expected at most maxLength, which is {max}"));
        }
        if self.sample && self.num_beams > 1 {
            let beams = self.num_beams;
            return bad(format!("option numBeams is {beams}, expected 1 because sample is true"));
        }
        if !self.sample && self.num_captions > self.num_beams {
            let (captions, beams) = (self.num_captions, self.num_beams);
            return bad(format!(
                "option numCaptions is {captions}, expected at most numBeams, which is {beams}, unless sample is true"
            ));
        }
        Ok(())
    }
}

/// NaN lies in no range, so it is refused too.
fn in_range<T: PartialOrd + Display>(name: &str, value: T, range: RangeInclusive<T>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let message = format!("option {name} is {value}, expected {} to {}", range.start(), range.end());
    Err(Error::new(ErrorKind::BadOption, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(config: GenerateConfig) -> String {
        let error = config.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadOption);
        error.message().to_owned()
    }

    #[test]
    fn the_default_and_the_named_sets_are_valid() {
        let base = GenerateConfig::default();
        let sets = [GenerateConfig::coco(), GenerateConfig::nocaps(), GenerateConfig::vqa()];
        for config in sets.into_iter().chain([base, GenerateConfig::nucleus(1)]) {
            config.validate().unwrap();
        }
    }

    #[test]
    fn every_bad_option_is_named_with_its_value_and_range() {
        let base = GenerateConfig::default;
        let nan = f64::NAN;
        for (config, name, value) in [
            (GenerateConfig { num_beams: 0, ..base() }, "numBeams", "0"),
            (GenerateConfig { num_beams: 17, ..base() }, "numBeams", "17"),
            (GenerateConfig { top_p: nan, ..base() }, "topP", "NaN"),
            (GenerateConfig { top_p: 0.0, ..base() }, "topP", "0"),
            (GenerateConfig { top_p: 1.5, ..base() }, "topP", "1.5"),
            (GenerateConfig { temperature: 0.0, ..base() }, "temperature", "0"),
            (GenerateConfig { temperature: f64::INFINITY, ..base() }, "temperature", "inf"),
            (GenerateConfig { repetition_penalty: nan, ..base() }, "repetitionPenalty", "NaN"),
            (GenerateConfig { repetition_penalty: -1.0, ..base() }, "repetitionPenalty", "-1"),
            (GenerateConfig { min_length: 513, ..base() }, "minLength", "513"),
            (GenerateConfig { min_length: 31, ..base() }, "minLength", "31"),
            (GenerateConfig { max_length: 1, ..base() }, "maxLength", "1"),
            (GenerateConfig { max_length: 1000, ..base() }, "maxLength", "1000"),
            (GenerateConfig { length_penalty: nan, ..base() }, "lengthPenalty", "NaN"),
            (GenerateConfig { length_penalty: -11.0, ..base() }, "lengthPenalty", "-11"),
            (GenerateConfig { num_captions: 0, ..base() }, "numCaptions", "0"),
            (GenerateConfig { num_captions: 2, ..base() }, "numCaptions", "2"),
            (GenerateConfig { sample: true, num_beams: 3, ..base() }, "numBeams", "3"),
        ] {
            let message = message(config);
            let expected = format!("option {name} is {value}, expected ");
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    #[test]
    fn json_uses_camel_case_fills_defaults_and_refuses_unknown_names() {
        let config: GenerateConfig =
            serde_json::from_str(r#"{"numBeams":3,"lengthRule":"orig","repetitionPenalty":1.1}"#).unwrap();
        let expected = GenerateConfig {
            num_beams: 3,
            length_rule: LengthRule::Orig,
            repetition_penalty: 1.1,
            ..Default::default()
        };
        assert_eq!(config, expected);
        let error = serde_json::from_str::<GenerateConfig>(r#"{"beams":3}"#).unwrap_err();
        assert!(error.to_string().contains("beams"), "{error}");
    }
}
