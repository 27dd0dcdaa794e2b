//! Captions: exact ones, and BLEU, ROUGE-L and CIDEr (paper §5.2).

use serde::Serialize;

use super::examples::{Examples, Left, OnExample, encode, one_thing_seen};
use crate::generate::Control;
use crate::tasks::{CaptionOptions, CaptionProgress, Session};
use crate::tokenizer::pre_caption;
use crate::train::data::Record;
use crate::train::metrics::accuracy::Accuracy;
use crate::train::metrics::captions::{Captioned, score};
use crate::train::metrics::interval::{Interval, bootstrap};
use crate::{Error, ErrorKind, Result};

/// Captions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaptionReport {
    /// Captions that are one of the references, word for word, both cleaned as the reference cleans.
    pub exact: Accuracy,
    /// BLEU-1 to 4 of the corpus.
    pub bleu: [f64; 4],
    /// ROUGE-L.
    pub rouge_l: Measured,
    /// CIDEr.
    pub cider: Measured,
    /// Examples that were left out.
    pub left: Left,
    /// What was said, in the order of the examples.
    #[serde(skip)]
    pub said: Vec<Said>,
}

/// A mean over examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// On all examples.
    pub value: f64,
    /// The bootstrap interval of it.
    pub interval: Interval,
}

/// A caption beside what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// The example.
    pub key: String,
    /// What the model said.
    pub caption: String,
    /// What people said.
    pub references: Vec<String>,
}

/// Times that examples are drawn again for an interval, and the seed of the draws.
const RESAMPLES: (usize, u64) = (1000, 0);

impl Measured {
    pub(super) fn of(value: f64, each: &[f64]) -> Self {
        Self { value, interval: bootstrap(each, RESAMPLES.0, RESAMPLES.1) }
    }
}

impl Said {
    fn is_exact(&self) -> bool {
        let clean = |text: &str| pre_caption(text, usize::MAX);
        let caption = clean(&self.caption);
        self.references.iter().any(|reference| clean(reference) == caption)
    }
}

/// Captions every picture, and every clip, that has references.
///
/// # Errors
/// [`ErrorKind::TaskUnsupported`] without a captioner, [`ErrorKind::BadOption`] when no example has a
/// picture and a caption or for options that cannot be followed, [`ErrorKind::Aborted`] when told to stop,
/// and what the device fails with.
pub async fn captions(
    session: &Session,
    examples: &Examples<'_>,
    options: &CaptionOptions,
    on_example: OnExample<'_>,
) -> Result<CaptionReport> {
    let lacks =
        |record: &Record| one_thing_seen(record).or(record.texts.captions.is_empty().then_some("no caption"));
    let (mut said, mut left) = (Vec::new(), Left::default());
    for batch in examples.batches() {
        let start = batch.start;
        let mut records: Vec<Record> =
            batch.filter_map(|index| examples.read(index, lacks, &mut left)).collect();
        let pictures = encode(session, &mut records).await?;
        for (nth, (record, picture)) in records.iter_mut().zip(pictures).enumerate() {
            let mut unheard = |_: CaptionProgress| Control::Continue;
            let caption = session.caption_picture(&picture, options, &mut unheard).await?.text;
            let references = std::mem::take(&mut record.texts.captions);
            said.push(Said { key: record.key.clone(), caption, references });
            examples.tell(on_example, start + nth + 1)?;
        }
    }
    if said.is_empty() {
        return Err(Error::new(ErrorKind::BadOption, "no example has a picture and a caption"));
    }
    let captioned: Vec<Captioned> =
        said.iter().map(|said| Captioned::new(&said.caption, &said.references)).collect();
    let scores = score(&captioned)?;
    Ok(CaptionReport {
        exact: Accuracy::of(said.iter().map(Said::is_exact)),
        bleu: scores.bleu.corpus,
        rouge_l: Measured::of(scores.rouge_l.corpus, &scores.rouge_l.each),
        cider: Measured::of(scores.cider.corpus, &scores.cider.each),
        left,
        said,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_caption_is_one_of_the_references() {
        let said = |caption: &str| Said {
            key: "a".into(),
            caption: caption.into(),
            references: vec!["A red car.".into(), "one car".into()],
        };
        assert!(said("a red car").is_exact() && said("one car").is_exact());
        assert!(!said("a car").is_exact() && !said("").is_exact());
    }
}
