//! Right or wrong: statements about two pictures, and captions beside ones that are nearly true.

use serde::Serialize;

use super::examples::{Examples, Left, OnExample, encode, one_thing_seen};
use crate::generate::Control;
use crate::tasks::{Convention, Head, MatchOptions, Nlvr2Options, Session, Task};
use crate::train::data::Record;
use crate::train::metrics::accuracy::{Accuracy, hard_negatives as preferred};
use crate::{Error, ErrorKind, Result};

/// NLVR2: statements about two pictures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatementReport {
    /// Statements that were judged rightly. Unlike in the reference, whose published accuracy has sampling
    /// noise, pictures are never exchanged.
    pub accuracy: Accuracy,
    /// Of those that hold.
    pub holding: Accuracy,
    /// Of those that do not.
    pub failing: Accuracy,
    /// Examples that were left out.
    pub left: Left,
}

/// Judges every statement of every pair of pictures.
///
/// # Errors
/// [`ErrorKind::TaskUnsupported`] without a network for NLVR2, [`ErrorKind::BadOption`] when no example has
/// two pictures and a statement, [`ErrorKind::Aborted`] when told to stop, and what the device fails with.
pub async fn statements(
    session: &Session,
    examples: &Examples<'_>,
    on_example: OnExample<'_>,
) -> Result<StatementReport> {
    session.part(Task::Nlvr2)?;
    let lacks = |record: &Record| match (record.images.len(), record.texts.statements.is_empty()) {
        (2, false) => None,
        (2, true) => Some("no statement"),
        _ => Some("not two pictures"),
    };
    let (mut outcomes, mut left) = (Vec::new(), Left::default());
    for index in examples.indices() {
        if let Some(record) = examples.read(index, lacks, &mut left) {
            let pictures = session.encode_many(&record.images).await?;
            let [first, second] = &pictures[..] else { continue };
            for statement in &record.texts.statements {
                let options = Nlvr2Options { statement: statement.text.clone() };
                let mut on_step = |_: usize, _: usize| Control::Continue;
                let answer = session.nlvr2([first, second], &options, &mut on_step).await?;
                outcomes.push((statement.holds, answer.answer == statement.holds));
            }
        }
        examples.tell(on_example, index + 1)?;
    }
    let of =
        |holds: bool| Accuracy::of(outcomes.iter().filter(|(one, _)| *one == holds).map(|(_, right)| *right));
    Ok(StatementReport {
        accuracy: Accuracy::of(outcomes.iter().map(|(_, right)| *right)),
        holding: of(true),
        failing: of(false),
        left,
    })
}

/// Captions beside ones that are nearly true.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NegativeReport {
    /// Pairs of a picture's caption and a false one in which ITM prefers the caption.
    pub pairs: Accuracy,
    /// Pictures whose caption ITM prefers to every false one.
    pub pictures: Accuracy,
    /// Pairs in which ITC does; absent without a network for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs_by_contrast: Option<Accuracy>,
    /// Texts, true or false, that ITM puts on the right side of a half.
    pub decisions: Accuracy,
    /// Examples that were left out.
    pub left: Left,
}

/// Compares the first caption of every picture with each of its hard negatives. An equal score is a
/// mistake.
///
/// # Errors
/// [`ErrorKind::TaskUnsupported`] without a network for ITM, [`ErrorKind::BadOption`] when no example has a
/// caption with a hard negative, [`ErrorKind::Aborted`] when told to stop, and what the device fails with.
pub async fn hard_negatives(
    session: &Session,
    examples: &Examples<'_>,
    on_example: OnExample<'_>,
) -> Result<NegativeReport> {
    let lacks = |record: &Record| {
        let has = !record.texts.captions.is_empty() && !record.texts.hard_negatives.is_empty();
        one_thing_seen(record).or((!has).then_some("no caption with a hard negative"))
    };
    session.part(Task::Itm)?;
    let contrast = session.part(Task::Itc).is_ok();
    let heads = if contrast { vec![Head::Itm, Head::Itc] } else { vec![Head::Itm] };
    let (mut pairs, mut by_contrast) = (Vec::new(), Vec::new());
    let (mut pictures, mut decisions) = (Accuracy::default(), Accuracy::default());
    let mut left = Left::default();
    for batch in examples.batches() {
        let end = batch.end;
        let mut records: Vec<Record> =
            batch.filter_map(|index| examples.read(index, lacks, &mut left)).collect();
        let encoded = encode(session, &mut records).await?;
        for (record, picture) in records.iter().zip(&encoded) {
            let (caption, negatives) = (&record.texts.captions[0], &record.texts.hard_negatives);
            let texts = std::iter::once(caption).chain(negatives).cloned().collect();
            let options =
                MatchOptions { texts, heads: Some(heads.clone()), convention: Convention::default() };
            let mut on_step = |_: usize, _: usize| Control::Continue;
            let found = session.match_texts(picture, &options, &mut on_step).await?;
            // Logits: probabilities near 1 are all alike.
            let logit = |nth: usize| found[nth].itm.map_or(f32::NAN, |itm| itm.logit);
            let cosine = |nth: usize| found[nth].itc.unwrap_or(f32::NAN);
            let beside = 1..found.len();
            let own: Vec<(f32, f32)> = beside.clone().map(|nth| (logit(0), logit(nth))).collect();
            pictures.count(own.iter().all(|(truth, negative)| truth > negative));
            pairs.extend(own);
            by_contrast.extend(beside.map(|nth| (cosine(0), cosine(nth))));
            for (nth, text) in found.iter().enumerate() {
                let fits = text.itm.is_some_and(|itm| itm.probability >= 0.5);
                decisions.count(fits == (nth == 0));
            }
        }
        examples.tell(on_example, end)?;
    }
    if pairs.is_empty() {
        return Err(Error::new(ErrorKind::BadOption, "no example has a caption with a hard negative"));
    }
    Ok(NegativeReport {
        pairs: preferred(pairs),
        pictures,
        pairs_by_contrast: contrast.then(|| preferred(by_contrast)),
        decisions,
        left,
    })
}
