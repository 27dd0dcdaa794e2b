//! What a run reads: sources one after another, and what happens to their pictures.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use blip_web::image::ImageOptions;
use blip_web::train::data::{
    Annotations, Augment, Concat, Dataset, FileOptions, Layout, Noise, PictureFolder, SceneDataset,
    SceneKind, ShardSet, WebScenes, expand,
};
use blip_web::train::engine::Shuffled;
use blip_web::train::scenes::{SceneWorld, Split, World};
use blip_web::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// The `[data]` of a config file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataConfig {
    /// Read as one set, in each epoch in another order.
    sources: Vec<SourceConfig>,
    /// Pieces of that set whose records are shuffled into each other at a time: all of a small set, a
    /// few shards of a large one.
    window: usize,
    /// What happens to pictures: the reference's of the stage, unless it says otherwise.
    augment: Option<Augment>,
    /// Threads that read and decode.
    workers: usize,
}

/// Where records come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum SourceConfig {
    /// Composed scenes; nothing is stored.
    Scenes {
        /// The `@iconify-json` folder of an npm installation.
        icons: PathBuf,
        world: World,
        #[serde(default)]
        form: Form,
        #[serde(default)]
        seed: u64,
        /// The number of the first.
        #[serde(default)]
        start: u64,
        count: usize,
        /// What the web says of them, instead of their captions.
        #[serde(default)]
        noise: Option<Noise>,
    },
    /// Tar shards: files, folders of them, or patterns.
    Shards { paths: Vec<String> },
    /// COCO's or BLIP's JSON.
    Annotations {
        file: PathBuf,
        pictures: PathBuf,
        #[serde(default)]
        layout: Option<Layout>,
    },
    /// A folder of pictures with texts beside them.
    Folder { path: PathBuf },
}

/// What a record of scenes is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Form {
    #[default]
    Single,
    Pair,
}

impl DataConfig {
    /// No sources yet, and this augmentation.
    pub(super) fn new(augment: Augment) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self { sources: Vec::new(), window: 1 << 20, augment: Some(augment), workers }
    }

    /// The first world of scenes that is read, where there is one.
    pub(super) fn world(&self) -> Option<World> {
        self.sources.iter().find_map(|source| match source {
            SourceConfig::Scenes { world, .. } => Some(*world),
            _ => None,
        })
    }

    /// Opens the sources; `size` is the side of the model's pictures.
    pub(super) fn open(&self, size: usize, seed: u64) -> Result<Shuffled> {
        let mut opened = self.sources.iter().map(open).collect::<Result<Vec<_>>>()?;
        let data = match opened.len() {
            0 => {
                let message = "the config names no data: expected [[data.sources]] with a kind";
                bail!(Error::new(ErrorKind::BadOption, message));
            }
            1 => opened.remove(0),
            _ => Arc::new(Concat::new(opened)?),
        };
        if let Some(augment) = &self.augment {
            augment.check()?;
        }
        let size = u32::try_from(size).context("a model's image side is a few hundred pixels")?;
        let augment = self.augment.map(|augment| (augment, size));
        Ok(Shuffled { data, window: self.window, augment, seed, workers: self.workers })
    }
}

fn open(source: &SourceConfig) -> Result<Arc<dyn Dataset>> {
    let files = FileOptions::default();
    Ok(match source {
        SourceConfig::Scenes { icons, world, form, seed, start, count, noise } => {
            let world = Arc::new(SceneWorld::of(*world, icons)?);
            let kind = match form {
                Form::Single => SceneKind::Single,
                Form::Pair => SceneKind::Pair,
            };
            let scenes = SceneDataset::new(world, Split::Train, *seed, *start, *count, kind)?;
            match noise {
                Some(noise) => Arc::new(WebScenes::new(scenes, *noise)?),
                None => Arc::new(scenes),
            }
        }
        SourceConfig::Shards { paths } => {
            let shards = ShardSet::open(&expand(paths)?, files)?;
            for damage in shards.damages() {
                eprintln!(
                    "blip: {}: {}; {} records can be read",
                    damage.shard.display(),
                    damage.reason,
                    damage.intact
                );
            }
            Arc::new(shards)
        }
        SourceConfig::Annotations { file, pictures, layout } => {
            Arc::new(Annotations::open(file, pictures, *layout, ImageOptions::default())?)
        }
        SourceConfig::Folder { path } => Arc::new(PictureFolder::open(path, files)?),
    })
}
