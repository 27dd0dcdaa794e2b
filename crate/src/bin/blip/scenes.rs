//! `blip scenes`: samples of the held-out split, and how well a model captions it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use blip_web::device::block_on;
use blip_web::generate::Control;
use blip_web::tasks::{CaptionOptions, CaptionProgress};
use blip_web::train::evaluate::score;
use blip_web::train::scenes::{SceneWorld, Split};
use clap::{Args, Subcommand};
use serde_json::json;

use super::scene_shards::{self, WorldName};
use super::source::{DeviceName, open_session};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write the first scenes of the held-out split as PNG, with `samples.json`.
    Samples(Samples),
    /// Write scenes as tar shards, with their captions or with what the web would say.
    Shards(scene_shards::Arguments),
    /// Caption held-out scenes and print the share of exact captions as JSON.
    Evaluate(Evaluate),
}

#[derive(Args)]
pub(crate) struct Samples {
    /// The `@iconify-json` folder of an npm installation.
    #[arg(long)]
    icons: PathBuf,
    /// Whose scenes.
    #[arg(long, value_enum, default_value_t = WorldName::V1)]
    world: WorldName,
    /// Folder to write.
    #[arg(long)]
    out: PathBuf,
    /// How many scenes.
    #[arg(long, default_value_t = 8)]
    count: u64,
    /// Seed of the split.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Args)]
pub(crate) struct Evaluate {
    /// The `@iconify-json` folder of an npm installation.
    #[arg(long)]
    icons: PathBuf,
    /// Whose scenes.
    #[arg(long, value_enum, default_value_t = WorldName::V1)]
    world: WorldName,
    /// A model directory; the embedded `tiny` when left out.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// How many scenes.
    #[arg(long, default_value_t = 500)]
    count: u64,
    /// Seed of the split.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Score training scenes instead.
    #[arg(long)]
    train_split: bool,
    /// Print the captions that differ.
    #[arg(long)]
    verbose: bool,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Samples(arguments) => samples(arguments),
        Command::Shards(arguments) => scene_shards::run(arguments),
        Command::Evaluate(arguments) => evaluate(arguments),
    }
}

fn samples(arguments: &Samples) -> Result<()> {
    let world = SceneWorld::of(arguments.world.into(), &arguments.icons)?;
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot create {}", arguments.out.display()))?;
    let mut index = Vec::new();
    for number in 0..arguments.count {
        let scene = world.scene(Split::HeldOut, arguments.seed, number);
        let name = format!("scene-{}.png", number + 1);
        scene.image.save(arguments.out.join(&name)).with_context(|| format!("cannot write {name}"))?;
        index.push(json!({"image": name, "truth": scene.caption, "heldOut": scene.held_out}));
    }
    let path = arguments.out.join("samples.json");
    std::fs::write(&path, serde_json::to_string_pretty(&index)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}

fn evaluate(arguments: &Evaluate) -> Result<()> {
    let world = SceneWorld::of(arguments.world.into(), &arguments.icons)?;
    let session = open_session(arguments.model.as_deref(), arguments.device)?;
    let split = if arguments.train_split { Split::Train } else { Split::HeldOut };
    let options = CaptionOptions::default();
    let report = score(&world, split, arguments.seed, arguments.count, |scene| {
        let mut ignore = |_: CaptionProgress| Control::Continue;
        let caption = block_on(session.caption_image(&scene.image, &options, &mut ignore))?.text;
        if arguments.verbose && caption != scene.caption {
            println!("{}\t{caption}", scene.caption);
        }
        Ok(caption)
    })?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
