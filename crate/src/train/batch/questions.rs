//! Images with a question each, and weighted answers.

use super::{Batch, HostImages, HostTexts, HostWeights, Preparation, one, picture};
use crate::Result;
use crate::tokenizer::pre_question;
use crate::train::data::Record;
use crate::train::draw::Draw;

/// Questions about pictures, and all their answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Questions {
    /// A picture a question.
    pub images: HostImages,
    /// The questions.
    pub questions: HostTexts,
    /// The answers of all questions.
    pub answers: HostTexts,
    /// Which question each answer belongs to.
    pub asked: Vec<usize>,
    /// The weight of each answer over the number of questions (spec §9).
    pub weights: HostWeights,
}

impl Batch for Questions {
    type Options = ();

    fn of(records: &[Record], preparation: &Preparation, (): &(), draw: &mut Draw) -> Result<Self> {
        let Preparation { tokenizer, longest, .. } = preparation;
        let (mut images, mut questions, mut answers) =
            (preparation.images(), preparation.texts(), preparation.texts());
        let (mut asked, mut of_text) = (Vec::new(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            images.push(picture(record)?);
            let question = one(&record.texts.questions, record, "a question", draw)?;
            questions.push(tokenizer, &pre_question(&question.question), *longest)?;
            for (answer, weight) in &question.answers {
                answers.push(tokenizer, answer, *longest)?;
                asked.push(index);
                of_text.push(weight / records.len() as f32);
            }
        }
        Ok(Self { images, questions, answers, asked, weights: HostWeights { prompt: 1, of_text } })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{draw, preparation, record};
    use super::*;
    use crate::train::data::{Question, Texts};

    #[test]
    fn answers_count_by_their_weight_over_the_questions() {
        let asking = |question: &str, answers: &[(&str, f32)]| {
            let answers = answers.iter().map(|(answer, weight)| ((*answer).to_owned(), *weight)).collect();
            let questions = vec![Question { question: question.to_owned(), answers }];
            record(question, 1, Texts { questions, ..Texts::default() })
        };
        let records =
            [asking("Is it red?", &[("yes", 0.7), ("no", 0.3)]), asking("is the car blue", &[("no", 1.0)])];
        let batch = Questions::of(&records, &preparation(), &(), &mut draw()).unwrap();
        assert_eq!(batch.questions.rows, vec![vec![2, 11, 12, 5, 16, 3], vec![2, 11, 15, 6, 7, 3]]);
        assert_eq!(batch.answers.rows, [[2, 13, 3], [2, 14, 3], [2, 14, 3]]);
        assert_eq!(batch.asked, [0, 0, 1]);
        assert_eq!(batch.weights.of_text, [0.35, 0.15, 0.5]);
    }
}
