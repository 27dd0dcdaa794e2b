//! Dialogues about a picture, with an answer that was given and one that was not.

use super::{Batch, HostImages, HostTexts, Preparation, lacks, one, picture};
use crate::tasks::dialogue_ids;
use crate::train::data::{Dialogue, Record, Round};
use crate::train::draw::Draw;
use crate::{Error, ErrorKind, Result};

/// Dialogues up to some round, each with its answer and with a wrong one.
#[derive(Clone, Debug, PartialEq)]
pub struct Dialogues {
    /// A picture a dialogue.
    pub images: HostImages,
    /// What everybody knows of the picture.
    pub captions: HostTexts,
    /// The dialogues with the answers that were given, then those with others.
    pub texts: HostTexts,
}

impl Dialogues {
    /// 1 for every text that is how the dialogue went on.
    pub fn labels(&self) -> Vec<i32> {
        let dialogues = self.captions.len();
        (0..self.texts.len()).map(|text| i32::from(text < dialogues)).collect()
    }
}

impl Batch for Dialogues {
    type Options = ();

    fn of(records: &[Record], preparation: &Preparation, (): &(), draw: &mut Draw) -> Result<Self> {
        let Preparation { tokenizer, longest, .. } = preparation;
        let (mut images, mut captions, mut texts) =
            (preparation.images(), preparation.texts(), preparation.texts());
        let mut wrong = Vec::new();
        for record in records {
            images.push(picture(record)?);
            let dialogue = record.texts.dialogue.as_ref().ok_or_else(|| lacks(record, "a dialogue"))?;
            captions.push(tokenizer, &dialogue.caption, *longest)?;
            let Dialogue { rounds, .. } = dialogue;
            let numbered: Vec<(usize, &Round)> = rounds.iter().enumerate().collect();
            let (turn, round) = *one(&numbered, record, "a round of dialogue", draw)?;
            let others: Vec<&String> =
                round.candidates.iter().filter(|candidate| **candidate != round.answer).collect();
            let other = *one(&others, record, "a candidate that was not the answer", draw)?;
            let said: Vec<[&str; 2]> =
                rounds[..turn].iter().map(|round| [&*round.question, &*round.answer]).collect();
            let ids = |answer: &str| {
                dialogue_ids(tokenizer, *longest, &said, &round.question, answer).map_err(|error| {
                    let message = format!("record `{}` cannot be read", record.key);
                    Error::new(ErrorKind::BadOption, message).with_source(error)
                })
            };
            texts.rows.push(ids(&round.answer)?);
            wrong.push(ids(other)?);
        }
        texts.rows.extend(wrong);
        Ok(Self { images, captions, texts })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{draw, preparation, record};
    use super::*;
    use crate::train::data::Texts;

    #[test]
    fn a_dialogue_comes_with_its_answer_and_with_another() {
        let round = Round {
            question: "is it red?".to_owned(),
            answer: "yes".to_owned(),
            candidates: vec!["yes".to_owned(), "no".to_owned()],
        };
        let dialogue = Dialogue { caption: "A car.".to_owned(), rounds: vec![round] };
        let records = [record("a", 1, Texts { dialogue: Some(dialogue), ..Texts::default() })];
        let batch = Dialogues::of(&records, &preparation(), &(), &mut draw()).unwrap();
        // The full stop is read as well: dialogues are not cleaned.
        assert_eq!(batch.captions.rows, [[2, 4, 6, 1, 3]]);
        let enc = preparation().tokenizer.enc();
        assert_eq!(batch.texts.rows, [[enc, 11, 12, 5, 16, 13, 3], [enc, 11, 12, 5, 16, 14, 3]]);
        assert_eq!(batch.labels(), [1, 0]);
    }
}
