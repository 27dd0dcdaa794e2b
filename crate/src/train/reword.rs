//! Weights for another vocabulary: a model that begins with what one with other words has learned.

use std::collections::HashMap;
use std::sync::Arc;

use super::draw::{Draw, Purpose};
use crate::weights::{Checkpoint, Dtype, StoredTensor};
use crate::{Error, ErrorKind, Result};

/// Standard deviation of a new word's row, as of any fresh table.
const DEVIATION: f32 = 0.02;

/// The same weights for other words: what is known of a word goes with it, a new one begins anew.
///
/// `old` and `new` are the lines of the two `vocab.txt`. Every tensor of text networks that has a row,
/// or a value, for each word is sorted anew; the rows of new words are drawn, their biases are zero.
///
/// # Errors
/// [`ErrorKind::WeightsFormat`] when such a tensor cannot be read.
pub fn reworded(checkpoint: &Checkpoint, old: &[&str], new: &[&str], seed: u64) -> Result<Checkpoint> {
    let known: HashMap<&str, usize> = old.iter().enumerate().map(|(row, word)| (*word, row)).collect();
    let rows: Vec<Option<usize>> = new.iter().map(|word| known.get(word).copied()).collect();
    let mut sorted = checkpoint.clone();
    let of_words = sorted.tensors.iter_mut().filter(|(name, tensor)| {
        // The names of Hugging Face and of the original alike.
        ["word_embeddings.", "cls.predictions.bias", "cls.predictions.decoder."]
            .iter()
            .any(|part| name.contains(part))
            && tensor.shape.first().is_some_and(|&rows| rows >= old.len())
    });
    for (_, tensor) in of_words {
        // Tables that are tied stay equal: a new word's row depends on the word alone.
        *tensor = resorted(tensor, &rows, seed)?;
    }
    Ok(sorted)
}

fn resorted(tensor: &StoredTensor, rows: &[Option<usize>], seed: u64) -> Result<StoredTensor> {
    let values = tensor.to_f32()?;
    let width: usize = tensor.shape[1..].iter().product();
    let mut sorted = Vec::with_capacity(rows.len() * width);
    for (word, row) in rows.iter().enumerate() {
        match row {
            Some(row) => {
                let stored = values.get(row * width..(row + 1) * width).ok_or_else(|| {
                    Error::new(ErrorKind::WeightsFormat, "a table of words ends before its last word")
                })?;
                sorted.extend_from_slice(stored);
            }
            None if tensor.shape.len() == 1 => sorted.push(0.0),
            None => {
                let drawn = Draw::new(seed, Purpose::Words, 0, word as u64).normals(width);
                sorted.extend(drawn.into_iter().map(|value| value * DEVIATION));
            }
        }
    }
    let shape = [&[rows.len()], &tensor.shape[1..]].concat();
    let bytes: Arc<[u8]> = sorted.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(StoredTensor::new(shape, Dtype::F32, move || Ok(bytes.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BlipConfig;
    use crate::model::{Blip, DecoderNetwork, Networks};
    use crate::train::fresh::FreshParameters;
    use crate::train::inherit::{Inheritance, inherit};
    use crate::weights::named_tensors;
    use burn::tensor::Device;

    #[test]
    fn rows_go_with_their_words_and_new_ones_are_drawn() {
        let device = Device::flex();
        let networks = Networks {
            vision: true,
            text_encoder: true,
            decoder: Some(DecoderNetwork::Shared),
            tied_lm: true,
            itc: true,
            itm: true,
            nlvr2: false,
        };
        let parent = BlipConfig::tiny(4, 3, 2);
        let model = Blip::build(&mut FreshParameters::new(1, &device), &parent, &networks);
        let before = named_tensors(&model).unwrap();
        let (old, new) = (["[PAD]", "a", "[SEP]", "[DEC]"], ["[PAD]", "[SEP]", "new", "[DEC]", "a"]);
        let after = reworded(&before.clone().into(), &old, &new, 7).unwrap();
        let heir =
            inherit(&after, &BlipConfig::tiny(5, 3, 1), &networks, Inheritance::All, 2, &device).unwrap();
        let after = named_tensors(&heir.model).unwrap();

        let (encoder, decoder) = (
            "text_encoder.embeddings.word_embeddings.weight",
            "text_decoder.bert.embeddings.word_embeddings.weight",
        );
        let width = parent.text_config.hidden_size;
        let row = |row: usize| row * width..(row + 1) * width;
        for (to, from) in [(0, 0), (1, 2), (3, 3), (4, 1)] {
            assert_eq!(after[encoder].1[row(to)], before[encoder].1[row(from)]);
        }
        let drawn = &after[encoder].1[row(2)];
        let deviation = (drawn.iter().map(|value| value * value).sum::<f32>() / width as f32).sqrt();
        assert!((0.01..0.03).contains(&deviation), "{deviation}");
        assert_eq!(after[encoder], after[decoder], "shared tables stay shared");
        let bias = "text_decoder.cls.predictions.bias";
        assert_eq!(after[bias].1.len(), 5);
        assert_eq!(after[bias].1[2], 0.0);
        let block = "text_encoder.encoder.layer.1.intermediate.dense.weight";
        assert_eq!(after[block], before[block]);
    }
}
