//! `blip gallery`: pictures by what is on them, in one file.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use blip_web::device::block_on;
use blip_web::gallery::{ContentHash, Gallery, Hit};
use blip_web::generate::Control;
use blip_web::image::{ImageOptions, decode};
use blip_web::tasks::{BATCH, Convention, Reranked, Session, Task};
use clap::{Args, Subcommand};
use image::RgbImage;
use serde_json::json;

use super::source::{DeviceName, open_session, read};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Index pictures: files, and folders with everything below them. What is indexed already is skipped.
    Add(Add),
    /// Find pictures by words or by a picture.
    Search(Search),
    /// Take pictures out, by their paths or hashes.
    Remove(Remove),
    /// List what is indexed.
    List(List),
    /// Write the gallery to another file, verified; the browser reads the same.
    Export(Files),
    /// Add the pictures of another gallery of the same model.
    Import(Files),
}

#[derive(Args)]
pub(crate) struct Add {
    /// The gallery's file; made when it is not there.
    gallery: PathBuf,
    /// Pictures, and folders of them.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    model: Model,
    /// Save after so many new pictures.
    #[arg(long, default_value_t = 256)]
    save_every: usize,
    /// One JSON object at the end.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Search {
    /// The gallery's file.
    gallery: PathBuf,
    /// What to look for.
    #[arg(required_unless_present = "image", conflicts_with = "image")]
    text: Option<String>,
    /// A picture to look for the like of.
    #[arg(long)]
    image: Option<PathBuf>,
    /// How many pictures to name.
    #[arg(long, default_value_t = 12)]
    top: usize,
    /// Look at so many of the best again, with the image-text matching head.
    #[arg(long, default_value_t = 0, conflicts_with = "image")]
    rerank: usize,
    #[command(flatten)]
    model: Model,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Model {
    /// A model directory with a network for image-text contrast.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
}

#[derive(Args)]
pub(crate) struct Remove {
    /// The gallery's file.
    gallery: PathBuf,
    /// Paths as listed or as the shell knows them, or content hashes.
    #[arg(required = true)]
    pictures: Vec<String>,
}

#[derive(Args)]
pub(crate) struct List {
    /// The gallery's file.
    gallery: PathBuf,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Files {
    /// The gallery's file.
    gallery: PathBuf,
    /// The other file.
    file: PathBuf,
}

/// Does the command: exit code 0 when all went well, 1 when some pictures failed.
///
/// # Errors
/// For what concerns all pictures: options, the gallery's file, the model, the device.
pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    let failed = match command {
        Command::Add(arguments) => add(arguments)?,
        Command::Search(arguments) => search(arguments)?,
        Command::Remove(arguments) => remove(arguments)?,
        Command::List(arguments) => list(arguments).map(|()| Failures::new())?,
        Command::Export(files) => export(files).map(|()| Failures::new())?,
        Command::Import(files) => import(files).map(|()| Failures::new())?,
    };
    failed.iter().for_each(super::complain);
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What went wrong with single pictures; everything else was done.
type Failures = Vec<anyhow::Error>;

/// What became of the files of an `add`.
#[derive(Default)]
struct Tally {
    added: usize,
    skipped: usize,
    failed: Failures,
}

fn add(arguments: &Add) -> Result<Failures> {
    let _lock = Lock::take(&arguments.gallery)?;
    let mut tally = Tally::default();
    let pictures = find(&arguments.paths, &mut tally.failed);
    let session = arguments.model.open()?;
    let mut gallery = match arguments.gallery.exists() {
        true => load(&arguments.gallery, Some(&session.gallery()?))?,
        false => session.gallery()?,
    };
    let mut waiting: Vec<(ContentHash, String, RgbImage)> = Vec::new();
    let mut unsaved = 0;
    let mut seen = Seen::default();
    let mut progress = Progress::new(pictures.len());
    for (nth, path) in pictures.iter().enumerate() {
        match prepare(path) {
            Ok((hash, key, bytes)) => {
                let is_new = seen.note(hash, &key) && !gallery.contains(&hash);
                match is_new.then(|| decode(&bytes, &ImageOptions::default())) {
                    None => tally.skipped += 1,
                    Some(Ok(picture)) => waiting.push((hash, key, picture)),
                    Some(Err(error)) => {
                        tally.failed.push(anyhow::Error::from(error).context(path.display().to_string()));
                    }
                }
            }
            // One bad picture does not stop the rest.
            Err(error) => tally.failed.push(error),
        }
        if waiting.len() == BATCH || nth + 1 == pictures.len() {
            unsaved += waiting.len();
            tally.added += waiting.len();
            embed(&session, &mut gallery, &mut waiting)?;
        }
        if unsaved >= arguments.save_every.max(1) {
            save(&gallery, &arguments.gallery)?;
            unsaved = 0;
        }
        progress.tell(nth + 1);
    }
    let changed = seen.correct(&mut gallery)?;
    if unsaved > 0 || changed || !arguments.gallery.exists() {
        save(&gallery, &arguments.gallery)?;
    }
    let Tally { added, skipped, failed } = tally;
    if arguments.json {
        println!(
            "{}",
            json!({"added": added, "skipped": skipped, "failed": failed.len(), "size": gallery.len()})
        );
    } else {
        println!("{added} added, {skipped} known, {} failed; {} pictures", failed.len(), gallery.len());
    }
    Ok(failed)
}

/// A picture's identity, its key, and its file.
fn prepare(path: &Path) -> Result<(ContentHash, String, Vec<u8>)> {
    let key = key(path)?;
    let bytes = read(path)?;
    Ok((ContentHash::of(&bytes), key, bytes))
}

/// The absolute path.
fn key(path: &Path) -> Result<String> {
    let absolute = std::path::absolute(path).with_context(|| path.display().to_string())?;
    let text = absolute.into_os_string().into_string();
    text.map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))
}

/// Adds the waiting pictures, encoded side by side.
fn embed(
    session: &Session,
    gallery: &mut Gallery,
    waiting: &mut Vec<(ContentHash, String, RgbImage)>,
) -> Result<()> {
    let (entries, pictures): (Vec<_>, Vec<_>) =
        waiting.drain(..).map(|(hash, key, picture)| ((hash, key), picture)).unzip();
    let encoded = block_on(session.encode_for(&[Task::Itc], &pictures))?;
    for ((hash, key), picture) in entries.into_iter().zip(encoded) {
        gallery.add(hash, &key, &block_on(session.image_feature(&picture))?)?;
    }
    Ok(())
}

/// Which content is where, as an `add` found it.
#[derive(Default)]
struct Seen {
    by_key: HashMap<String, ContentHash>,
    by_hash: HashMap<ContentHash, String>,
}

impl Seen {
    /// Whether this content is seen for the first time.
    fn note(&mut self, hash: ContentHash, key: &str) -> bool {
        self.by_key.insert(key.to_owned(), hash);
        let is_first = !self.by_hash.contains_key(&hash);
        if is_first {
            self.by_hash.insert(hash, key.to_owned());
        }
        is_first
    }

    /// Files that were changed or moved since they were indexed: what they held is renamed to where it is
    /// now, or removed. Whether there were any.
    fn correct(&self, gallery: &mut Gallery) -> Result<bool> {
        let entries: Vec<(ContentHash, String)> =
            gallery.entries().map(|entry| (entry.hash, entry.key.to_owned())).collect();
        let mut corrected = false;
        for (hash, key) in entries {
            let is_elsewhere = match self.by_key.get(&key) {
                Some(now) => *now != hash,
                None => self.by_hash.contains_key(&hash) && !Path::new(&key).exists(),
            };
            if is_elsewhere {
                corrected |= match self.by_hash.get(&hash) {
                    Some(key) => gallery.rename(&hash, key)?,
                    None => gallery.remove(&hash),
                };
            }
        }
        Ok(corrected)
    }
}

fn search(arguments: &Search) -> Result<Failures> {
    let session = arguments.model.open()?;
    let gallery = load(&arguments.gallery, Some(&session.gallery()?))?;
    let wanted = arguments.top.max(arguments.rerank);
    let (embedding, text) = match (&arguments.image, &arguments.text) {
        (Some(path), _) => {
            let picture = decoded(path, &read(path)?)?;
            let picture = block_on(session.encode_for(&[Task::Itc], &[picture]))?.remove(0);
            (block_on(session.image_feature(&picture))?, "")
        }
        (None, text) => {
            let text = text.as_deref().unwrap_or_default();
            let mut ignore = |_, _| Control::Continue;
            let texts = [text.to_owned()];
            let mut features = block_on(session.text_features(&texts, Convention::default(), &mut ignore))?;
            (features.pop().unwrap_or_default(), text)
        }
    };
    let hits = gallery.search(&embedding, wanted)?;
    let mut failed = Failures::new();
    let mut found = match arguments.rerank {
        0 => hits.into_iter().map(|hit| Reranked { hit, itm: None }).collect(),
        count => {
            // What has changed since it was indexed is not looked at, and the rest is.
            let mut open = |hit: &Hit| Ok(indexed(hit).map_err(|error| failed.push(error)).ok());
            let mut ignore = |_, _| Control::Continue;
            let reranked = session.rerank(text, Convention::default(), hits, count, &mut open, &mut ignore);
            block_on(reranked)?
        }
    };
    found.truncate(arguments.top);
    for found in found {
        let (score, Reranked { hit, itm }) = (found.score(), found);
        if arguments.json {
            let mut line =
                json!({"key": hit.key, "hash": hit.hash.to_string(), "score": score, "cosine": hit.score});
            if let Some(itm) = itm {
                line["itm"] = json!(itm);
            }
            println!("{line}");
        } else {
            println!("{score:.4}\t{}", hit.key);
        }
    }
    Ok(failed)
}

/// The picture that was found, if its file still holds it.
fn indexed(hit: &Hit) -> Result<RgbImage> {
    let path = Path::new(&hit.key);
    let bytes = read(path)?;
    if ContentHash::of(&bytes) != hit.hash {
        bail!("{} is not what was indexed any more: add it again", hit.key);
    }
    decoded(path, &bytes)
}

fn decoded(path: &Path, bytes: &[u8]) -> Result<RgbImage> {
    decode(bytes, &ImageOptions::default()).with_context(|| path.display().to_string())
}

fn remove(arguments: &Remove) -> Result<Failures> {
    let _lock = Lock::take(&arguments.gallery)?;
    let mut gallery = load(&arguments.gallery, None)?;
    let mut failed = Vec::new();
    let mut removed = 0;
    for name in &arguments.pictures {
        let by_hash = name.parse().is_ok_and(|hash| gallery.remove(&hash));
        let mut count = usize::from(by_hash);
        if !by_hash {
            count = gallery.remove_key(name);
        }
        if count == 0 {
            count = gallery.remove_key(&key(Path::new(name))?);
        }
        if count == 0 {
            failed.push(anyhow::anyhow!("{name} is not in the gallery"));
        }
        removed += count;
    }
    if removed > 0 {
        save(&gallery, &arguments.gallery)?;
    }
    println!("{removed} removed; {} pictures", gallery.len());
    Ok(failed)
}

fn list(arguments: &List) -> Result<()> {
    let gallery = load(&arguments.gallery, None)?;
    let mut entries: Vec<_> = gallery.entries().collect();
    entries.sort_by(|a, b| (a.key, a.hash).cmp(&(b.key, b.hash)));
    for entry in entries {
        if arguments.json {
            println!("{}", json!({"key": entry.key, "hash": entry.hash.to_string()}));
        } else {
            println!("{}\t{}", entry.hash, entry.key);
        }
    }
    Ok(())
}

fn export(files: &Files) -> Result<()> {
    let gallery = load(&files.gallery, None)?;
    save(&gallery, &files.file)?;
    println!("{} pictures", gallery.len());
    Ok(())
}

fn import(files: &Files) -> Result<()> {
    let _lock = Lock::take(&files.gallery)?;
    let other = load(&files.file, None)?;
    let mut gallery = match files.gallery.exists() {
        true => load(&files.gallery, Some(&other))?,
        false => Gallery::new(other.width(), other.fingerprint())?,
    };
    let mut added = 0;
    for entry in other.entries() {
        if let Some(record) = other.record(&entry.hash) {
            added += usize::from(gallery.restore(entry.hash, entry.key, &record)?);
        }
    }
    save(&gallery, &files.gallery)?;
    println!("{added} added, {} known; {} pictures", other.len() - added, gallery.len());
    Ok(())
}

impl Model {
    fn open(&self) -> Result<Session> {
        open_session(self.model.as_deref(), self.device)
    }
}

/// Reads a gallery; of the same model as `like`.
fn load(path: &Path, like: Option<&Gallery>) -> Result<Gallery> {
    let fingerprint = like.map(Gallery::fingerprint);
    Gallery::from_bytes(&read(path)?, fingerprint).with_context(|| path.display().to_string())
}

/// Writes a gallery so that the file is at any time the old one or the new one.
fn save(gallery: &Gallery, path: &Path) -> Result<()> {
    let beside = beside(path, "part");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(&gallery.to_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// `name.suffix` in the folder of a file.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Keeps other commands from changing the same gallery.
struct Lock {
    _file: File,
}

impl Lock {
    fn take(gallery: &Path) -> Result<Self> {
        let path = beside(gallery, "lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => {
                bail!("another command is changing {}", gallery.display())
            }
            Err(std::fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

/// Every file that is named, and every picture below a folder, once and in order.
fn find(paths: &[PathBuf], failed: &mut Failures) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for path in paths {
        if path.is_dir() {
            folders.push(path.clone());
        } else {
            found.insert(path.clone());
        }
    }
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                failed.push(anyhow::Error::from(error).context(format!("cannot read {}", folder.display())));
                continue;
            }
        };
        for entry in entries.flatten() {
            // Links are not followed: they may lead in circles.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && is_picture(&entry.path()) => drop(found.insert(entry.path())),
                _ => {}
            }
        }
    }
    found.into_iter().collect()
}

fn is_picture(path: &Path) -> bool {
    const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ENDINGS.contains(&ending.to_ascii_lowercase().as_str())
}

/// Says on a terminal how far it is.
struct Progress {
    total: usize,
    begun: Instant,
    told: Option<Instant>,
}

impl Progress {
    fn new(total: usize) -> Self {
        Self { total, begun: Instant::now(), told: None }
    }

    fn tell(&mut self, done: usize) {
        use std::io::IsTerminal;
        let recent = self.told.is_some_and(|told| told.elapsed().as_millis() < 200);
        if !std::io::stderr().is_terminal() || (recent && done < self.total) {
            return;
        }
        self.told = Some(Instant::now());
        let rate = done as f64 / self.begun.elapsed().as_secs_f64().max(1e-3);
        let left = (self.total - done) as f64 / rate.max(1e-3);
        let end = if done == self.total { "\n" } else { "" };
        eprint!("\r{done} of {} pictures, {rate:.1} a second, {left:.0} s left \x1b[K{end}", self.total);
    }
}
