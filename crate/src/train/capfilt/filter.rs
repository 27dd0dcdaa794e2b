//! The filter: which texts belong to their pictures.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::caption::{CAPTIONS, object};
use super::pictures::{for_each_batch, sidecar_name};
use super::result::{Content, Lines, Made, Place, Skipped, read_lines};
use super::texts::{Flow, Judged, Synthetic, Verdict};
use super::work::{Outcome, Stage};
use crate::device::block_on;
use crate::generate::Control;
use crate::tasks::{Convention, Head, MatchOptions, Picture, Session, Task};
use crate::train::data::{FileOptions, Record, Statement};
use crate::{Error, ErrorKind, Result};

/// How to filter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterOptions {
    /// Match probability from which a text is kept.
    pub threshold: f32,
}

impl Default for FilterOptions {
    /// What ITM takes for a match (spec §8.1).
    fn default() -> Self {
        Self { threshold: 0.5 }
    }
}

/// The stage that decides.
#[derive(Debug)]
pub struct Filter<'a> {
    session: &'a Session,
    model: String,
    options: FilterOptions,
    captions: Option<PathBuf>,
    files: FileOptions,
}

/// What follows a shard's stem in the name of its decisions.
pub(super) const DECISIONS: &str = ".decisions.jsonl";

impl<'a> Filter<'a> {
    /// A stage with a session's matching head; `model` is a digest of it. Synthetic captions are those of
    /// the captioner's folder `captions`; without it, only the web's texts are judged.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] without a network for ITM, [`ErrorKind::BadOption`] for a threshold
    /// that is no probability.
    pub fn new(
        session: &'a Session,
        model: &str,
        options: FilterOptions,
        captions: Option<PathBuf>,
        files: FileOptions,
    ) -> Result<Self> {
        session.part(Task::Itm)?;
        if !(0.0..=1.0).contains(&options.threshold) {
            let message = format!("option threshold is {}, expected 0 to 1", options.threshold);
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        Ok(Self { session, model: model.to_owned(), options, captions, files })
    }

    /// The synthetic captions of a shard by key; `None` where only the web's texts are judged.
    fn synthetic(&self, shard: &Path) -> Result<Option<HashMap<String, Synthetic>>> {
        let Some(folder) = &self.captions else { return Ok(None) };
        let lines: Vec<Synthetic> = read_lines(&folder.join(sidecar_name(shard, CAPTIONS)))?;
        Ok(Some(lines.into_iter().map(|line| (line.key.clone(), line)).collect()))
    }

    fn judge(&self, picture: &Picture, record: &Record, synthetic: Option<&Synthetic>) -> Result<Judged> {
        let web = &record.texts.captions;
        let texts: Vec<String> = web.iter().chain(synthetic.map(|line| &line.caption)).cloned().collect();
        let mut verdicts = Vec::new();
        if !texts.is_empty() {
            let heads = Some(vec![Head::Itm]);
            let options = MatchOptions { texts, heads, convention: Convention::Orig };
            let mut on_step = |_: usize, _: usize| Control::Continue;
            for found in block_on(self.session.match_texts(picture, &options, &mut on_step))? {
                let probability = found.itm.map_or(0.0, |itm| itm.probability);
                let keep = probability >= self.options.threshold;
                verdicts.push(Verdict { text: found.text, probability, keep });
            }
        }
        let synthetic = synthetic.and_then(|_| verdicts.pop());
        Ok(Judged { key: record.key.clone(), web: verdicts, synthetic })
    }
}

impl Stage for Filter<'_> {
    fn result_name(&self, shard: &Path) -> String {
        sidecar_name(shard, DECISIONS)
    }

    fn made(&self, shard: &Path) -> Result<Made> {
        let mut inputs = vec![Content::of(shard)?];
        if let Some(folder) = &self.captions {
            inputs.push(finished(folder, shard, CAPTIONS, &inputs[0], "blip capfilt caption")?);
        }
        let mut options = object(serde_json::to_value(self.options).unwrap_or_default());
        options.insert("skipJson".to_owned(), self.files.skip_json.into());
        Ok(Made { stage: "filter".to_owned(), version: 1, inputs, model: Some(self.model.clone()), options })
    }

    fn run(
        &self,
        shard: &Path,
        out: &Path,
        on_record: &mut dyn FnMut(usize, usize) -> Control,
    ) -> Result<Outcome> {
        let synthetic = self.synthetic(shard)?;
        let mut lines = Lines::create(out)?;
        let (mut web, mut made, mut pictures) = (Flow::default(), Flow::default(), 0);
        // Of texts that a statement of the record calls false or true: how well the filter does.
        let mut truth = [Flow::default(); 2];
        let mut silent = Vec::new();
        let mut on_batch = |records: Vec<Record>| {
            let has = |record: &Record| synthetic.as_ref().is_none_or(|all| all.contains_key(&record.key));
            let (records, without): (Vec<Record>, Vec<Record>) = records.into_iter().partition(has);
            silent.extend(without.into_iter().map(|record| Skipped {
                key: record.key,
                reason: "the captioner said nothing about it".to_owned(),
            }));
            let images: Vec<_> = records.iter().flat_map(|record| record.images.iter().cloned()).collect();
            let encoded = block_on(self.session.encode_many(&images))?;
            for (record, picture) in records.iter().zip(&encoded) {
                let own = synthetic.as_ref().and_then(|all| all.get(&record.key));
                match self.judge(picture, record, own) {
                    Ok(judged) => {
                        pictures += 1;
                        for verdict in &judged.web {
                            web.count(verdict.keep);
                            let same = |statement: &&Statement| statement.text == verdict.text;
                            if let Some(known) = record.texts.statements.iter().find(same) {
                                truth[usize::from(known.holds)].count(verdict.keep);
                            }
                        }
                        judged.synthetic.iter().for_each(|verdict| made.count(verdict.keep));
                        lines.write(&judged)?;
                    }
                    // A text that no tokenizer takes.
                    Err(error) if error.kind() == ErrorKind::BadOption => {
                        silent.push(Skipped::of(&record.key, &error));
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let mut skipped = for_each_batch(shard, self.files, &mut on_batch, on_record)?;
        lines.finish()?;
        skipped.append(&mut silent);
        let [failing, holding] = truth;
        let counts = json!({
            "pictures": pictures + skipped.len(), "web": web, "synthetic": made,
            "webKnownTrue": holding, "webKnownFalse": failing,
        });
        Ok(Outcome { counts: object(counts), skipped })
    }
}

/// The content of another stage's result for a shard, which must be finished, and about this very shard.
///
/// # Errors
/// [`ErrorKind::Integrity`] when it is not, saying what to run first.
pub(super) fn finished(
    folder: &Path,
    shard: &Path,
    ending: &str,
    content: &Content,
    first: &str,
) -> Result<Content> {
    let name = sidecar_name(shard, ending);
    let wrong = |what: &str| {
        let message = format!("`{name}` in `{}` {what}: run `{first}` first", folder.display());
        Error::new(ErrorKind::Integrity, message)
    };
    let report = Place::new(folder, &name).finished()?.ok_or_else(|| wrong("is not finished"))?;
    match report.made.inputs.first() {
        Some(known) if known == content => Ok(report.output),
        _ => Err(wrong("is about another shard of that name")),
    }
}
