//! Questions: VQA accuracy of answers that are generated, and of ones chosen from a list (paper §5.3).

use serde::Serialize;

use super::captions::Measured;
use super::examples::{Examples, Left, OnExample, encode, one_thing_seen};
use crate::generate::Control;
use crate::tasks::{AskOptions, Event, Session};
use crate::train::data::{Question, Record};
use crate::train::metrics::accuracy::Accuracy;
use crate::train::metrics::vqa::{accuracies, normalise};
use crate::{Error, ErrorKind, Result};

/// How to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct QuestionOptions {
    /// The search, the convention and the number of candidates; question and answers are put in.
    pub ask: AskOptions,
    /// Generate answers.
    pub generated: bool,
    /// The list that answers are chosen from as well, as in the reference's evaluation.
    pub answers: Option<Vec<String>>,
}

/// Questions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuestionReport {
    /// Of answers that were generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated: Option<Answered>,
    /// Of answers that were chosen from the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranked: Option<Answered>,
    /// How long the list is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<usize>,
    /// Examples that were left out.
    pub left: Left,
    /// What was answered, in the order of the questions.
    #[serde(skip)]
    pub said: Vec<Reply>,
}

/// Answers of a model beside what it should have answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reply {
    /// The example.
    pub key: String,
    /// What it was asked.
    pub question: String,
    /// What it generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated: Option<String>,
    /// What it chose from the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranked: Option<String>,
    /// What people answered, with the weight of each answer.
    pub answers: Vec<(String, f32)>,
}

/// How right answers are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Answered {
    /// VQA accuracy, 0 to 1.
    pub accuracy: Measured,
    /// Answers that are the one with the most weight, both normalised.
    pub exact: Accuracy,
}

/// Annotators of a question in VQA, whose shares the weights of answers are.
const ANNOTATORS: f32 = 10.0;

/// What each of ten annotators would have said, normalised; every answer at least once.
fn annotations(question: &Question) -> Vec<String> {
    let sum: f32 = question.answers.iter().map(|(_, weight)| weight.max(0.0)).sum();
    let said = question.answers.iter().flat_map(|(answer, weight)| {
        let share = if sum > 0.0 { weight.max(0.0) / sum } else { 1.0 / question.answers.len() as f32 };
        let count = (share * ANNOTATORS).round().max(1.0) as usize;
        std::iter::repeat_n(normalise(answer), count)
    });
    said.collect()
}

/// The different answers of a dataset's examples, sorted: a list to choose from where there is no other.
///
/// # Errors
/// [`ErrorKind::Aborted`] when told to stop.
pub fn answer_list(examples: &Examples<'_>, on_example: OnExample<'_>) -> Result<Vec<String>> {
    let mut left = Left::default();
    let mut answers = Vec::new();
    for index in examples.indices() {
        if let Some(record) = examples.read(index, |_| None, &mut left) {
            let questions = record.texts.questions.into_iter();
            answers.extend(questions.flat_map(|question| question.answers).map(|(answer, _)| answer));
        }
        examples.tell(on_example, index + 1)?;
    }
    answers.sort();
    answers.dedup();
    Ok(answers)
}

/// Asks every question about every picture or clip.
///
/// # Errors
/// [`ErrorKind::TaskUnsupported`] without a network for questions, [`ErrorKind::BadOption`] when no example
/// has a question or for options that cannot be followed, [`ErrorKind::Aborted`] when told to stop, and
/// what the device fails with.
pub async fn questions(
    session: &Session,
    examples: &Examples<'_>,
    options: &QuestionOptions,
    on_example: OnExample<'_>,
) -> Result<QuestionReport> {
    let lacks = |record: &Record| {
        let has = record.texts.questions.iter().any(|question| !question.answers.is_empty());
        one_thing_seen(record).or((!has).then_some("no question with an answer"))
    };
    let (mut said, mut truth): (Vec<Reply>, _) = (Vec::new(), Vec::new());
    let mut left = Left::default();
    for batch in examples.batches() {
        let start = batch.start;
        let mut records: Vec<Record> =
            batch.filter_map(|index| examples.read(index, lacks, &mut left)).collect();
        let pictures = encode(session, &mut records).await?;
        for (nth, (record, picture)) in records.iter().zip(&pictures).enumerate() {
            for question in record.texts.questions.iter().filter(|question| !question.answers.is_empty()) {
                let mut unheard = |_: Event<'_>| Control::Continue;
                let asked = question.question.clone();
                let base = AskOptions { question: asked, answers: None, ..options.ask.clone() };
                let (mut generated, mut ranked) = (None, None);
                if options.generated {
                    generated = Some(session.ask(picture, &base, &mut unheard).await?.text);
                }
                if let Some(list) = &options.answers {
                    let choose = AskOptions { answers: Some(list.clone()), ..base };
                    ranked = Some(session.ask(picture, &choose, &mut unheard).await?.text);
                }
                truth.push(annotations(question));
                let Question { question, answers } = question.clone();
                said.push(Reply { key: record.key.clone(), question, generated, ranked, answers });
            }
            examples.tell(on_example, start + nth + 1)?;
        }
    }
    if truth.is_empty() {
        return Err(Error::new(ErrorKind::BadOption, "no example has a picture and a question"));
    }
    let answered = |answers: Option<Vec<String>>| -> Result<Option<Answered>> {
        let Some(answers) = answers else { return Ok(None) };
        let scores = accuracies(&answers, &truth)?;
        let exact =
            answers.iter().zip(&truth).map(|(answer, said)| Some(&normalise(answer)) == likeliest(said));
        Ok(Some(Answered { accuracy: Measured::of(scores.corpus, &scores.each), exact: Accuracy::of(exact) }))
    };
    let list = options.answers.as_ref().map(Vec::len);
    let generated = answered(said.iter().map(|reply| reply.generated.clone()).collect())?;
    let ranked = answered(said.iter().map(|reply| reply.ranked.clone()).collect())?;
    Ok(QuestionReport { generated, ranked, list, left, said })
}

/// What most annotators said; of equal ones the first.
fn likeliest(said: &[String]) -> Option<&String> {
    let count = |answer: &String| said.iter().filter(|other| *other == answer).count();
    said.iter().rev().max_by_key(|answer| count(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(answers: &[(&str, f32)]) -> Question {
        let answers = answers.iter().map(|(answer, weight)| ((*answer).to_owned(), *weight)).collect();
        Question { question: "what?".into(), answers }
    }

    #[test]
    fn weights_become_annotators() {
        let said = annotations(&question(&[("Two", 0.6), ("three", 0.3), ("a dog", 0.01)]));
        assert_eq!(said.iter().filter(|answer| *answer == "2").count(), 7);
        assert_eq!(said.iter().filter(|answer| *answer == "3").count(), 3);
        assert_eq!(said.iter().filter(|answer| *answer == "dog").count(), 1);
        assert_eq!(annotations(&question(&[("red", 1.0)])), vec!["red"; 10]);
        assert_eq!(annotations(&question(&[("red", 0.0), ("blue", 0.0)])).len(), 10);
    }

    #[test]
    fn the_likeliest_answer_is_what_most_said() {
        let said = ["a", "b", "b", "c", "c"].map(str::to_owned);
        assert_eq!(likeliest(&said).map(String::as_str), Some("b"));
        assert_eq!(likeliest(&[]), None);
    }
}
