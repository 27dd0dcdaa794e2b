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
        self.meta().exists()
    }

    /// Writes a checkpoint over the previous one; a crash in between leaves one of the two whole.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn save(&self, model: &Blip, optimizer: &ModuleOptimizer, meta: &impl Serialize) -> Result<()> {
        let model = model.clone().into_record().into_bytes().map_err(|e| io(&self.model(), e))?;
        let optimizer = optimizer.into_bytes().map_err(|e| io(&self.optimizer(), e))?;
        let meta = serde_json::to_vec_pretty(meta).map_err(|e| io(&self.meta(), e))?;
        for (path, bytes) in
            [(self.model(), &model[..]), (self.optimizer(), &optimizer[..]), (self.meta(), &meta[..])]
        {
            let new = path.with_extension("new");
            std::fs::write(&new, bytes).map_err(|e| io(&new, e))?;
        }
        for path in [self.model(), self.optimizer(), self.meta()] {
            std::fs::rename(path.with_extension("new"), &path).map_err(|e| io(&path, e))?;
        }
        Ok(())
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
        let record = ModuleRecord::load(self.model()).map_err(|e| io(&self.model(), e))?;
        model = model.try_load_record(record).map_err(|e| io(&self.model(), e))?;
        let optimizer = optimizer.load(self.optimizer()).map_err(|e| io(&self.optimizer(), e))?;
        let meta = std::fs::read(self.meta()).map_err(|e| io(&self.meta(), e))?;
        let meta = serde_json::from_slice(&meta).map_err(|e| io(&self.meta(), e))?;
        Ok((model, optimizer, meta))
    }

    fn model(&self) -> PathBuf {
        self.folder.join("model.bpk")
    }

    fn optimizer(&self) -> PathBuf {
        self.folder.join("optimizer.bpk")
    }

    fn meta(&self) -> PathBuf {
        self.folder.join("meta.json")
    }
}

fn io(path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("checkpoint: cannot use `{}`: {cause}", path.display()))
}
