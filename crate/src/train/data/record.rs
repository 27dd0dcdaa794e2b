//! One example: pictures, and what is said about them.

use image::RgbImage;
use serde::{Deserialize, Serialize};

/// One example of any task: its pictures, and whatever texts belong to them.
///
/// A stage takes what it needs and says so when it is missing; in a file the texts are one JSON
/// object with these field names ([`Texts`]).
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Unique within a dataset.
    pub key: String,
    /// One picture; two for a statement about a pair, several for a clip.
    pub images: Vec<RgbImage>,
    /// What is said about them.
    pub texts: Texts,
}

/// The texts of a [`Record`], as they stand in a JSON file beside its pictures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// The picture; records of one picture share it. The key where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<u64>,
    /// Sentences that are true of the picture, or that the web says are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captions: Vec<String>,
    /// Questions with their answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<Question>,
    /// Statements about the pictures, true or false.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<Statement>,
    /// A dialogue about the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialogue: Option<Dialogue>,
    /// Sentences that are nearly true: one word of a caption is another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hard_negatives: Vec<String>,
}

/// A question and its answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The question.
    pub question: String,
    /// Each different answer with its weight: the share of annotators who gave it.
    pub answers: Vec<(String, f32)>,
}

/// A statement about one or two pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The statement.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
}

/// A dialogue about a picture whose caption everybody knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialogue {
    /// The caption.
    pub caption: String,
    /// Questions and answers, in order.
    pub rounds: Vec<Round>,
}

/// One turn of a dialogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// The question.
    pub question: String,
    /// The answer that was given.
    pub answer: String,
    /// The answers to rank, the given one among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
}
