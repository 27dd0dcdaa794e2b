//! The model as a [`Decoder`]: caches, beams and readback.

use burn::tensor::{Int, Tensor, TensorData};

use crate::device::OpenDevice;
use crate::generate::Decoder;
use crate::model::{Blip, Grounding, KvCache};
use crate::{Error, ErrorKind, Result};

/// A model that continues text about one picture (or question).
#[derive(Debug)]
pub struct ModelDecoder<'a> {
    model: &'a Blip,
    device: &'a OpenDevice,
    grounding: Grounding,
    cache: KvCache,
    rows: usize,
    vocab: usize,
    positions: usize,
}

impl<'a> ModelDecoder<'a> {
    /// A decoder that has not seen a prompt yet; `vocab` and `positions` are the configuration's.
    pub fn new(
        model: &'a Blip,
        device: &'a OpenDevice,
        grounding: Grounding,
        vocab: usize,
        positions: usize,
    ) -> Self {
        Self { model, device, grounding, cache: KvCache::default(), rows: 1, vocab, positions }
    }

    async fn run(&mut self, ids: Vec<u32>, rows: usize) -> Result<Vec<f32>> {
        let seq = ids.len() / rows;
        if self.cache.len() + seq > self.positions {
            let message = format!(
                "the model reads at most {} tokens, prompt included: lower maxLength",
                self.positions
            );
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        let ids: Vec<i32> = ids.into_iter().map(u32::cast_signed).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [rows, seq]), &self.device.device);
        let logits = self.model.last_logits(ids, &self.grounding, &mut self.cache);
        self.rows = rows;
        self.device.read(logits).await
    }
}

impl Decoder for ModelDecoder<'_> {
    async fn prefill(&mut self, prompt: &[u32]) -> Result<Vec<f32>> {
        self.cache = KvCache::default();
        self.run(prompt.to_vec(), 1).await
    }

    async fn step(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Vec<f32>> {
        let unchanged =
            parents.len() == self.rows && parents.iter().enumerate().all(|(row, parent)| row == *parent);
        if !unchanged {
            let rows: Vec<i32> = parents.iter().map(|parent| *parent as i32).collect();
            let rows = TensorData::new(rows, [parents.len()]);
            self.cache.select(Tensor::<1, Int>::from_data(rows, &self.device.device));
        }
        self.run(tokens.to_vec(), tokens.len()).await
    }

    fn vocab_size(&self) -> usize {
        self.vocab
    }
}
