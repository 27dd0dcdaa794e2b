//! What a run writes down about itself: numbers as JSON lines and for TensorBoard, and a plot of them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Report;
use super::board::EventFile;
use super::plot::{Curve, line_chart};
use crate::{Error, ErrorKind, Result};

/// The file of numbers in a run's folder, a JSON object a line.
pub const METRICS: &str = "metrics.jsonl";
/// The plot in a run's folder.
pub const PLOT: &str = "losses.svg";

/// A run's numbers on the disk.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    lines: File,
    board: EventFile,
}

impl Journal {
    /// The journal of a run that has done so many steps; what it says of later ones, which were lost when
    /// the run was broken off, is taken out.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn open(folder: &Path, step: usize) -> Result<Self> {
        let path = folder.join(METRICS);
        let io = |e: std::io::Error| unusable(&path, e);
        std::fs::create_dir_all(folder).map_err(io)?;
        let kept: Vec<Value> = match step {
            0 => Vec::new(),
            _ => read(folder)?.into_iter().filter(|line| at(line) <= step as f64).collect(),
        };
        let mut text = String::new();
        kept.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        std::fs::write(&path, text).map_err(io)?;
        let lines = OpenOptions::new().append(true).open(&path).map_err(io)?;
        Ok(Self { folder: folder.to_owned(), lines, board: EventFile::create(folder)? })
    }

    /// Writes down how the run goes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn note(&mut self, report: &Report) -> Result<()> {
        let line = Value::Object(line(report));
        let path = self.folder.join(METRICS);
        writeln!(self.lines, "{line}").map_err(|e| unusable(&path, e))?;
        let mut scalars: Vec<(String, f64)> =
            report.losses.iter().map(|(name, loss)| (format!("loss/{name}"), *loss)).collect();
        scalars.push(("loss/total".to_owned(), report.loss()));
        scalars.push(("train/lr".to_owned(), report.lr));
        scalars.push(("train/examples_per_second".to_owned(), report.rate));
        scalars.extend(report.temperature.map(|value| ("train/temperature".to_owned(), value)));
        scalars.extend(report.scale.map(|value| ("train/loss_scale".to_owned(), value)));
        self.board.note(report.step, &scalars)
    }

    /// Draws the losses so far.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn plot(&self) -> Result<()> {
        let lines = read(&self.folder)?;
        let Some(Value::Object(losses)) = lines.last().and_then(|line| line.get("losses")) else {
            return Ok(());
        };
        let curves = losses.keys().map(|name| {
            let points = lines.iter().filter_map(|line| Some((at(line), line["losses"][name].as_f64()?)));
            Curve { name: name.clone(), points: points.collect() }
        });
        line_chart(&self.folder.join(PLOT), "step", "loss", &curves.collect::<Vec<_>>())
    }
}

/// A report as JSON.
pub fn line(report: &Report) -> Map<String, Value> {
    let losses: Map<String, Value> =
        report.losses.iter().map(|(name, loss)| ((*name).to_owned(), json!(loss))).collect();
    let mut line = Map::new();
    line.insert("step".to_owned(), json!(report.step));
    line.insert("epoch".to_owned(), json!(report.epoch));
    line.insert("loss".to_owned(), json!(report.loss()));
    line.insert("losses".to_owned(), Value::Object(losses));
    line.insert("lr".to_owned(), json!(report.lr));
    if let Some(temperature) = report.temperature {
        line.insert("temperature".to_owned(), json!(temperature));
    }
    line.insert("seconds".to_owned(), json!(report.seconds));
    line.insert("examplesPerSecond".to_owned(), json!(report.rate));
    line
}

/// The lines of a journal; a last one that was cut short is left out.
fn read(folder: &Path) -> Result<Vec<Value>> {
    let path = folder.join(METRICS);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(unusable(&path, e)),
    }
}

fn at(line: &Value) -> f64 {
    line["step"].as_f64().unwrap_or(f64::INFINITY)
}

/// An error of a journal's file.
pub(super) fn unusable(path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("journal: cannot use `{}`: {cause}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: usize) -> Report {
        Report {
            step,
            steps: 30,
            epoch: 1,
            losses: vec![("itc", 3.0 / step as f64), ("lm", 1.0)],
            lr: 1e-3,
            temperature: Some(0.07),
            scale: None,
            seconds: step as f64,
            rate: 32.0,
            remaining: 1.0,
        }
    }

    #[test]
    fn a_resumed_run_forgets_what_was_lost() {
        let folder = std::env::temp_dir().join(format!("blip-journal-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let mut journal = Journal::open(&folder, 0).unwrap();
        [5, 10, 15].into_iter().for_each(|step| journal.note(&report(step)).unwrap());
        drop(journal);
        // The last checkpoint was of step 10.
        let mut journal = Journal::open(&folder, 10).unwrap();
        journal.note(&report(15)).unwrap();
        journal.plot().unwrap();
        let steps: Vec<f64> = read(&folder).unwrap().iter().map(at).collect();
        assert_eq!(steps, [5.0, 10.0, 15.0]);
        let svg = std::fs::read_to_string(folder.join(PLOT)).unwrap();
        assert!(svg.contains("<svg") && svg.contains("itc"), "{svg}");
        // Another run in the same folder begins anew.
        drop(Journal::open(&folder, 0).unwrap());
        assert!(read(&folder).unwrap().is_empty());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
