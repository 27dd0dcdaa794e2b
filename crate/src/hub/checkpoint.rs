//! A checkpoint becomes a model directory while it is downloaded, and goes on where it was left.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::cache::{MANIFEST, Room, failed, replace};
use super::client::Client;
use super::{Event, Listener};
use crate::config::BlipConfig;
use crate::weights::{Conversion, ConversionOptions, ConversionSource, Quantisation, complete_vocabulary};
use crate::{Error, ErrorKind, Result};

/// What was converted so far.
const UNFINISHED: &str = "model.safetensors";
/// What a conversion goes on from.
const STATE: &str = "conversion.state";
/// Bytes that are converted at a time.
const PIECE: u64 = 1 << 20;

/// A checkpoint on a server, and what belongs to it.
#[derive(Debug)]
pub(super) struct Remote {
    pub url: String,
    /// The file in words.
    pub wanted: String,
    /// Its name, which tells its format.
    pub name: String,
    /// Its length in bytes.
    pub total: u64,
    /// The text of its `config.json`; empty for original files, which have none.
    pub config: String,
    /// The vocabulary, complete.
    pub vocab: Vec<u8>,
}

/// Converts an original checkpoint (`.pth`) at an address, which has neither configuration nor vocabulary,
/// into the model directory `out`; what was left of an earlier attempt is gone on with.
///
/// # Errors
/// [`ErrorKind::DownloadFailed`], [`ErrorKind::BadVocabulary`], [`ErrorKind::Io`] and
/// [`ErrorKind::Quota`] for the disk, and what is wrong with the checkpoint.
pub fn convert_file(
    client: &Client,
    url: &str,
    vocab: &[u8],
    options: (&str, &str, Quantisation),
    out: &Path,
    listener: &mut Listener<'_>,
) -> Result<PathBuf> {
    let (id, licence, quantisation) = options;
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let (total, tag) = client.look_at(url, &name)?;
    // All published sizes have the same words.
    let vocab = complete_vocabulary(vocab, &BlipConfig::base())?;
    // Another file at the same address is another conversion.
    let source = ConversionSource {
        repo: url.to_owned(),
        revision: tag.unwrap_or_default(),
        file: name.clone(),
        sha256: None,
    };
    let remote =
        Remote { url: url.to_owned(), wanted: name.clone(), name, total, config: String::new(), vocab };
    let (id, licence) = (id.to_owned(), licence.to_owned());
    let options = ConversionOptions { id, licence, quantisation, untied: false, source: Some(source) };
    convert(client, &remote, options, Room::beside(out)?, listener)
}

/// Converts into a room, and gives it its name.
pub(super) fn convert(
    client: &Client,
    remote: &Remote,
    mut options: ConversionOptions,
    room: Room,
    listener: &mut Listener<'_>,
) -> Result<PathBuf> {
    loop {
        let mut work = Work::begin(client, &room, remote, &options)?;
        let done = work.run(listener);
        let is_untied = work.conversion.is_untied() && !options.untied;
        // Some systems move no folder in which a file is open.
        drop(work);
        match done {
            Ok(()) => return room.finish(),
            Err(error) => match error.kind() {
                // What came through is kept.
                ErrorKind::DownloadFailed | ErrorKind::Io | ErrorKind::Quota => return Err(error),
                _ if is_untied => {
                    listener(Event::Notice("the head is not tied to the word embedding: beginning again"));
                    options.untied = true;
                    room.clear()?;
                }
                _ => {
                    room.clear()?;
                    return Err(error);
                }
            },
        }
    }
}

/// A conversion that is under way, and the file that it writes.
struct Work<'a> {
    client: &'a Client,
    room: &'a Room,
    remote: &'a Remote,
    conversion: Conversion,
    out: File,
    path: PathBuf,
}

impl<'a> Work<'a> {
    /// Goes on from what was left behind by the same conversion, or begins.
    fn begin(
        client: &'a Client,
        room: &'a Room,
        remote: &'a Remote,
        options: &ConversionOptions,
    ) -> Result<Self> {
        let Remote { name, total, config, .. } = remote;
        let path = room.work().join(UNFINISHED);
        let saved = fs::read(room.work().join(STATE)).ok();
        let saved = saved.and_then(|saved| Conversion::resume(&saved).ok());
        let saved = saved.filter(|saved| saved.is_of(name, *total, config, options));
        let mut open = OpenOptions::new();
        let open = open.read(true).write(true).create(true).truncate(false);
        let mut out = open.open(&path).map_err(|e| failed("write", &path, e))?;
        let length = out.metadata().map_err(|e| failed("read", &path, e))?.len();
        let conversion = match saved.filter(|saved| saved.resume_output() <= length) {
            Some(conversion) => conversion,
            None => Conversion::new(name, *total, config, options.clone())?,
        };
        let kept = conversion.resume_output();
        out.set_len(kept).map_err(|e| failed("write", &path, e))?;
        out.seek(SeekFrom::Start(kept)).map_err(|e| failed("write", &path, e))?;
        Ok(Self { client, room, remote, conversion, out, path })
    }

    fn run(&mut self, listener: &mut Listener<'_>) -> Result<()> {
        let Remote { url, wanted, vocab, .. } = self.remote;
        while let Some(range) = self.conversion.wants() {
            let bytes = self.client.range(url, wanted, range)?;
            self.conversion.give(&bytes)?;
        }
        let passed = self.pass(listener);
        if passed.as_ref().is_err_and(|error| error.kind() == ErrorKind::DownloadFailed) {
            self.save()?;
        }
        passed?;
        let converted = self.conversion.finish(vocab)?;
        self.out.sync_all().map_err(|e| failed("write", &self.path, e))?;
        let work = self.room.work();
        replace(&work.join(&converted.manifest.files.vocab.path), vocab)?;
        // Best effort: it is only a file too many.
        let _ = fs::remove_file(work.join(STATE));
        let text = serde_json::to_string_pretty(&converted.manifest)
            .map_err(|e| Error::new(ErrorKind::Internal, "manifest: cannot be written").with_source(e))?;
        replace(&work.join(MANIFEST), (text + "\n").as_bytes())
    }

    /// Lets the file pass by.
    fn pass(&mut self, listener: &mut Listener<'_>) -> Result<()> {
        let Remote { url, wanted, total, .. } = self.remote;
        let start = self.conversion.position();
        let mut download = self.client.download(url, wanted, start..*total);
        let save_every = self.client.patience().save_every.max(1);
        let mut piece = vec![0; PIECE.min(save_every) as usize];
        let mut saved = start;
        loop {
            let mut filled = 0;
            while filled < piece.len() {
                match download.read(&mut piece[filled..]) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) => {
                        self.write(&piece[..filled])?;
                        return Err(error);
                    }
                }
            }
            if filled == 0 {
                return Ok(());
            }
            self.write(&piece[..filled])?;
            let done = self.conversion.position();
            listener(Event::Progress { file: wanted, done, total: *total });
            if done - saved >= save_every {
                self.save()?;
                saved = done;
            }
        }
    }

    fn write(&mut self, input: &[u8]) -> Result<()> {
        let bytes = self.conversion.push(input)?;
        self.out.write_all(&bytes).map_err(|e| failed("write", &self.path, e))
    }

    /// Writes what a later attempt goes on from, once what it counts on is on the disk.
    fn save(&mut self) -> Result<()> {
        self.out.sync_data().map_err(|e| failed("write", &self.path, e))?;
        replace(&self.room.work().join(STATE), &self.conversion.checkpoint())
    }
}
