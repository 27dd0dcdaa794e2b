//! Where in a picture the words of a text are: Grad-CAM on the cross-attention of the matching network
//! (spec §6.5), with a gradient that is written down rather than found by automatic differentiation.

use serde::{Deserialize, Serialize};

use super::matching::{Convention, OnStep, probability, step};
use super::part::{Part, Task};
use super::picture::Picture;
use super::session::Session;
use crate::model::{LayerNumbers, Relevance, integers};
use crate::tokenizer::Tokenizer;
use crate::{Error, ErrorKind, Result};

/// What to explain, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplainOptions {
    /// The text.
    pub text: String,
    /// The layer whose cross-attention is looked at, from 0; the middle one (6 of 12, as in LAVIS) when
    /// left out. Of the last layer only the first token has a map: no other's attention there reaches
    /// the match.
    #[serde(default)]
    pub layer: Option<usize>,
    /// How the text is prepared.
    #[serde(default)]
    pub convention: Convention,
}

/// Where in a picture a text is. Maps are at least 0, and comparable among the words of one text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// How the gradient was computed.
    pub method: &'static str,
    /// The layer whose cross-attention was looked at, from 0.
    pub layer: usize,
    /// Height and width of a map.
    pub grid: [usize; 2],
    /// Maps of each token, word or text: 1, or the frames of a clip, one behind another.
    pub frames: usize,
    /// That text and picture match.
    pub probability: f32,
    /// The tokens of the text as the network read it, special ones included.
    pub tokens: Vec<ExplainedToken>,
    /// The words that the tokens are pieces of.
    pub words: Vec<ExplainedWord>,
    /// The maps.
    #[serde(skip)]
    pub maps: Maps,
}

/// A token of the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedToken {
    /// As it stands in the vocabulary: `##` continues a word.
    pub text: String,
    /// Its id.
    pub id: u32,
    /// The word that it is a piece of; special tokens belong to none.
    pub word: Option<usize>,
}

/// A word of the text, as the tokenizer parts it: punctuation stands alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedWord {
    /// Its pieces together; `[UNK]` where the vocabulary cannot spell it.
    pub text: String,
    /// Indices of its tokens.
    pub tokens: Vec<usize>,
}

/// Relevance of each place of the grid, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Maps {
    /// `[tokens, frames·height·width]`.
    pub tokens: Vec<f32>,
    /// `[words, frames·height·width]`: the mean over a word's tokens.
    pub words: Vec<f32>,
    /// `[frames·height·width]`: the mean over the tokens of the text, first and last left out.
    pub sentence: Vec<f32>,
}

/// Said in every explanation.
const METHOD: &str = "analytic gradient, without autodiff";

impl Session {
    /// Finds where in a picture, or in the frames of a clip, each word of a text is.
    ///
    /// `on_step` is told after the forward pass and after every layer of the reverse pass; it may cancel.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] without a network for ITM, [`ErrorKind::BadOption`] for a text
    /// without words or longer than the tokenizer reads, or a layer that the network does not have,
    /// [`ErrorKind::Aborted`] when cancelled, and what the device fails with.
    pub async fn explain(
        &self,
        picture: &Picture,
        options: &ExplainOptions,
        on_step: OnStep<'_>,
    ) -> Result<Explanation> {
        let part = self.part(Task::Itm)?;
        let (Some(encoder), Some(head)) = (&part.model.text_encoder, &part.model.itm) else {
            return Err(Error::new(ErrorKind::Internal, "a network for itm has an encoder and its head"));
        };
        let depth = encoder.depth();
        let layer = options.layer.unwrap_or(depth / 2);
        if layer >= depth {
            let message = format!("option layer is {layer}, this model's last layer is {}", depth - 1);
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        let ids = options.convention.ids(part, &options.text, true, picture.frames())?;
        if ids.len() < 3 {
            return Err(Error::new(ErrorKind::BadOption, "option text has no words to look for"));
        }
        let grounding = self.grounding(picture, part).await?;
        let rows = ids.iter().map(|id| id.cast_signed()).collect();
        let trace = encoder.trace(integers(rows, [1, ids.len()], &self.device.device), &grounding, layer);
        let logits = self.read_finite(head.forward(trace.states.clone())).await?;
        let steps = 1 + depth - layer;
        step(on_step, 1, steps)?;

        // The match logit reads the first state only, and its gradient is a row of the matrix.
        let matrix = self.read_finite(head.matrix().numbers(encoder.activations())).await?;
        let width = encoder.width();
        let mut gradient = matrix[width..].to_vec();
        gradient.resize(ids.len() * width, 0.0);
        for index in (layer + 1..depth).rev() {
            let numbers = self.device.read_all(encoder.traced(&trace, &grounding, index)).await?;
            gradient = LayerNumbers::new(encoder, index, numbers).back(gradient);
            step(on_step, 1 + depth - index, steps)?;
        }
        let numbers = self.device.read_all(encoder.traced(&trace, &grounding, layer)).await?;
        let relevance = LayerNumbers::new(encoder, layer, numbers).relevance(gradient);
        step(on_step, steps, steps)?;
        if !relevance.map.iter().all(|value| value.is_finite()) {
            return Err(Error::new(
                ErrorKind::Gpu,
                "the gradient of the match has a value that is not a number",
            ));
        }
        let frames = picture.frames();
        let (tokens, words) = pieces(&part.tokenizer, &ids);
        let maps = maps(&relevance, &words, frames);
        let probability = probability([logits[0], logits[1]]);
        Ok(Explanation { method: METHOD, layer, grid: grid(part), frames, probability, tokens, words, maps })
    }
}

fn grid(part: &Part) -> [usize; 2] {
    let [size, patch] = part.square();
    [size / patch; 2]
}

/// The tokens, and the words that they make.
fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> (Vec<ExplainedToken>, Vec<ExplainedWord>) {
    let mut words: Vec<ExplainedWord> = Vec::new();
    let mut tokens = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        let text = tokenizer.piece(*id).unwrap_or_default();
        // An unknown word is a word; only the frame of the text is not.
        let inside = (1..ids.len() - 1).contains(&index);
        if inside {
            match (text.strip_prefix("##"), words.last_mut()) {
                (Some(rest), Some(word)) => {
                    word.text.push_str(rest);
                    word.tokens.push(index);
                }
                _ => words.push(ExplainedWord { text: text.clone(), tokens: vec![index] }),
            }
        }
        tokens.push(ExplainedToken { text, id: *id, word: inside.then(|| words.len() - 1) });
    }
    (tokens, words)
}

/// Maps without the images' class tokens, which have no place.
fn maps(relevance: &Relevance, words: &[ExplainedWord], frames: usize) -> Maps {
    let each = relevance.states / frames;
    let places = relevance.states - frames;
    let tokens: Vec<f32> = relevance.map.chunks(each).flat_map(|frame| &frame[1..]).copied().collect();
    let mean = |chosen: &[usize]| {
        let mut mean = vec![0.0; places];
        for row in chosen {
            let row = &tokens[row * places..][..places];
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / chosen.len() as f32);
        }
        mean
    };
    let inside: Vec<usize> = (1..tokens.len() / places - 1).collect();
    let (words, sentence) = (words.iter().flat_map(|word| mean(&word.tokens)).collect(), mean(&inside));
    Maps { words, sentence, tokens }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_words_and_maps_their_means() {
        let vocab = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nred\ndog\n##s\n";
        let tokenizer = Tokenizer::from_vocab(vocab).unwrap();
        let mut ids = tokenizer.encode("a cat dogs").unwrap();
        ids[0] = tokenizer.enc();
        let (tokens, words) = pieces(&tokenizer, &ids);
        let texts: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(texts, ["[ENC]", "a", "[UNK]", "dog", "##s", "[SEP]"]);
        let of: Vec<Option<usize>> = tokens.iter().map(|token| token.word).collect();
        assert_eq!(of, [None, Some(0), Some(1), Some(2), Some(2), None]);
        assert_eq!(words[2], ExplainedWord { text: "dogs".into(), tokens: vec![3, 4] });

        // Two frames of a class token and two patches; each value says its token, frame and patch.
        let value = |index: usize| {
            let (token, state) = (index / 6, index % 6);
            if state % 3 == 0 { 1000.0 } else { (100 * token + state) as f32 }
        };
        let relevance = Relevance { map: (0..36).map(value).collect(), states: 6 };
        let maps = maps(&relevance, &words, 2);
        assert_eq!(maps.tokens[..8], [1.0, 2.0, 4.0, 5.0, 101.0, 102.0, 104.0, 105.0]);
        assert_eq!(maps.words[8..], [351.0, 352.0, 354.0, 355.0]);
        assert_eq!(maps.sentence, [251.0, 252.0, 254.0, 255.0]);
    }
}
