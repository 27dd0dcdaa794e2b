//! Checkpoints of a run: the model, the optimiser and a `meta.json`, enough to go on as if nothing
//! had happened.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::Blip;
use crate::{Error, ErrorKind, Result};

const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const META: &str = "meta.json";

/// The files of a checkpoint in a run's folder.
#[derive(Clone, Debug)]
pub struct CheckpointFiles {
    folder: PathBuf,
}

impl CheckpointFiles {
    /// The checkpoint kept in `folder`, which is created when it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn in_folder(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| io(folder, e))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Whether there is something to resume.
    pub fn exist(&self) -> bool {
        self.current().is_some()
    }

    /// Writes a checkpoint in place of the previous one. All its files change place at once, so a crash
    /// leaves the old checkpoint or the new one, never a mixture.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn save(&self, model: &Blip, optimizer: &ModuleOptimizer, meta: &impl Serialize) -> Result<()> {
        let new = self.folder.join("new");
        let model = model.clone().into_record().into_bytes().map_err(|e| io(&new, e))?;
        let optimizer = optimizer.into_bytes().map_err(|e| io(&new, e))?;
        let meta = serde_json::to_vec_pretty(meta).map_err(|e| io(&new, e))?;
        std::fs::create_dir_all(&new).map_err(|e| io(&new, e))?;
        for (name, bytes) in [(MODEL, &model[..]), (OPTIMIZER, &optimizer[..]), (META, &meta[..])] {
            std::fs::write(new.join(name), bytes).map_err(|e| io(&new, e))?;
        }
        let [checkpoint, previous] = self.places();
        if checkpoint.exists() {
            if previous.exists() {
                std::fs::remove_dir_all(&previous).map_err(|e| io(&previous, e))?;
            }
            std::fs::rename(&checkpoint, &previous).map_err(|e| io(&checkpoint, e))?;
        }
        std::fs::rename(&new, &checkpoint).map_err(|e| io(&new, e))
    }

    /// Reads the checkpoint back into a model and an optimiser of the same shape.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file is missing or damaged.
    pub fn load<M: DeserializeOwned>(
        &self,
        mut model: Blip,
        optimizer: ModuleOptimizer,
    ) -> Result<(Blip, ModuleOptimizer, M)> {
        let missing = || io(&self.folder, "there is no checkpoint");
        let place = self.current().ok_or_else(missing)?;
        let record = ModuleRecord::load(place.join(MODEL)).map_err(|e| io(&place, e))?;
        model = model.try_load_record(record).map_err(|e| io(&place, e))?;
        let optimizer = optimizer.load(place.join(OPTIMIZER)).map_err(|e| io(&place, e))?;
        let meta = std::fs::read(place.join(META)).map_err(|e| io(&place, e))?;
        let meta = serde_json::from_slice(&meta).map_err(|e| io(&place, e))?;
        Ok((model, optimizer, meta))
    }

    /// Where the checkpoint is: in its place, or, after a crash between two renames, in the previous one's.
    fn current(&self) -> Option<PathBuf> {
        self.places().into_iter().find(|place| place.exists())
    }

    fn places(&self) -> [PathBuf; 2] {
        ["checkpoint", "previous"].map(|name| self.folder.join(name))
    }
}

fn io(path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("checkpoint: cannot use `{}`: {cause}", path.display()))
}
