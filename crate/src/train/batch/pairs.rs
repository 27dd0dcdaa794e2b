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
    /// Texts that are nearly true of some of the pictures.
    pub nearly: Nearly,
}

/// Texts that say almost, but not quite, what a picture shows: the negatives of some records that are
/// harder than any other pair's text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nearly {
    /// The texts.
    pub texts: HostTexts,
    /// The pair whose picture each is nearly true of; at most one a pair.
    pub of: Vec<usize>,
}

/// What pairs need to know beside how texts become tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairOptions {
    /// How often a record's own nearly true text is taken as the wrong text of matching, instead of one
    /// drawn out of the batch; never in the reference, whose pairs come without such texts.
    pub own_negatives: f64,
}

/// Words of a caption that are kept (spec §3.6).
const WORDS: usize = 30;

impl Batch for Pairs {
    type Options = PairOptions;

    /// A pair is only hard to tell from another one.
    const FEWEST: usize = 2;

    fn of(
        records: &[Record],
        preparation: &Preparation,
        options: &PairOptions,
        draw: &mut Draw,
    ) -> Result<Self> {
        let (mut images, mut texts, mut ids) = (preparation.images(), preparation.texts(), Vec::new());
        let mut nearly = Nearly { texts: preparation.texts(), of: Vec::new() };
        for (pair, record) in records.iter().enumerate() {
            images.push(picture(record)?);
            let caption = one(&record.texts.captions, record, "a caption", draw)?;
            texts.push(&preparation.tokenizer, &pre_caption(caption, WORDS), preparation.longest)?;
            ids.push(record.texts.image_id.unwrap_or_else(|| id_of(&record.key)));
            let own = &record.texts.hard_negatives;
            // Nothing is drawn where nothing is asked for: what else is drawn stays as it was.
            if options.own_negatives > 0.0 && !own.is_empty() && draw.uniform() < options.own_negatives {
                let text = pre_caption(&own[draw.below(own.len())], WORDS);
                nearly.texts.push(&preparation.tokenizer, &text, preparation.longest)?;
                nearly.of.push(pair);
            }
        }
        Ok(Self { images, texts, ids, nearly })
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
        let pairs = Pairs::of(&records, &preparation, &PairOptions::default(), &mut draw()).unwrap();
        assert_eq!(pairs.images.len(), 3);
        assert_eq!(pairs.texts.rows[0], [2, 4, 5, 6, 3]);
        assert_eq!(pairs.texts.rows[1], [2, 4, 5, 6, 8, 10, 4, 3], "eight tokens at most");
        assert!([[2, 5, 3], [2, 7, 3]].contains(&pairs.texts.rows[2][..].try_into().unwrap()));
        assert_eq!(pairs.ids[0], 5);
        assert_eq!(pairs.ids[1], pairs.ids[2]);
        let none = [record("c", 1, Texts::default())];
        let error = Pairs::of(&none, &preparation, &PairOptions::default(), &mut draw()).unwrap_err();
        assert!(error.code() == "bad-option" && error.to_string().contains("`c`"), "{error}");
    }

    #[test]
    fn nearly_true_texts_come_from_the_record_and_as_often_as_is_asked_for() {
        let with = |hard_negatives: &[&str]| Texts {
            captions: vec!["a red car".to_owned()],
            hard_negatives: hard_negatives.iter().map(|text| (*text).to_owned()).collect(),
            ..Texts::default()
        };
        let records = [record("a", 1, with(&[])), record("b", 1, with(&["A blue car!"]))];
        let of = |own_negatives| {
            Pairs::of(&records, &preparation(), &PairOptions { own_negatives }, &mut draw()).unwrap().nearly
        };
        assert_eq!(of(1.0).texts.rows, [[2, 4, 7, 6, 3]]);
        assert_eq!(of(1.0).of, [1]);
        assert!(of(0.0).texts.is_empty());
        let many = vec![record("b", 1, with(&["a blue car"])); 400];
        let options = PairOptions { own_negatives: 0.25 };
        let some = Pairs::of(&many, &preparation(), &options, &mut draw()).unwrap().nearly;
        assert!((70..130).contains(&some.of.len()), "{}", some.of.len());
        assert!(some.of.is_sorted() && some.of.len() == some.texts.len());
    }
}
