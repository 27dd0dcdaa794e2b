//! `blip scenes shards`: scenes as tar shards, with their captions or with what the web would say.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use blip_web::train::data::{Dataset, Noise, SceneDataset, SceneKind, ShardWriter, WebScenes};
use blip_web::train::scenes::{SceneWorld, Split, World};
use blip_web::{Error, ErrorKind};
use clap::{Args, ValueEnum};

/// Whose texts a shard has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Texts {
    /// People's: true captions, questions, hard negatives and dialogues.
    Human,
    /// The web's: one text, which may be true, poor, wrong or junk.
    Web,
}

/// A world by its name in config files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorldName {
    /// 64 nouns on a grid.
    V0,
    /// 360 nouns, anywhere.
    V1,
}

impl From<WorldName> for World {
    fn from(name: WorldName) -> Self {
        match name {
            WorldName::V0 => Self::V0,
            WorldName::V1 => Self::V1,
        }
    }
}

#[derive(Args)]
pub(crate) struct Arguments {
    /// The `@iconify-json` folder of an npm installation.
    #[arg(long)]
    icons: PathBuf,
    /// Whose scenes.
    #[arg(long, value_enum, default_value_t = WorldName::V1)]
    world: WorldName,
    /// Whose texts.
    #[arg(long, value_enum, default_value_t = Texts::Human)]
    texts: Texts,
    /// Share of the web's texts that are the scenes' own captions; 0.3 when left out.
    #[arg(long, value_name = "SHARE")]
    clean: Option<f64>,
    /// Held-out scenes, instead of those of the training split.
    #[arg(long)]
    held_out: bool,
    /// Seed of the split.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The number of the first scene.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// How many scenes.
    #[arg(long)]
    count: usize,
    /// Scenes in a shard.
    #[arg(long, default_value_t = 1000)]
    per_shard: usize,
    /// Folder to write: `00000.tar` and so on.
    #[arg(long)]
    out: PathBuf,
}

/// Writes the shards; the same arguments give the same bytes.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let dataset = arguments.dataset()?;
    let per_shard = arguments.per_shard.max(1);
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot create {}", arguments.out.display()))?;
    let shards = dataset.len().div_ceil(per_shard);
    for shard in 0..shards {
        let path = arguments.out.join(format!("{shard:05}.tar"));
        let mut writer = ShardWriter::create(&path)?;
        for index in shard * per_shard..((shard + 1) * per_shard).min(dataset.len()) {
            writer.add(&dataset.get(index)?)?;
        }
        writer.finish()?;
    }
    println!("wrote {shards} shards into {}: {}", arguments.out.display(), dataset.describe());
    Ok(())
}

impl Arguments {
    fn dataset(&self) -> Result<Box<dyn Dataset>> {
        let world = Arc::new(SceneWorld::of(self.world.into(), &self.icons)?);
        let split = if self.held_out { Split::HeldOut } else { Split::Train };
        let scenes = SceneDataset::new(world, split, self.seed, self.start, self.count, SceneKind::Single)?;
        match (self.texts, self.clean) {
            (Texts::Human, None) => Ok(Box::new(scenes)),
            (Texts::Human, Some(_)) => {
                bail!(Error::new(ErrorKind::BadOption, "--clean is about the web's texts: leave it out"))
            }
            (Texts::Web, clean) => {
                let noise = clean.map_or(Ok(Noise::default()), |share| Noise::default().with_clean(share))?;
                Ok(Box::new(WebScenes::new(scenes, noise)?))
            }
        }
    }
}
