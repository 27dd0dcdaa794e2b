//! Two images and a statement about them (NLVR2).

use super::{Batch, HostImages, HostTexts, Preparation, lacks, one};
use crate::Result;
use crate::tokenizer::pre_caption;
use crate::train::data::Record;
use crate::train::draw::Draw;

/// Statements about pairs of pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Statements {
    /// The first pictures of all pairs, then the second ones.
    pub images: HostImages,
    /// A statement a pair.
    pub texts: HostTexts,
    /// 1 where it holds.
    pub labels: Vec<i32>,
}

/// Words of a statement that are kept (spec §3.6).
const WORDS: usize = 40;

impl Batch for Statements {
    type Options = ();

    fn of(records: &[Record], preparation: &Preparation, (): &(), draw: &mut Draw) -> Result<Self> {
        let (mut images, mut texts, mut labels) = (preparation.images(), preparation.texts(), Vec::new());
        let mut second = preparation.images();
        for record in records {
            let [left, right] = &record.images[..] else {
                return Err(lacks(record, "two pictures"));
            };
            let statement = one(&record.texts.statements, record, "a statement", draw)?;
            let mut text = pre_caption(&statement.text, WORDS);
            let (mut left, mut right) = (left, right);
            // The reference swaps the pictures every other time, and the words with them (spec §6.1).
            if draw.coin() {
                (left, right, text) = (right, left, mirrored(&text));
            }
            images.push(left);
            second.push(right);
            texts.push(&preparation.tokenizer, &text, preparation.longest)?;
            labels.push(i32::from(statement.holds));
        }
        images.pixels.extend(second.pixels);
        Ok(Self { images, texts, labels })
    }
}

/// The sentence with left and right exchanged.
fn mirrored(text: &str) -> String {
    let word = |word| match word {
        "left" => "right",
        "right" => "left",
        other => other,
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{draw, preparation, record};
    use super::*;
    use crate::train::data::{Statement, Texts};
    use image::{Rgb, RgbImage};

    #[test]
    fn pictures_are_swapped_with_their_words() {
        let statement = Statement { text: "Red is left of blue".to_owned(), holds: true };
        let texts = Texts { statements: vec![statement], ..Texts::default() };
        let mut pair = record("a", 2, texts);
        pair.images[1] = RgbImage::from_pixel(4, 4, Rgb([255; 3]));
        let records = vec![pair; 40];
        let batch = Statements::of(&records, &preparation(), &(), &mut draw()).unwrap();
        assert_eq!((batch.images.len(), batch.labels), (80, vec![1; 40]));
        let image = 3 * batch.images.size * batch.images.size;
        let mut swapped = 0;
        for (index, row) in batch.texts.rows.iter().enumerate() {
            let first_is_white = batch.images.pixels[index * image] > 0.0;
            let second_is_white = batch.images.pixels[(40 + index) * image] > 0.0;
            assert_ne!(first_is_white, second_is_white);
            let side = if first_is_white { 9 } else { 8 };
            assert_eq!(row[..], [2, 5, 11, side, 10, 7, 3]);
            swapped += usize::from(first_is_white);
        }
        assert!((10..30).contains(&swapped), "{swapped}");
    }
}
