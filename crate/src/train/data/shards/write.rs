//! Writing a shard: all of it or nothing, and the same bytes for the same records.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};

use super::super::{Record, Texts};
use crate::{Error, ErrorKind, Result};

/// Writes one tar shard.
///
/// The bytes depend on the records and their order alone: every header has time, owner and group 0,
/// and the files of a record are sorted. They go to a file of another name, which becomes the shard in
/// one step when it is [finished](ShardWriter::finish); a writer that is dropped leaves nothing behind.
#[derive(Debug)]
pub struct ShardWriter {
    path: PathBuf,
    partial: PathBuf,
    /// Gone when the shard is finished.
    tar: Option<TarFile>,
    keys: HashSet<String>,
}

struct TarFile(tar::Builder<BufWriter<File>>);

impl std::fmt::Debug for TarFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TarFile")
    }
}

impl ShardWriter {
    /// Starts a shard; what is at `path` stays until the new one is finished.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the folder cannot be written to.
    pub fn create(path: &Path) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Unlike that of any other writer, be it on another machine over the same folder.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let unique = [
            u64::from(std::process::id()),
            NEXT.fetch_add(1, Ordering::Relaxed),
            now.map_or(0, |elapsed| elapsed.as_nanos() as u64),
        ];
        let mut name = path.as_os_str().to_owned();
        name.push(unique.map(|number| format!("{number:x}")).join("-"));
        name.push(".partial");
        let partial = PathBuf::from(name);
        let file = File::create_new(&partial).map_err(failed(&partial))?;
        let tar = Some(TarFile(tar::Builder::new(BufWriter::new(file))));
        Ok(Self { path: path.to_owned(), partial, tar, keys: HashSet::new() })
    }

    /// Adds a record, its pictures as png.
    ///
    /// # Errors
    /// As [`ShardWriter::add_files`].
    pub fn add(&mut self, record: &Record) -> Result<()> {
        let mut files = Vec::new();
        for (number, picture) in record.images.iter().enumerate() {
            let extension = if record.images.len() == 1 { "png".to_owned() } else { format!("{number}.png") };
            files.push((extension, png(picture)?));
        }
        files.push(("json".to_owned(), json(&record.texts)?));
        self.add_files(&record.key, files)
    }

    /// Adds a record by its files: what follows the key and the point in their names, and their bytes.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for a key that is empty, has a point, or is there already;
    /// [`ErrorKind::Io`] when it cannot be written, as on a full disk.
    pub fn add_files(&mut self, key: &str, mut files: Vec<(String, Vec<u8>)>) -> Result<()> {
        let bad = |what: &str| Error::new(ErrorKind::BadOption, format!("the key `{key}`{what}"));
        let is_plain = |part: &str| !part.is_empty() && !part.contains(['.', '\\', '\0']);
        if !key.split('/').all(is_plain) {
            return Err(bad(": expected a name without points, or several with / between them"));
        }
        if !self.keys.insert(key.to_owned()) {
            return Err(bad(" is in the shard already"));
        }
        files.sort();
        for (extension, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            let tar = &mut self.tar.as_mut().expect("it is there until the shard is finished").0;
            tar.append_data(&mut header, format!("{key}.{extension}"), &bytes[..])
                .map_err(failed(&self.partial))?;
        }
        Ok(())
    }

    /// How many records were added.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Makes the shard complete, on disk and in its place.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be written; what was at its place is then still there.
    pub fn finish(mut self) -> Result<()> {
        let tar = self.tar.take().expect("it is there until the shard is finished").0;
        let write = || {
            let mut file = tar.into_inner()?;
            file.flush()?;
            file.get_ref().sync_all()?;
            fs::rename(&self.partial, &self.path)
        };
        write().map_err(failed(&self.path))
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        // After a rename there is nothing of this name.
        drop(self.tar.take());
        let _ = fs::remove_file(&self.partial);
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |e| Error::new(ErrorKind::Io, format!("cannot write `{}`", path.display())).with_source(e)
}

fn png(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    PngEncoder::new(&mut bytes)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|e| Error::new(ErrorKind::BadImage, "cannot encode a picture").with_source(e))?;
    Ok(bytes.into_inner())
}

fn json(texts: &Texts) -> Result<Vec<u8>> {
    serde_json::to_vec(texts)
        .map_err(|e| Error::new(ErrorKind::Internal, "cannot write texts as JSON").with_source(e))
}
