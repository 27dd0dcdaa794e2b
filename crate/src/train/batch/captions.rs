//! Images with what a captioner is to say.

use super::{Batch, HostImages, HostTexts, HostWeights, Preparation, one, picture};
use crate::Result;
use crate::tokenizer::pre_caption;
use crate::train::data::Record;
use crate::train::draw::Draw;

/// Pictures and captions behind a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Captions {
    /// A picture an example.
    pub images: HostImages,
    /// Prompt and caption of each.
    pub texts: HostTexts,
    /// The prompt is no target (spec §9), the loss a mean over all others.
    pub weights: HostWeights,
}

/// Words of a caption that are kept, the prompt not counted.
const WORDS: usize = 30;

impl Batch for Captions {
    /// The prompt, such as `a picture of `; the space at its end belongs to it.
    type Options = String;

    fn of(records: &[Record], preparation: &Preparation, prompt: &String, draw: &mut Draw) -> Result<Self> {
        let (mut images, mut texts) = (preparation.images(), preparation.texts());
        for record in records {
            images.push(picture(record)?);
            let caption = one(&record.texts.captions, record, "a caption", draw)?;
            let text = format!("{prompt}{}", pre_caption(caption, WORDS));
            texts.push(&preparation.tokenizer, &text, preparation.longest)?;
        }
        let weights = texts.mean(preparation.tokenizer.encode_prompt(Some(prompt))?.len());
        Ok(Self { images, texts, weights })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{draw, preparation, record};
    use super::*;
    use crate::train::data::Texts;

    #[test]
    fn the_prompt_is_read_and_not_learned() {
        let texts = Texts { captions: vec!["red car".to_owned()], ..Texts::default() };
        let records = [record("a", 1, texts)];
        let captions =
            |prompt: &str| Captions::of(&records, &preparation(), &prompt.to_owned(), &mut draw()).unwrap();
        assert_eq!(captions("a ").texts.rows, [[2, 4, 5, 6, 3]]);
        assert_eq!(captions("a ").weights, HostWeights { prompt: 2, of_text: vec![1.0 / 3.0] });
        assert_eq!(captions("").weights, HostWeights { prompt: 1, of_text: vec![1.0 / 3.0] });
    }
}
