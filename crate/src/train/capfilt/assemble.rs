//! The new training set: what is left of the web, and the human pairs untouched.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::caption::{CAPTIONS, object};
use super::filter::{DECISIONS, finished};
use super::pictures::{open, read, sidecar_name, tell};
use super::result::{Content, Made, Skipped, file_name, read_lines, unwritable};
use super::texts::{Flow, Judged, Kept, Mode, Synthetic};
use super::work::{Outcome, Stage};
use crate::generate::Control;
use crate::train::data::{Dataset as _, FileOptions, ShardSet, ShardWriter, Texts};
use crate::{Error, ErrorKind, Result};

/// The stage that writes shards.
#[derive(Debug)]
pub struct Assembler {
    mode: Mode,
    texts: Option<PathBuf>,
    human: HashSet<PathBuf>,
    together: bool,
    files: FileOptions,
}

/// What is known about the texts of a shard.
enum Known {
    Nothing,
    Captions(HashMap<String, Synthetic>),
    Decisions(HashMap<String, Judged>),
}

/// What follows a key whose text is the captioner's.
const SYNTHETIC: &str = "-synthetic";

impl Assembler {
    /// A stage for shards of the web, with the captioner's or the filter's folder as the mode needs it; those
    /// in `human` are copied as they are.
    ///
    /// A picture with several texts becomes as many records, as in the reference's lists of pairs; `together`
    /// keeps it one record, of which training draws a text.
    pub fn new(
        mode: Mode,
        texts: Option<PathBuf>,
        human: Vec<PathBuf>,
        together: bool,
        files: FileOptions,
    ) -> Self {
        Self { mode, texts, human: human.into_iter().collect(), together, files }
    }

    fn known(&self, shard: &Path) -> Result<Known> {
        let path = |ending: &str| {
            let missing = || {
                let message = format!("mode {} needs the folder of an earlier stage", self.mode.name());
                Error::new(ErrorKind::BadOption, message)
            };
            self.texts.as_ref().map(|folder| folder.join(sidecar_name(shard, ending))).ok_or_else(missing)
        };
        if self.mode.needs_captions() {
            let lines: Vec<Synthetic> = read_lines(&path(CAPTIONS)?)?;
            return Ok(Known::Captions(lines.into_iter().map(|line| (line.key.clone(), line)).collect()));
        }
        if self.mode.needs_decisions() {
            let lines: Vec<Judged> = read_lines(&path(DECISIONS)?)?;
            return Ok(Known::Decisions(lines.into_iter().map(|line| (line.key.clone(), line)).collect()));
        }
        Ok(Known::Nothing)
    }

    /// The texts of a record that are learned from.
    fn kept(&self, known: &Known, key: &str, web: &[String]) -> Result<Kept, Skipped> {
        let silent = |who: &str| {
            Err(Skipped { key: key.to_owned(), reason: format!("the {who} said nothing about it") })
        };
        match known {
            Known::Nothing => Ok(Kept::unfiltered(web, None)),
            Known::Captions(lines) => match lines.get(key) {
                Some(line) => Ok(Kept::unfiltered(web, Some(line))),
                None => silent("captioner"),
            },
            Known::Decisions(lines) => match lines.get(key) {
                Some(line) => Ok(Kept::filtered(line, self.mode == Mode::Both)),
                None => silent("filter"),
            },
        }
    }

    /// The records that a picture becomes: key and captions of each.
    fn records(&self, key: &str, kept: Kept) -> Vec<(String, Vec<String>)> {
        let Kept { mut web, synthetic } = kept;
        if self.together {
            web.extend(synthetic);
            return if web.is_empty() { Vec::new() } else { vec![(key.to_owned(), web)] };
        }
        let several = web.len() > 1;
        let name = |nth: usize| if several { format!("{key}-{nth}") } else { key.to_owned() };
        let records = web.into_iter().enumerate().map(|(nth, text)| (name(nth), vec![text]));
        records.chain(synthetic.map(|text| (format!("{key}{SYNTHETIC}"), vec![text]))).collect()
    }

    /// Copies a human shard, and counts what is in it.
    fn copy(&self, shard: &Path, out: &Path) -> Result<Outcome> {
        std::fs::copy(shard, out).map_err(|error| unwritable(out, error))?;
        let copied = std::fs::File::open(out).and_then(|file| file.sync_all());
        copied.map_err(|error| unwritable(out, error))?;
        let (set, skipped) = open(shard, self.files)?;
        Ok(Outcome { counts: object(json!({"humanRecords": set.len()})), skipped })
    }
}

/// The number of a picture that has none: the same for all records it becomes.
fn image_id(key: &str) -> u64 {
    Sha256::digest(key.as_bytes()).first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Stage for Assembler {
    fn result_name(&self, shard: &Path) -> String {
        let name = file_name(shard);
        // Both sets may well number their shards from 0.
        if self.human.contains(shard) { format!("human-{name}") } else { name }
    }

    fn made(&self, shard: &Path) -> Result<Made> {
        let mut inputs = vec![Content::of(shard)?];
        let is_human = self.human.contains(shard);
        if !is_human && let Some(folder) = &self.texts {
            let (ending, first) = match self.mode.needs_captions() {
                true => (CAPTIONS, "blip capfilt caption"),
                false => (DECISIONS, "blip capfilt filter"),
            };
            inputs.push(finished(folder, shard, ending, &inputs[0], first)?);
        }
        let options = object(json!({
            "mode": self.mode, "together": self.together, "skipJson": self.files.skip_json,
        }));
        Ok(Made { stage: "assemble".to_owned(), version: 1, inputs, model: None, options })
    }

    fn run(
        &self,
        shard: &Path,
        out: &Path,
        on_record: &mut dyn FnMut(usize, usize) -> Control,
    ) -> Result<Outcome> {
        if self.human.contains(shard) {
            return self.copy(shard, out);
        }
        let known = self.known(shard)?;
        let (set, mut skipped) = open(shard, self.files)?;
        let mut writer = ShardWriter::create(out)?;
        let (mut web, mut synthetic, mut left) = (Flow::default(), Flow::default(), 0);
        for index in 0..set.len() {
            let added = self.add(&set, index, &known, &mut writer);
            match added {
                Err(reason) => skipped.push(reason?),
                Ok((from_web, from_captioner)) => {
                    left += usize::from(from_web.kept + from_captioner.kept > 0);
                    web.add(from_web);
                    synthetic.add(from_captioner);
                }
            }
            tell(on_record, index + 1, set.len())?;
        }
        let records = writer.len();
        writer.finish()?;
        let counts = json!({
            "pictures": set.len(), "picturesKept": left, "records": records,
            "web": web, "synthetic": synthetic,
        });
        Ok(Outcome { counts: object(counts), skipped })
    }
}

/// What comes of a record: its texts in and out, of the web and of the captioner; or why it is skipped, or
/// why the shard cannot go on.
type Added = Result<(Flow, Flow), Result<Skipped>>;

impl Assembler {
    fn add(&self, set: &ShardSet, index: usize, known: &Known, writer: &mut ShardWriter) -> Added {
        let record = read(set, index).map_err(Ok)?;
        let texts = &record.texts;
        let kept = self.kept(known, &record.key, &texts.captions).map_err(Ok)?;
        let is_known = match known {
            Known::Nothing => false,
            Known::Captions(_) => true,
            Known::Decisions(lines) => {
                self.mode == Mode::Both && lines.get(&record.key).is_some_and(|line| line.synthetic.is_some())
            }
        };
        let flow = |texts: usize, kept: usize| Flow { texts, kept };
        let flows = (
            flow(texts.captions.len(), kept.web.len()),
            flow(usize::from(is_known), usize::from(kept.synthetic.is_some())),
        );
        let pictures = set.pictures(index).map_err(|error| Ok(Skipped::of(&record.key, &error)))?;
        let image_id = texts.image_id.or_else(|| Some(image_id(&record.key)));
        for (key, captions) in self.records(&record.key, kept) {
            let texts = Texts { captions, image_id, ..texts.clone() };
            let json = serde_json::to_vec(&texts)
                .map_err(|e| Err(Error::new(ErrorKind::Internal, "texts are JSON").with_source(e)))?;
            let mut files = pictures.clone();
            files.push(("json".to_owned(), json));
            writer.add_files(&key, files).map_err(|error| match error.kind() {
                // A key that no shard takes.
                ErrorKind::BadOption => Ok(Skipped::of(&key, &error)),
                _ => Err(error),
            })?;
        }
        Ok(flows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(together: bool, kept: Kept) -> Vec<(String, Vec<String>)> {
        Assembler::new(Mode::Both, None, Vec::new(), together, FileOptions::default()).records("k", kept)
    }

    #[test]
    fn every_text_is_a_record_unless_they_stay_together() {
        let one = |key: &str, text: &str| (key.to_owned(), vec![text.to_owned()]);
        let kept = || Kept { web: vec!["a".into()], synthetic: Some("b".into()) };
        assert_eq!(records(false, kept()), [one("k", "a"), one("k-synthetic", "b")]);
        assert_eq!(records(true, kept()), [("k".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        let several = Kept { web: vec!["a".into(), "c".into()], synthetic: None };
        assert_eq!(records(false, several), [one("k-0", "a"), one("k-1", "c")]);
        assert!(records(false, Kept::default()).is_empty() && records(true, Kept::default()).is_empty());
    }

    #[test]
    fn a_mode_without_what_it_needs_is_refused() {
        let stage = Assembler::new(Mode::Filter, None, Vec::new(), false, FileOptions::default());
        assert_eq!(stage.known(Path::new("a.tar")).err().map(|error| error.code()), Some("bad-option"));
    }
}
