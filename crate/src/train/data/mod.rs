//! What training and evaluation read: records, and the datasets they come from.
//!
//! Every source is indexed: it knows how many records it has, and gives any of them by its number.
//! Order, shuffling and resuming are then arithmetic on numbers ([`order`]), and a run can be cut at
//! any step and go on with the very next record. A [`Loader`] reads ahead on threads.
//!
//! | source | records |
//! |---|---|
//! | [`ShardSet`] | tar shards in webdataset's layout; written by [`ShardWriter`] |
//! | [`Annotations`] | COCO's and BLIP's JSON beside a folder of pictures |
//! | [`PictureFolder`] | a folder of pictures with texts of the same names |
//! | [`SceneDataset`], [`WebScenes`] | composed scenes, and the same as the web would describe them |
//! | [`Concat`] | several of them as one |
//!
//! # Files of a record
//!
//! A record's files have one key and differ in their extension, in a shard as in a folder:
//!
//! | file | what it holds |
//! |---|---|
//! | `KEY.png` (jpg, jpeg, webp, gif, bmp) | its picture |
//! | `KEY.0.png`, `KEY.1.jpg` … | its pictures, in the order of their numbers |
//! | `KEY.txt` | captions, one a line |
//! | `KEY.json` | [`Texts`] |
//!
//! Captions of a `KEY.txt` follow those of a `KEY.json`. Files with other extensions are passed over.

mod annotations;
mod augment;
mod concat;
mod files;
mod folder;
mod loader;
mod noise;
pub mod order;
mod record;
mod scenes;
mod shards;

pub use annotations::{Annotations, Layout};
pub use augment::{Augment, Crop, Operation, RandomAugment};
pub use concat::Concat;
pub use files::{FileOptions, expand};
pub use folder::PictureFolder;
pub use loader::{Context, Loaded, Loader, LoaderOptions, Reason, Skipped, Steps};
pub use noise::{Noise, NoiseKind, WebScenes, WebText};
pub use order::{Order, Position, Share};
pub use record::{Dialogue, Question, Record, Round, Statement, Texts};
pub use scenes::{SceneDataset, SceneKind};
pub use shards::{Damage, ShardSet, ShardWriter};

use crate::Result;

/// Records by their number.
pub trait Dataset: Send + Sync {
    /// How many records there are; never 0.
    fn len(&self) -> usize;

    /// Whether there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Record `index`: the same whenever and in whatever order it is asked for.
    ///
    /// # Errors
    /// When this record cannot be read or decoded; others may be fine.
    fn get(&self, index: usize) -> Result<Record>;

    /// What it is and how large, for the log of a run.
    fn describe(&self) -> String;

    /// The lengths of the pieces that records are best read in, in order: of shards where there are
    /// any, else of a thousand records or so. See [`Order::windowed`].
    fn pieces(&self) -> Vec<usize> {
        const PIECE: usize = 1024;
        let len = self.len();
        (0..len).step_by(PIECE).map(|start| PIECE.min(len - start)).collect()
    }
}
