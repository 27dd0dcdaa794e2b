//! VQA accuracy (Antol et al. 2015) with the official normalisation of answers.
//!
//! The same as the code of the challenge, which LAVIS 1.0.2 carries; its oddities included:
//! - The answer is normalised in full; what annotators said only loses its punctuation, and not even
//!   that where all of them said the same. So an answer `two` becomes `2` and does not match ten times
//!   `two`: **annotations should be [`normalise`]d when a data set is made**, as those of VQA 2.0 are.
//! - Marks next to a space anywhere in the text are deleted, others become a space; where a comma stands
//!   between digits, all are deleted.
//! - At most 32 full stops are deleted, those before a digit never.

mod contractions;

use super::{Scores, mean};
use crate::{Error, ErrorKind, Result};

/// An annotation counts in full when at least so many others agree with it.
const AGREEING: f64 = 3.0;

/// How many full stops are deleted: a flag of the original's that arrived as a count.
const MOST_STOPS: usize = 32;

/// Marks that answers lose, in the order in which they are looked at.
const MARKS: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!',
];

/// Words that are left out.
const ARTICLES: [&str; 3] = ["a", "an", "the"];

/// Words that are numbers.
const NUMBERS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];

/// What an answer is compared as.
pub fn normalise(answer: &str) -> String {
    let line = answer.replace(['\n', '\t'], " ");
    words(&without_punctuation(line.trim()))
}

/// Without marks and full stops, by the official rules.
pub fn without_punctuation(answer: &str) -> String {
    let characters: Vec<_> = answer.chars().collect();
    let grouped = characters.windows(3).any(
        |three| matches!(three, [before, ',', after] if before.is_ascii_digit() && after.is_ascii_digit()),
    );
    let mut text = answer.to_owned();
    for mark in MARKS {
        let at_a_space = answer.contains(&format!("{mark} ")) || answer.contains(&format!(" {mark}"));
        text = text.replace(mark, if grouped || at_a_space { "" } else { " " });
    }
    without_stops(&text)
}

fn without_stops(text: &str) -> String {
    let mut left = MOST_STOPS;
    let mut characters = text.chars().peekable();
    let mut kept = String::with_capacity(text.len());
    while let Some(c) = characters.next() {
        let before_digit = characters.peek().is_some_and(|next| next.is_ascii_digit());
        if c == '.' && !before_digit && left > 0 {
            left -= 1;
        } else {
            kept.push(c);
        }
    }
    kept
}

/// Lower case, numbers as digits, no articles, contractions with their apostrophes.
fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    let numbers = lower
        .split_whitespace()
        .map(|word| NUMBERS.iter().find(|(name, _)| *name == word).map_or(word, |(_, digits)| digits));
    let words: Vec<_> = numbers.filter(|word| !ARTICLES.contains(word)).map(contractions::written).collect();
    words.join(" ")
}

/// How right an answer is, given what each annotator said: for each of them, a third for each *other* one
/// that agrees with the answer, at most 1; the mean over annotators.
///
/// # Errors
/// `bad-option` when there are no annotations.
pub fn accuracy<S: AsRef<str>>(answer: &str, annotations: &[S]) -> Result<f64> {
    let [first, others @ ..] = annotations else {
        let message = "metrics: a question without annotations, expected at least one";
        return Err(Error::new(ErrorKind::BadOption, message));
    };
    let answer = normalise(answer);
    let unanimous = others.iter().all(|other| other.as_ref() == first.as_ref());
    let agrees = |said: &S| match unanimous {
        true => said.as_ref() == answer,
        false => without_punctuation(said.as_ref()) == answer,
    };
    let agreeing: Vec<_> = annotations.iter().map(agrees).collect();
    let total = agreeing.iter().filter(|agrees| **agrees).count();
    let by_annotator: Vec<_> =
        agreeing.iter().map(|&own| f64::min(1.0, (total - usize::from(own)) as f64 / AGREEING)).collect();
    Ok(mean(&by_annotator))
}

/// The accuracy of each answer, and their mean.
///
/// # Errors
/// `bad-option` when there are no questions, not as many answers as questions, or a question has no
/// annotations.
pub fn accuracies<S: AsRef<str>>(answers: &[S], annotations: &[Vec<S>]) -> Result<Scores<f64>> {
    if answers.is_empty() || answers.len() != annotations.len() {
        let message = format!("metrics: {} answers to {} questions", answers.len(), annotations.len());
        return Err(Error::new(ErrorKind::BadOption, message));
    }
    let pairs = answers.iter().zip(annotations);
    let each = pairs.map(|(answer, said)| accuracy(answer.as_ref(), said)).collect::<Result<Vec<_>>>()?;
    Ok(Scores { corpus: mean(&each), each })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_lose_articles_marks_and_number_words() {
        for (answer, expected) in [
            ("The  Two dogs.", "2 dogs"),
            ("dont know!", "don't know"),
            ("yes, no", "yes no"),
            ("t-shirt", "t shirt"),
            ("t-shirt - red", "tshirt red"),
            ("1,000", "1000"),
            ("3.5", "3.5"),
            ("u.s.a.", "usa"),
            ("a/b", "b"),
            ("none\n", "0"),
            ("somebody'd", "somebodyd"),
            ("", ""),
        ] {
            assert_eq!(normalise(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn each_annotator_is_left_out_once() {
        let said = |yes: usize| [vec!["yes"; yes], vec!["no"; 10 - yes]].concat();
        let score = |yes| accuracy("Yes", &said(yes)).unwrap();
        // Three agree: for each of them two others do, for the other seven all three.
        assert!((score(3) - (3.0 * 2.0 / 3.0 + 7.0) / 10.0).abs() < 1e-12);
        assert!((score(1) - 0.9 / 3.0).abs() < 1e-12);
        assert_eq!([0, 4, 10].map(score), [0.0, 1.0, 1.0]);
    }

    #[test]
    fn annotations_that_are_not_normalised_do_not_match() {
        assert_eq!(accuracy("two", &["two"; 10]).unwrap(), 0.0);
        assert_eq!(accuracy("two", &["2"; 10]).unwrap(), 1.0);
        // Their punctuation is removed only where they differ.
        assert_eq!(accuracy("yes", &["yes."; 10]).unwrap(), 0.0);
        let said = [["yes."; 9].as_slice(), &["no"]].concat();
        assert_eq!(accuracy("yes", &said).unwrap(), 1.0);
    }

    #[test]
    fn full_stops_are_deleted_up_to_a_number_and_not_before_digits() {
        assert_eq!(without_punctuation(&".".repeat(40)), ".".repeat(8));
        assert_eq!(without_punctuation(".5 a.b"), ".5 ab");
    }

    #[test]
    fn questions_need_annotations_and_answers() {
        assert_eq!(accuracy("yes", &[""; 0]).unwrap_err().kind(), ErrorKind::BadOption);
        assert!(accuracies(&["a"], &[]).is_err() && accuracies::<&str>(&[], &[]).is_err());
        let scores = accuracies(&["yes", "no"], &[vec!["yes"; 10], vec!["yes"; 10]]).unwrap();
        assert_eq!((scores.corpus, scores.each), (0.5, vec![1.0, 0.0]));
    }
}
