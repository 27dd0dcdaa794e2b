//! What stands in each layout, and the records it means.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Entry, Layout};
use crate::train::data::{Question, Statement, Texts};

/// The weight of an answer from Visual Genome.
const VG_WEIGHT: f32 = 0.2;

/// The layout of a file, by its first entry.
pub(super) fn recognised(text: &[u8]) -> Option<Layout> {
    let value: Value = serde_json::from_slice(text).ok()?;
    if value.get("images").is_some_and(Value::is_array) && value.get("annotations").is_some() {
        return Some(Layout::CocoCaptions);
    }
    let first = value.as_array()?.first()?;
    let has = |field: &str| first.get(field).is_some();
    match first.get("caption") {
        _ if has("sentence") && has("images") => Some(Layout::Statement),
        _ if !has("image") => None,
        _ if has("question") => Some(Layout::Question),
        Some(Value::String(_)) => Some(Layout::Caption),
        Some(Value::Array(_)) => Some(Layout::Captions),
        Some(_) => None,
        None => Some(Layout::Picture),
    }
}

/// The records of a file.
///
/// # Errors
/// Where it is not as the layout says.
pub(super) fn read(text: &[u8], layout: Layout) -> serde_json::Result<Vec<Entry>> {
    Ok(match layout {
        Layout::CocoCaptions => coco(serde_json::from_slice(text)?),
        Layout::Caption | Layout::Captions | Layout::Picture => {
            numbered(serde_json::from_slice::<Vec<Pictured>>(text)?, Pictured::entry)
        }
        Layout::Statement => numbered(serde_json::from_slice::<Vec<Stated>>(text)?, Stated::entry),
        Layout::Question => numbered(serde_json::from_slice::<Vec<Asked>>(text)?, Asked::entry),
    })
}

/// Keys are the numbers of the entries where nothing better is unique.
fn numbered<T>(all: Vec<T>, entry: fn(T, usize) -> Entry) -> Vec<Entry> {
    all.into_iter().enumerate().map(|(number, one)| entry(one, number)).collect()
}

/// One or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// A number, or a name such as `coco_391895`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Name(String),
}

impl Id {
    /// A number for it: COCO's own of its names, a hash of all other names, so that `vg_1` is not
    /// `coco_1`.
    fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Name(name) => match name.strip_prefix("coco_").unwrap_or(name).parse() {
                Ok(number) => number,
                Err(_) => hash(name),
            },
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Name(name) => name.clone(),
        }
    }
}

/// The first 63 bits of SHA-256: equal for equal names, and for others never.
fn hash(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte)) >> 1
}

/// COCO's number of a picture: the digits after the last underscore of its file's name.
fn coco_number(image: &str) -> Option<u64> {
    let file = image.rsplit('/').next()?;
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    stem.rsplit_once('_').map(|(_, digits)| digits)?.parse().ok()
}

#[derive(Deserialize)]
struct Pictured {
    image: String,
    caption: Option<OneOrMany>,
    #[serde(alias = "img_id")]
    image_id: Option<Id>,
}

impl Pictured {
    fn entry(self, number: usize) -> Entry {
        let image_id = self.image_id.map_or_else(
            // An evaluation names results after the picture.
            || coco_number(&self.image).unwrap_or_else(|| hash(&self.image)),
            |id| id.number(),
        );
        let captions = self.caption.map(OneOrMany::into_vec).unwrap_or_default();
        let texts = Texts { image_id: Some(image_id), captions, ..Texts::default() };
        Entry { key: number.to_string(), images: vec![self.image], texts }
    }
}

#[derive(Deserialize)]
struct Stated {
    sentence: String,
    label: Label,
    images: [String; 2],
}

/// "True" and "False", or the same as JSON has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Truth(bool),
    Word(Word),
}

#[derive(Deserialize)]
enum Word {
    #[serde(alias = "true")]
    True,
    #[serde(alias = "false")]
    False,
}

impl Stated {
    fn entry(self, number: usize) -> Entry {
        let holds = matches!(self.label, Label::Truth(true) | Label::Word(Word::True));
        let statements = vec![Statement { text: self.sentence, holds }];
        Entry {
            key: number.to_string(),
            images: self.images.into(),
            texts: Texts { statements, ..Texts::default() },
        }
    }
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    question_id: Option<Id>,
    image: String,
    answer: Option<OneOrMany>,
    dataset: Option<Source>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Source {
    Vqa,
    Vg,
}

impl Asked {
    fn entry(self, number: usize) -> Entry {
        let given = self.answer.map(OneOrMany::into_vec).unwrap_or_default();
        let share = 1.0 / given.len() as f32;
        let mut answers: Vec<(String, f32)> = Vec::new();
        for answer in given {
            match answers.iter_mut().find(|(known, _)| *known == answer) {
                Some((_, weight)) => *weight += share,
                None => answers.push((answer, share)),
            }
        }
        if self.dataset == Some(Source::Vg) {
            answers.iter_mut().for_each(|(_, weight)| *weight = VG_WEIGHT);
        }
        let image_id = coco_number(&self.image).unwrap_or_else(|| hash(&self.image));
        // Question ids are unique within a set of questions, but there may be two sets in a file.
        let key = match self.question_id {
            Some(id) => format!("{number}-{}", id.text()),
            None => number.to_string(),
        };
        let questions = vec![Question { question: self.question, answers }];
        Entry {
            key,
            images: vec![self.image],
            texts: Texts { image_id: Some(image_id), questions, ..Texts::default() },
        }
    }
}

#[derive(Deserialize)]
struct Coco {
    images: Vec<CocoImage>,
    annotations: Vec<CocoCaption>,
}

#[derive(Deserialize)]
struct CocoImage {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct CocoCaption {
    image_id: u64,
    caption: String,
}

/// One record a picture, in the order of the pictures; captions of unknown pictures belong to none.
fn coco(file: Coco) -> Vec<Entry> {
    let mut captions: HashMap<u64, Vec<String>> = HashMap::new();
    for CocoCaption { image_id, caption } in file.annotations {
        captions.entry(image_id).or_default().push(caption);
    }
    let entry = |image: CocoImage| {
        let captions = captions.remove(&image.id).unwrap_or_default();
        Entry {
            key: image.id.to_string(),
            images: vec![image.file_name],
            texts: Texts { image_id: Some(image.id), captions, ..Texts::default() },
        }
    };
    file.images.into_iter().map(entry).collect()
}
