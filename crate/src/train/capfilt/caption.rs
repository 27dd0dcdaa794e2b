//! The captioner: a synthetic caption for every picture.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::pictures::{for_each_batch, sidecar_name};
use super::result::{Content, Lines, Made};
use super::texts::Synthetic;
use super::work::{Outcome, Stage};
use crate::device::block_on;
use crate::generate::{Control, GenerateConfig};
use crate::tasks::{CaptionOptions, CaptionProgress, Session, Task};
use crate::train::data::{FileOptions, Record};
use crate::{Error, ErrorKind, Result};

/// How to caption the web.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaptionerOptions {
    /// Together with a record's key, the seed of its caption.
    pub seed: u64,
    /// What the caption continues: the prompt that the captioner was fine-tuned with.
    pub prompt: Option<String>,
    /// How to search; its own seed is not used.
    pub search: GenerateConfig,
}

impl Default for CaptionerOptions {
    /// As the reference samples: [`GenerateConfig::nucleus`].
    fn default() -> Self {
        Self { seed: 0, prompt: None, search: GenerateConfig::nucleus(0) }
    }
}

/// The stage that writes captions.
#[derive(Debug)]
pub struct Captioner<'a> {
    session: &'a Session,
    model: String,
    options: CaptionerOptions,
    files: FileOptions,
}

/// What follows a shard's stem in the name of its captions.
pub(super) const CAPTIONS: &str = ".captions.jsonl";

impl<'a> Captioner<'a> {
    /// A stage with a session's captioner; `model` is a digest of it.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] without a captioner, [`ErrorKind::BadOption`] for a search that makes
    /// no sense, or more than one caption a picture.
    pub fn new(
        session: &'a Session,
        model: &str,
        options: CaptionerOptions,
        files: FileOptions,
    ) -> Result<Self> {
        session.part(Task::Caption)?;
        options.search.validate()?;
        if options.search.num_captions != 1 {
            let message = format!("{} captions a picture, expected 1", options.search.num_captions);
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        Ok(Self { session, model: model.to_owned(), options, files })
    }

    fn caption(&self, records: &[Record], lines: &mut Lines) -> Result<()> {
        let images: Vec<_> = records.iter().flat_map(|record| record.images.iter().cloned()).collect();
        let pictures = block_on(self.session.encode_many(&images))?;
        for (record, picture) in records.iter().zip(pictures) {
            let generate = GenerateConfig {
                seed: seed_of(self.options.seed, &record.key),
                ..self.options.search.clone()
            };
            let options =
                CaptionOptions { prompt: self.options.prompt.clone(), generate, ..CaptionOptions::default() };
            let mut unheard = |_: CaptionProgress| Control::Continue;
            let found = block_on(self.session.caption_picture(&picture, &options, &mut unheard))?;
            let log_prob = found.captions.first().map_or(0.0, |caption| caption.log_prob);
            lines.write(&Synthetic { key: record.key.clone(), caption: found.text, log_prob })?;
        }
        Ok(())
    }
}

impl Stage for Captioner<'_> {
    fn result_name(&self, shard: &Path) -> String {
        sidecar_name(shard, CAPTIONS)
    }

    fn made(&self, shard: &Path) -> Result<Made> {
        let mut options = object(serde_json::to_value(&self.options).unwrap_or_default());
        options.insert("skipJson".to_owned(), self.files.skip_json.into());
        let inputs = vec![Content::of(shard)?];
        Ok(Made { stage: "caption".to_owned(), version: 1, inputs, model: Some(self.model.clone()), options })
    }

    fn run(
        &self,
        shard: &Path,
        out: &Path,
        on_record: &mut dyn FnMut(usize, usize) -> Control,
    ) -> Result<Outcome> {
        let mut lines = Lines::create(out)?;
        let mut captions = 0;
        let mut on_batch = |records: Vec<Record>| {
            captions += records.len();
            self.caption(&records, &mut lines)
        };
        let skipped = for_each_batch(shard, self.files, &mut on_batch, on_record)?;
        lines.finish()?;
        let counts = json!({"pictures": captions + skipped.len(), "captions": captions});
        Ok(Outcome { counts: object(counts), skipped })
    }
}

/// The entries of a JSON object.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// The seed of a record's caption: the same wherever and whenever the record comes.
pub fn seed_of(seed: u64, key: &str) -> u64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(key.as_bytes()).finalize();
    digest.first_chunk::<8>().map_or(seed, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_and_every_seed_has_its_own_stream() {
        let seeds = [seed_of(0, "a"), seed_of(0, "b"), seed_of(1, "a")];
        assert!(seeds[0] != seeds[1] && seeds[0] != seeds[2] && seeds[1] != seeds[2]);
        // Written down: another release must sample the same captions.
        assert_eq!(seed_of(0, "a"), SEED_OF_A);
    }

    const SEED_OF_A: u64 = 7586401852616081111;

    #[test]
    fn the_default_samples_as_the_reference() {
        let CaptionerOptions { search, .. } = CaptionerOptions::default();
        assert!(search.sample && search.top_p == 0.9 && search.top_k == 50);
        assert_eq!((search.min_length, search.max_length, search.repetition_penalty), (10, 30, 1.1));
    }
}
