//! The model as a [`Decoder`]: caches, beams and readback.

use std::collections::VecDeque;

use super::steps::Steps;
use crate::config::TextConfig;
use crate::device::{DeviceKind, OpenDevice};
use crate::generate::{Decoder, EndRule, Logits, Room};
use crate::kernels;
use crate::model::{Blip, Grounding, KvCache, integers};
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
    /// How many of each row's best scores the search asked for.
    best: Option<usize>,
}

/// Tokens between two readings of what the device chose: fewer show a caption sooner, more leave the
/// device alone. A reading costs a submit and a map; up to this many steps are made in vain at the end.
const WINDOW: usize = 4;

impl<'a> ModelDecoder<'a> {
    /// A decoder that has not seen a prompt yet.
    pub fn new(
        model: &'a Blip,
        device: &'a OpenDevice,
        grounding: Grounding,
        config: &'a TextConfig,
    ) -> Self {
        Self { model, device, grounding, config, cache: None, best: None }
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
            None => {
                let med = self.model.decoder().expect("a decoder is made for a model that has one");
                KvCache::new(med, room.rows, tokens, &self.device.device)
            }
        };
        self.cache.insert(cache)
    }

    /// Opens the caches and puts all of the prompt but its last token into them, which it returns.
    fn remember_prompt(&mut self, prompt: &[u32], room: Room) -> Result<u32> {
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
        Ok(*last)
    }

    async fn logits(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Logits> {
        let cache = self.cache.as_mut().ok_or_else(no_prompt)?;
        check_room(cache, 1)?;
        cache.feed(parents, tokens);
        let logits = self.model.step_logits(&self.grounding, cache);
        cache.advance();
        match self.best {
            Some(count) if self.device.kind() == DeviceKind::Gpu => {
                let packed = self.device.read(kernels::top_k(logits, count)).await?;
                Ok(Logits::Best { count, packed })
            }
            _ => Ok(Logits::All(self.device.read(logits).await?)),
        }
    }
}

impl Decoder for ModelDecoder<'_> {
    async fn prefill(&mut self, prompt: &[u32], room: Room) -> Result<Logits> {
        self.best = room.best;
        let last = self.remember_prompt(prompt, room)?;
        self.logits(&[0], &[last]).await
    }

    async fn step(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Logits> {
        self.logits(parents, tokens).await
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn runs_ahead(&self) -> bool {
        self.device.kind() == DeviceKind::Gpu
    }

    async fn run_ahead(
        &mut self,
        prompt: &[u32],
        room: Room,
        rule: EndRule,
        on_chosen: &mut dyn FnMut(u32, f32) -> Result<bool>,
    ) -> Result<()> {
        let last = self.remember_prompt(prompt, room)?;
        let cache = self.cache.as_mut().ok_or_else(no_prompt)?;
        cache.feed(&[0], &[last]);
        let mut history =
            integers(vec![0; cache.capacity() * 2], [cache.capacity(), 1, 2], &self.device.device);
        // The token after position p is written at p; the last one fills the sequence.
        let (first, end) = (cache.len(), room.tokens.min(cache.capacity()) - 1);
        let mut told = first;
        let mut behind = VecDeque::new();
        let mut steps = Steps::new((end - first).min(WINDOW));
        loop {
            let until = (cache.len() + WINDOW).min(end);
            while cache.len() < until {
                let read = cache.len() + 1 == until;
                history = steps.next(cache, history, read, |cache, history| {
                    let logits = self.model.step_logits(&self.grounding, cache);
                    cache.choose(logits, history, rule.eos, rule.min_length)
                })?;
                // The reading that follows hands over what is pending, and then its own copy: with the
                // last two steps left to it, a window of steps takes as many submits.
                if cache.len() + 1 < until {
                    self.device.flush();
                }
            }
            behind.push_back((until, self.device.start_reading(history.clone())));
            // A hardware GPU works on the next window while the answer travels.
            let ahead = if self.device.adapter.is_fallback_adapter || until == end { 0 } else { 1 };
            while behind.len() > ahead {
                let Some((until, answer)) = behind.pop_front() else { break };
                let words = answer.await?;
                for position in told..until {
                    let log_prob = f32::from_bits(words[2 * position + 1].cast_unsigned());
                    if !on_chosen(words[2 * position].cast_unsigned(), log_prob)? {
                        return Ok(());
                    }
                }
                told = until;
            }
            if told == end {
                return Ok(());
            }
        }
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
