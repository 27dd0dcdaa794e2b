//! Images with one text each: what pre-training and retrieval learn from.

use super::{Batch, HostImages, HostTexts, Preparation, one, picture};
use crate::Result;
use crate::tokenizer::pre_caption;
use crate::train::data::Record;
use crate::train::draw::Draw;

/// Pairs that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs {
    /// A picture a pair.
    pub images: HostImages,
    /// A text a pair.
    pub texts: HostTexts,
    /// The picture of each pair; pairs of one picture are matches of each other in retrieval.
    pub ids: Vec<u64>,
}

/// Words of a caption that are kept (spec §3.6).
const WORDS: usize = 30;

impl Batch for Pairs {
    type Options = ();

    /// A pair is only hard to tell from another one.
    const FEWEST: usize = 2;

    fn of(records: &[Record], preparation: &Preparation, (): &(), draw: &mut Draw) -> Result<Self> {
        let (mut images, mut texts, mut ids) = (preparation.images(), preparation.texts(), Vec::new());
        for record in records {
            images.push(picture(record)?);
            let caption = one(&record.texts.captions, record, "a caption", draw)?;
            texts.push(&preparation.tokenizer, &pre_caption(caption, WORDS), preparation.longest)?;
            ids.push(record.texts.image_id.unwrap_or_else(|| id_of(&record.key)));
        }
        Ok(Self { images, texts, ids })
    }
}

/// The number of a picture that is known by its key alone: FNV-1a, 64 bits.
fn id_of(key: &str) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    key.bytes().fold(0xCBF2_9CE4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{draw, preparation, record};
    use super::*;
    use crate::train::data::Texts;

    #[test]
    fn pairs_are_cleaned_cut_and_numbered() {
        let texts = |captions: &[&str], image_id| Texts {
            captions: captions.iter().map(|caption| (*caption).to_owned()).collect(),
            image_id,
            ..Texts::default()
        };
        let records = [
            record("a", 1, texts(&["A red CAR!"], Some(5))),
            record("b", 1, texts(&["a red car left of a blue car"], None)),
            record("b", 1, texts(&["red", "blue"], None)),
        ];
        let preparation = preparation();
        let pairs = Pairs::of(&records, &preparation, &(), &mut draw()).unwrap();
        assert_eq!(pairs.images.len(), 3);
        assert_eq!(pairs.texts.rows[0], [2, 4, 5, 6, 3]);
        assert_eq!(pairs.texts.rows[1], [2, 4, 5, 6, 8, 10, 4, 3], "eight tokens at most");
        assert!([[2, 5, 3], [2, 7, 3]].contains(&pairs.texts.rows[2][..].try_into().unwrap()));
        assert_eq!(pairs.ids[0], 5);
        assert_eq!(pairs.ids[1], pairs.ids[2]);
        let none = [record("c", 1, Texts::default())];
        let error = Pairs::of(&none, &preparation, &(), &mut draw()).unwrap_err();
        assert!(error.code() == "bad-option" && error.to_string().contains("`c`"), "{error}");
    }
}
