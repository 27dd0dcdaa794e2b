//! Where results go: standard output, tables, lists, and a text file a picture.
//!
//! What is written is written whole: a run that is stopped leaves complete lines and complete files, and
//! `--resume` goes on behind them.

use std::collections::HashSet;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::csv;
use super::inputs::Input;
use super::lines::Lines;

/// Where to.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Output {
    /// One JSON object a line on standard output.
    #[arg(long)]
    pub json: bool,
    /// Write a text file for each picture into this folder, under the picture's name.
    #[arg(long, value_name = "FOLDER")]
    pub out_dir: Option<PathBuf>,
    /// Write a text file for each picture beside it.
    #[arg(long, conflicts_with = "out_dir")]
    pub beside: bool,
    /// Write a table of comma-separated values.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write a JSON object for each picture, one a line.
    #[arg(long, value_name = "FILE")]
    pub jsonl: Option<PathBuf>,
    /// Leave out what is in every output already, and append the rest.
    #[arg(long)]
    pub resume: bool,
}

/// What a picture gave.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Its name.
    pub name: String,
    /// As JSON.
    pub json: String,
    /// As lines of a table, without the name.
    pub rows: Vec<Vec<String>>,
    /// As a text file.
    pub text: String,
}

/// Outputs that are open.
#[derive(Debug)]
pub(crate) struct Sinks {
    screen: Screen,
    texts: Texts,
    csv: Option<Lines>,
    jsonl: Option<Lines>,
    resume: bool,
}

/// What standard output shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Screen {
    Nothing,
    Lines,
    Json,
}

/// Where text files go.
#[derive(Clone, Debug)]
enum Texts {
    Nowhere,
    Beside,
    Folder(PathBuf),
}

impl Output {
    /// Opens everything. `columns` are those of the table, and `inputs` the first picture of each record.
    ///
    /// # Errors
    /// For files that cannot be written or gone on with, and where two pictures would share a text file.
    pub fn open(&self, columns: &[&str], inputs: &[&Input]) -> Result<Sinks> {
        let texts = match &self.out_dir {
            Some(folder) => Texts::Folder(folder.clone()),
            None if self.beside => Texts::Beside,
            None => Texts::Nowhere,
        };
        let mut taken = HashSet::new();
        for path in inputs.iter().filter_map(|input| texts.place(input)) {
            if taken.contains(&path) {
                bail!("two pictures would be written to {}", path.display());
            }
            taken.insert(path);
        }
        let header: Vec<String> = ["image"].iter().chain(columns).map(|&column| column.to_owned()).collect();
        let table = |path: &PathBuf| Lines::table(path, self.resume, &csv::record(&header));
        let csv = self.csv.as_ref().map(table).transpose()?;
        let jsonl = self.jsonl.as_ref().map(|path| Lines::list(path, self.resume)).transpose()?;
        let mut sinks = Sinks { screen: Screen::Nothing, texts, csv, jsonl, resume: self.resume };
        if self.resume && !sinks.has_files() {
            bail!("--resume needs something to go on with: --out-dir, --beside, --csv or --jsonl");
        }
        sinks.screen = match (self.json, sinks.has_files()) {
            (true, _) => Screen::Json,
            (false, true) => Screen::Nothing,
            (false, false) => Screen::Lines,
        };
        Ok(sinks)
    }
}

impl Sinks {
    /// Whether anything but standard output is written.
    pub fn has_files(&self) -> bool {
        !matches!(self.texts, Texts::Nowhere) || self.csv.is_some() || self.jsonl.is_some()
    }

    /// Whether a picture is in every output already.
    pub fn has(&self, input: &Input, name: &str) -> bool {
        self.resume
            && self.texts.place(input).is_none_or(|path| path.exists())
            && [&self.csv, &self.jsonl].into_iter().flatten().all(|lines| lines.knows(name))
    }

    /// Writes a record to every output that lacks it.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(&mut self, input: &Input, record: &Record) -> Result<()> {
        if let Some(path) = self.texts.place(input) {
            let shown = || format!("cannot write {}", path.display());
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).with_context(shown)?;
            }
            // Nobody sees half of it.
            let unfinished = path.with_extension("txt.part");
            std::fs::write(&unfinished, &record.text).with_context(shown)?;
            std::fs::rename(&unfinished, &path).with_context(shown)?;
        }
        if let Some(table) = self.csv.as_mut().filter(|table| !table.knows(&record.name)) {
            let line =
                |row: &Vec<String>| csv::record(&[std::slice::from_ref(&record.name), &row[..]].concat());
            table.write(&record.rows.iter().map(line).collect::<String>())?;
        }
        if let Some(list) = self.jsonl.as_mut().filter(|list| !list.knows(&record.name)) {
            list.write(&format!("{}\n", record.json))?;
        }
        let shown = match self.screen {
            Screen::Nothing => return Ok(()),
            Screen::Json => format!("{}\n", record.json),
            Screen::Lines => {
                let line = |row: &Vec<String>| format!("{}\t{}\n", record.name, row.join("\t"));
                record.rows.iter().map(line).collect()
            }
        };
        let mut screen = std::io::stdout().lock();
        match screen.write_all(shown.as_bytes()).and_then(|()| screen.flush()) {
            // Who read it has had enough; files are written all the same.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                drop(screen);
                self.screen = Screen::Nothing;
                if !self.has_files() {
                    std::process::exit(0);
                }
                Ok(())
            }
            other => other.context("cannot write results"),
        }
    }
}

impl Texts {
    fn place(&self, input: &Input) -> Option<PathBuf> {
        match self {
            Self::Nowhere => None,
            Self::Beside => Some(input.path.with_extension("txt")),
            Self::Folder(folder) => Some(folder.join(&input.relative).with_extension("txt")),
        }
    }
}
