//! Rows of token ids, on the host and on a device.

use burn::tensor::{Device, Int, Tensor};

use crate::Result;
use crate::model::integers;
use crate::tokenizer::Tokenizer;
use crate::train::loss::Targets;

/// Texts as token ids: `[CLS]`, the pieces, `[SEP]` each.
///
/// A network's task is told by its first token, which takes the place of `[CLS]` (spec §1.1); it is set
/// when the texts go to a device, so that one batch serves all objectives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTexts {
    /// A row a text, as long as the text.
    pub rows: Vec<Vec<u32>>,
    /// What fills shorter rows up.
    pub pad: u32,
}

/// Texts on a device, filled up to the longest of them.
#[derive(Clone, Debug)]
pub struct Texts {
    /// `[batch, seq]`
    pub ids: Tensor<2, Int>,
    /// `[batch, seq]`, 1 at padding; none where all texts are equally long.
    pub pads: Option<Tensor<2, Int>>,
}

/// What the positions of a text count in a loss.
#[derive(Clone, Debug, PartialEq)]
pub struct HostWeights {
    /// Tokens at the beginning of every text that are no targets: the prompt with its `[DEC]`.
    pub prompt: usize,
    /// One a text.
    pub of_text: Vec<f32>,
}

impl HostTexts {
    /// No texts yet.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { rows: Vec::new(), pad: tokenizer.pad() }
    }

    /// Adds a text, cut to `longest` tokens with `[SEP]` at the end, as the reference's tokenizer cuts.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn push(&mut self, tokenizer: &Tokenizer, text: &str, longest: usize) -> Result<()> {
        let mut row = tokenizer.encode(text)?;
        if row.len() > longest {
            row.truncate(longest.saturating_sub(1));
            row.push(tokenizer.sep());
        }
        self.rows.push(row);
        Ok(())
    }

    /// Texts.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Tokens of the longest text.
    pub fn longest(&self) -> usize {
        self.rows.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The texts at these places, in this order.
    #[must_use]
    pub fn pick(&self, places: impl IntoIterator<Item = usize>) -> Self {
        Self { rows: places.into_iter().map(|place| self.rows[place].clone()).collect(), pad: self.pad }
    }

    /// These texts and those, in this order.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        Self { rows: [&self.rows[..], &others.rows].concat(), pad: self.pad }
    }

    /// The texts on a device, each with `first` as its first token.
    pub fn on(&self, device: &Device, first: u32) -> Texts {
        let (seq, shape) = (self.longest(), [self.len(), self.longest()]);
        let (mut ids, mut pads) =
            (Vec::with_capacity(seq * self.len()), Vec::with_capacity(seq * self.len()));
        for row in &self.rows {
            let words = row.iter().skip(1).copied();
            let filled = std::iter::once(first).chain(words).chain(std::iter::repeat(self.pad)).take(seq);
            ids.extend(filled.map(u32::cast_signed));
            pads.extend((0..seq).map(|position| i32::from(position >= row.len())));
        }
        let padded = pads.contains(&1);
        Texts { ids: integers(ids, shape, device), pads: padded.then(|| integers(pads, shape, device)) }
    }

    /// What a decoder that reads these texts is to predict, padding and prompt left out.
    pub fn targets(&self, weights: &HostWeights, device: &Device) -> Targets {
        let seq = self.longest();
        let (mut rows, mut tokens, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (text, (row, weight)) in self.rows.iter().zip(&weights.of_text).enumerate() {
            for (position, token) in row.iter().enumerate().skip(weights.prompt.max(1)) {
                rows.push((text * seq + position - 1) as i32);
                tokens.push(token.cast_signed());
                counts.push(*weight);
            }
        }
        let shape = [rows.len()];
        Targets {
            rows: integers(rows, shape, device),
            tokens: integers(tokens, shape, device),
            weights: Tensor::from_floats(counts.as_slice(), device),
        }
    }

    /// Weights with which the loss is the mean over all targets.
    pub fn mean(&self, prompt: usize) -> HostWeights {
        let first = prompt.max(1);
        let targets: usize = self.rows.iter().map(|row| row.len().saturating_sub(first)).sum();
        HostWeights { prompt, of_text: vec![1.0 / targets.max(1) as f32; self.len()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::block_on;
    use crate::kernels::{read_floats, read_integers};

    fn texts() -> HostTexts {
        HostTexts { rows: vec![vec![1, 7, 8, 9, 3], vec![1, 7, 3]], pad: 0 }
    }

    #[test]
    fn rows_are_filled_up_and_begin_with_the_task() {
        let on = texts().on(&Device::flex(), 58);
        assert_eq!(block_on(read_integers(on.ids)).unwrap(), [58, 7, 8, 9, 3, 58, 7, 3, 0, 0]);
        assert_eq!(block_on(read_integers(on.pads.unwrap())).unwrap(), [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert!(texts().pick([1, 1]).on(&Device::flex(), 58).pads.is_none());
    }

    #[test]
    fn targets_leave_out_padding_and_prompt() {
        let texts = texts();
        let read = |weights: &HostWeights| {
            let targets = texts.targets(weights, &Device::flex());
            let integers = |x| block_on(read_integers(x)).unwrap();
            (
                integers(targets.rows),
                integers(targets.tokens),
                block_on(read_floats(targets.weights)).unwrap(),
            )
        };
        let (rows, tokens, weights) = read(&texts.mean(0));
        assert_eq!(rows, [0, 1, 2, 3, 5, 6]);
        assert_eq!(tokens, [7, 8, 9, 3, 7, 3]);
        assert!(weights.iter().all(|weight| *weight == 1.0 / 6.0));
        // `[DEC]` and one word of prompt: the next word is the first target.
        let (rows, tokens, weights) = read(&texts.mean(2));
        assert_eq!((rows, tokens), (vec![1, 2, 3, 6], vec![8, 9, 3, 3]));
        assert!(weights.iter().all(|weight| *weight == 0.25));
    }
}
