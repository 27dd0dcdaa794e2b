//! Compiles what tasks need before anybody waits for it.

use image::RgbImage;

use super::ask::AskOptions;
use super::caption::{CaptionOptions, CaptionProgress};
use super::matching::{Convention, MatchOptions, OnStep, step};
use super::part::{Part, Task};
use super::picture::Picture;
use super::session::Session;
use crate::generate::{Control, GenerateConfig};
use crate::{ErrorKind, Result};

/// The searches that are warmed up: greedy, and with as many beams as the reference uses.
const BEAMS: [usize; 2] = [1, 3];
/// Enough to run the prompt, cached steps, and for beams a reorder.
const TOKENS: usize = 4;

/// One thing to try.
#[derive(Clone, Copy)]
enum Trial {
    Caption(usize),
    Ask,
    Match,
}

impl Session {
    /// Compiles every GPU pipeline that the usual calls use, by asking about a blank picture in steps,
    /// and takes the memory that they will need.
    ///
    /// `on_step` is told how many steps of how many are done, and asked within each, at every token, whether
    /// to go on. The device is waited for after each step, so that a browser's event loop turns in between.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and [`ErrorKind::Aborted`] when cancelled.
    pub async fn warm_up(&self, on_step: OnStep<'_>) -> Result<()> {
        let has = |task| self.part(task).is_ok();
        let mut trials = Vec::new();
        if has(Task::Caption) {
            trials.extend(BEAMS.map(Trial::Caption));
        }
        if has(Task::Vqa) {
            trials.push(Trial::Ask);
        }
        if has(Task::Itm) || has(Task::Itc) {
            trials.push(Trial::Match);
        }
        let Some(part) = self.parts.first() else { return Ok(()) };
        let size = u32::try_from(part.square()[0]).unwrap_or(1);
        let steps = 1 + trials.len();
        let blank = self.encode(&RgbImage::from_pixel(size, size, image::Rgb([255; 3]))).await?;
        step(on_step, 1, steps)?;
        for (index, trial) in trials.into_iter().enumerate() {
            let done = 1 + index;
            match self.attempt(&blank, trial, &mut || on_step(done, steps)).await {
                Err(error) if error.kind() != ErrorKind::Aborted => return Err(error),
                // It has ended itself, or whoever cancelled it says so once more.
                _ => step(on_step, done + 1, steps)?,
            }
        }
        Ok(())
    }

    async fn attempt(&self, blank: &Picture, trial: Trial, go_on: &mut dyn FnMut() -> Control) -> Result<()> {
        match trial {
            Trial::Caption(num_beams) => {
                // Room for a caption of the usual length, of which only the beginning is written.
                let usual = GenerateConfig { num_beams, min_length: 20, ..GenerateConfig::default() };
                let generate = fitted(usual, self.part(Task::Caption)?);
                let options = CaptionOptions { generate, ..CaptionOptions::default() };
                let mut tokens = 0;
                let mut enough = |_: CaptionProgress| {
                    tokens += 1;
                    if tokens < TOKENS { go_on() } else { Control::Cancel }
                };
                self.caption_picture(blank, &options, &mut enough).await.map(|_| ())
            }
            Trial::Ask => {
                let mut events = 0;
                let mut enough = |_: super::request::Event<'_>| {
                    events += 1;
                    if events < TOKENS { go_on() } else { Control::Cancel }
                };
                let mut options = AskOptions::new("a");
                options.generate = fitted(options.generate, self.part(Task::Vqa)?);
                self.ask(blank, &options, &mut enough).await.map(|_| ())
            }
            Trial::Match => {
                let texts = vec!["a".to_owned()];
                let options = MatchOptions { texts, heads: None, convention: Convention::Orig };
                self.match_texts(blank, &options, &mut |_, _| go_on()).await.map(|_| ())
            }
        }
    }
}

/// The search within what a model reads.
fn fitted(generate: GenerateConfig, part: &Part) -> GenerateConfig {
    let max_length = generate.max_length.min(part.config.text_config.max_position_embeddings);
    GenerateConfig { max_length, min_length: generate.min_length.min(max_length), ..generate }
}
