//! `blip caption`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use blip_web::device::block_on;
use blip_web::generate::{Control, GenerateConfig};
use blip_web::tasks::{CaptionOptions, CaptionProgress, Captions, Session};
use clap::Args;
use serde_json::json;

use super::source::{DeviceName, open_session, read};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Image files: png, jpeg, webp, gif, bmp.
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// A model directory; the embedded `tiny` when left out.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Text that the caption continues.
    #[arg(long)]
    prompt: Option<String>,
    /// Beams; 1 is greedy.
    #[arg(long, default_value_t = GenerateConfig::default().num_beams)]
    beams: usize,
    /// Sample instead of searching.
    #[arg(long)]
    sample: bool,
    /// Seed of sampling.
    #[arg(long, default_value_t = GenerateConfig::default().seed)]
    seed: u64,
    /// Captions an image.
    #[arg(long, default_value_t = GenerateConfig::default().num_captions)]
    captions: usize,
    /// Shortest sequence in tokens, prompt included.
    #[arg(long, default_value_t = GenerateConfig::default().min_length)]
    min_length: usize,
    /// Longest sequence in tokens, prompt included.
    #[arg(long, default_value_t = GenerateConfig::default().max_length)]
    max_length: usize,
    /// How much repeated tokens lose.
    #[arg(long, default_value_t = GenerateConfig::default().repetition_penalty)]
    repetition_penalty: f64,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let options = CaptionOptions {
        prompt: arguments.prompt.clone(),
        generate: GenerateConfig {
            num_beams: arguments.beams,
            sample: arguments.sample,
            seed: arguments.seed,
            num_captions: arguments.captions,
            min_length: arguments.min_length,
            max_length: arguments.max_length,
            repetition_penalty: arguments.repetition_penalty,
            ..GenerateConfig::default()
        },
        ..CaptionOptions::default()
    };
    options.generate.validate()?;
    let session = open_session(arguments.model.as_deref(), arguments.device)?;
    let mut failed = None;
    for path in &arguments.images {
        match caption(&session, path, &options) {
            Ok(captions) if arguments.json => {
                println!(
                    "{}",
                    json!({"image": path, "caption": captions.text, "captions": captions.captions, "ms": captions.ms})
                );
            }
            Ok(captions) => {
                for caption in captions.captions {
                    println!("{}\t{}\t{:.3}", path.display(), caption.text, caption.log_prob);
                }
            }
            Err(error) => {
                // One bad file does not stop the rest; the last failure is the command's own.
                let error = error.context(path.display().to_string());
                if let Some(earlier) = failed.replace(error) {
                    super::complain(&earlier);
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

fn caption(session: &Session, path: &Path, options: &CaptionOptions) -> Result<Captions> {
    let bytes = read(path)?;
    let mut ignore = |_: CaptionProgress| Control::Continue;
    Ok(block_on(session.caption(&bytes, options, &mut ignore))?)
}
