//! The model as a [`Decoder`]: caches, beams and readback.

use crate::config::TextConfig;
use crate::device::OpenDevice;
use crate::generate::{Decoder, Room};
use crate::model::{Blip, Grounding, KvCache};
use crate::{Error, ErrorKind, Result};

/// A model that continues text about one picture (or question).
#[derive(Debug)]
pub struct ModelDecoder<'a> {
    model: &'a Blip,
    device: &'a OpenDevice,
    grounding: Grounding,
    config: &'a TextConfig,
    /// Made when the first prompt tells how much room is needed.
    cache: Option<KvCache>,
}

impl<'a> ModelDecoder<'a> {
    /// A decoder that has not seen a prompt yet.
    pub fn new(
        model: &'a Blip,
        device: &'a OpenDevice,
        grounding: Grounding,
        config: &'a TextConfig,
    ) -> Self {
        Self { model, device, grounding, config, cache: None }
    }

    /// Caches with at least that much room, empty.
    fn open(&mut self, room: Room) -> &mut KvCache {
        let tokens = room.tokens.min(self.config.max_position_embeddings);
        let fits = |cache: &KvCache| cache.room() >= room.rows && cache.capacity() >= tokens;
        let cache = match self.cache.take().filter(fits) {
            Some(mut cache) => {
                cache.clear();
                cache
            }
            None => KvCache::new(
                self.config.num_hidden_layers,
                self.config.hidden_size,
                room.rows,
                tokens,
                &self.device.device,
            ),
        };
        self.cache.insert(cache)
    }

    async fn logits(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Vec<f32>> {
        let cache = self.cache.as_mut().ok_or_else(no_prompt)?;
        check_room(cache, 1)?;
        cache.feed(parents, tokens);
        let logits = self.model.step_logits(&self.grounding, cache);
        cache.advance();
        self.device.read(logits).await
    }
}

impl Decoder for ModelDecoder<'_> {
    async fn prefill(&mut self, prompt: &[u32], room: Room) -> Result<Vec<f32>> {
        let Some((last, before)) = prompt.split_last() else {
            return Err(Error::new(ErrorKind::Internal, "a prompt holds at least the first token"));
        };
        let cache = self.open(room);
        check_room(cache, prompt.len())?;
        for token in before {
            let cache = self.cache.as_mut().ok_or_else(no_prompt)?;
            cache.feed(&[0], &[*token]);
            self.model.remember(&self.grounding, cache);
            cache.advance();
        }
        self.logits(&[0], &[*last]).await
    }

    async fn step(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Vec<f32>> {
        self.logits(parents, tokens).await
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }
}

fn check_room(cache: &KvCache, tokens: usize) -> Result<()> {
    if cache.len() + tokens <= cache.capacity() {
        return Ok(());
    }
    let message =
        format!("the model reads at most {} tokens, prompt included: lower maxLength", cache.capacity());
    Err(Error::new(ErrorKind::BadOption, message))
}

fn no_prompt() -> Error {
    Error::new(ErrorKind::Internal, "a decoder begins with a prompt")
}
