//! What a model is evaluated on: scenes, shards, COCO's JSON, or a folder.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use blip_web::image::ImageOptions;
use blip_web::train::data::{
    Annotations, Dataset, FileOptions, PictureFolder, SceneDataset, SceneKind, ShardSet, expand,
};
use blip_web::train::scenes::{SceneWorld, Split};
use blip_web::{Error, ErrorKind};
use clap::{ArgGroup, Args};

use super::super::scene_shards::WorldName;

#[derive(Args)]
#[group(skip)]
#[command(group(ArgGroup::new("source").required(true).args(["scenes", "shards", "coco", "folder"])))]
pub(super) struct Data {
    /// Composed scenes, drawn with the `@iconify-json` folder of an npm installation.
    #[arg(long, value_name = "ICONS", help_heading = "Data")]
    scenes: Option<PathBuf>,
    /// Whose scenes.
    #[arg(long, value_enum, default_value_t = WorldName::V1, requires = "scenes", help_heading = "Data")]
    world: WorldName,
    /// Scenes in a style that no training scene has: the folder `assets` of `@lobehub/fluent-emoji-3d`.
    #[arg(long, value_name = "PICTURES", requires = "scenes", help_heading = "Data")]
    unseen: Option<PathBuf>,
    /// Scenes of the training split, instead of held-out ones.
    #[arg(long, requires = "scenes", help_heading = "Data")]
    train_split: bool,
    /// Clips of so many frames, instead of scenes; the model sees each as one picture.
    #[arg(long, value_name = "FRAMES", requires = "scenes", help_heading = "Data",
          value_parser = clap::value_parser!(u8).range(2..))]
    clips: Option<u8>,
    /// Seed of the scenes.
    #[arg(long, default_value_t = 0, requires = "scenes", help_heading = "Data")]
    scene_seed: u64,
    /// Tar shards: files, folders of them, or patterns such as `test/{000..009}.tar`.
    #[arg(long, num_args = 1.., value_name = "PATTERN", help_heading = "Data")]
    shards: Vec<String>,
    /// COCO-style JSON, with the folder of its pictures in `--pictures`.
    #[arg(long, value_name = "JSON", requires = "pictures", help_heading = "Data")]
    coco: Option<PathBuf>,
    /// Folder of the pictures that a JSON names.
    #[arg(long, value_name = "FOLDER", help_heading = "Data")]
    pictures: Option<PathBuf>,
    /// A folder of pictures, with texts of the same names beside them.
    #[arg(long, value_name = "FOLDER", help_heading = "Data")]
    folder: Option<PathBuf>,
    /// Take the first so many examples; of scenes 500, otherwise all when left out.
    #[arg(long, value_name = "COUNT", help_heading = "Data")]
    limit: Option<usize>,
}

/// How many scenes are enough for an interval of four per cent.
const SCENES: usize = 500;

/// A source that is open.
pub(super) struct Source {
    /// Examples of one picture.
    pub(super) single: Box<dyn Dataset>,
    /// Examples of two pictures; those of `single` where they are of one source.
    pub(super) pairs: Option<Box<dyn Dataset>>,
    pub(super) limit: Option<usize>,
}

impl Source {
    /// Examples of two pictures.
    pub(super) fn pairs(&self) -> &dyn Dataset {
        self.pairs.as_deref().unwrap_or(&*self.single)
    }
}

impl Data {
    pub(super) fn open(&self) -> Result<Source> {
        let limit = self.limit;
        if limit == Some(0) {
            bail!(Error::new(ErrorKind::BadOption, "option limit is 0, expected at least 1"));
        }
        let files = FileOptions::default();
        let one = |single: Box<dyn Dataset>| Source { single, pairs: None, limit };
        if let Some(icons) = &self.scenes {
            let world = Arc::new(match &self.unseen {
                None => SceneWorld::of(self.world.into(), icons)?,
                Some(pictures) => SceneWorld::unseen(self.world.into(), icons, pictures)?,
            });
            let split = if self.train_split { Split::Train } else { Split::HeldOut };
            let count = limit.unwrap_or(SCENES);
            let scenes = |kind| SceneDataset::new(Arc::clone(&world), split, self.scene_seed, 0, count, kind);
            let pairs: Box<dyn Dataset> = Box::new(scenes(SceneKind::Pair)?);
            let kind = self.clips.map_or(SceneKind::Single, |frames| SceneKind::Clip(frames.into()));
            return Ok(Source { single: Box::new(scenes(kind)?), pairs: Some(pairs), limit });
        }
        if let (Some(json), Some(pictures)) = (&self.coco, &self.pictures) {
            return Ok(one(Box::new(Annotations::open(json, pictures, None, ImageOptions::default())?)));
        }
        if let Some(folder) = &self.folder {
            return Ok(one(Box::new(PictureFolder::open(folder, files)?)));
        }
        let shards = ShardSet::open(&expand(&self.shards)?, files)?;
        for damage in shards.damages() {
            eprintln!(
                "blip: {}: {}; {} records can be read",
                damage.shard.display(),
                damage.reason,
                damage.intact
            );
        }
        Ok(one(Box::new(shards)))
    }
}
