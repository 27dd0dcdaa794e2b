//! Images with a question or several each, and weighted answers.

use super::{Batch, HostImages, HostTexts, HostWeights, Preparation, one, picture};
use crate::Result;
use crate::tokenizer::pre_question;
use crate::train::data::{Question, Record};
use crate::train::draw::Draw;

/// Questions about pictures, and all their answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Questions {
    /// The pictures.
    pub images: HostImages,
    /// The questions.
    pub questions: HostTexts,
    /// Which picture each question is about.
    pub about: Vec<usize>,
    /// The answers of all questions.
    pub answers: HostTexts,
    /// Which question each answer belongs to.
    pub asked: Vec<usize>,
    /// The weight of each answer over the number of questions (spec §9).
    pub weights: HostWeights,
}

/// How many questions about a picture are asked in one step: one in the reference, whose pictures have few.
/// With more, less of the time goes into looking at pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuestionsPerPicture(pub usize);

impl Default for QuestionsPerPicture {
    fn default() -> Self {
        Self(1)
    }
}

impl Batch for Questions {
    type Options = QuestionsPerPicture;

    fn of(
        records: &[Record],
        preparation: &Preparation,
        QuestionsPerPicture(most): &QuestionsPerPicture,
        draw: &mut Draw,
    ) -> Result<Self> {
        let Preparation { tokenizer, longest, .. } = preparation;
        let (mut images, mut questions, mut answers) =
            (preparation.images(), preparation.texts(), preparation.texts());
        let (mut about, mut asked, mut of_text) = (Vec::new(), Vec::new(), Vec::new());
        for (index, record) in records.iter().enumerate() {
            images.push(picture(record)?);
            let mut left: Vec<&Question> = record.texts.questions.iter().collect();
            for _ in 0..left.len().clamp(1, *most) {
                let question = *one(&left, record, "a question", draw)?;
                left.retain(|other| !std::ptr::eq(*other, question));
                questions.push(tokenizer, &pre_question(&question.question), *longest)?;
                for (answer, weight) in &question.answers {
                    answers.push(tokenizer, answer, *longest)?;
                    asked.push(about.len());
                    of_text.push(*weight);
                }
                about.push(index);
            }
        }
        of_text.iter_mut().for_each(|weight| *weight /= about.len() as f32);
        Ok(Self { images, questions, about, answers, asked, weights: HostWeights { prompt: 1, of_text } })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{draw, preparation, record};
    use super::*;
    use crate::train::data::Texts;

    #[test]
    fn answers_count_by_their_weight_over_the_questions() {
        let asking = |question: &str, answers: &[(&str, f32)]| {
            let answers = answers.iter().map(|(answer, weight)| ((*answer).to_owned(), *weight)).collect();
            let questions = vec![Question { question: question.to_owned(), answers }];
            record(question, 1, Texts { questions, ..Texts::default() })
        };
        let records =
            [asking("Is it red?", &[("yes", 0.7), ("no", 0.3)]), asking("is the car blue", &[("no", 1.0)])];
        let batch = Questions::of(&records, &preparation(), &QuestionsPerPicture(1), &mut draw()).unwrap();
        assert_eq!(batch.questions.rows, vec![vec![2, 11, 12, 5, 16, 3], vec![2, 11, 15, 6, 7, 3]]);
        assert_eq!(batch.answers.rows, [[2, 13, 3], [2, 14, 3], [2, 14, 3]]);
        assert_eq!(batch.asked, [0, 0, 1]);
        assert_eq!(batch.weights.of_text, [0.35, 0.15, 0.5]);
        assert_eq!(batch.about, [0, 1]);
    }

    #[test]
    fn a_picture_is_asked_about_as_often_as_it_has_questions() {
        let question = |text: &str| Question { question: text.to_owned(), answers: vec![("no".into(), 1.0)] };
        let with = |key, texts: &[&str]| {
            let questions = texts.iter().map(|text| question(text)).collect();
            record(key, 1, Texts { questions, ..Texts::default() })
        };
        let records = [with("a", &["is it red?"]), with("b", &["is it red?", "is it blue?", "is it left?"])];
        let of =
            |most| Questions::of(&records, &preparation(), &QuestionsPerPicture(most), &mut draw()).unwrap();
        let batch = of(2);
        assert_eq!((&batch.about[..], batch.images.len()), (&[0, 1, 1][..], 2));
        assert_ne!(batch.questions.rows[1], batch.questions.rows[2]);
        assert_eq!(batch.asked, [0, 1, 2]);
        assert!(batch.weights.of_text.iter().all(|weight| *weight == 1.0 / 3.0));
        assert_eq!(of(9).about, [0, 1, 1, 1]);
    }
}
