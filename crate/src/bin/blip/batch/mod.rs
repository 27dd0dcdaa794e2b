//! A task over many pictures: batches, failures, progress, outputs.

mod csv;
mod drawings;
mod inputs;
mod lines;
mod output;
mod progress;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use blip_web::device::block_on;
use blip_web::generate::Control;
use blip_web::image::{Alpha, ImageOptions, decode};
use blip_web::tasks::{BATCH, Picture, Request, Sampling, Session, Task, frame_indices};
use blip_web::{Error, ErrorKind};
use clap::Args;
use image::RgbImage;
use serde_json::{Map, Value};

use self::drawings::Drawings;
use self::inputs::{Input, expand};
use self::output::{Output, Record, Sinks};
use self::progress::Progress;
use super::source::{DeviceName, open_session, read};

/// A task with its options, as the command line has it.
pub(crate) trait Job {
    /// Pictures that one result is about.
    const PICTURES: usize = 1;

    /// The request: a task's name under `task`, and its options.
    ///
    /// # Errors
    /// For options that make no sense.
    fn request(&self) -> Result<Map<String, Value>>;

    /// Whether it is about pictures at all.
    fn has_pictures(&self) -> bool {
        true
    }

    /// Names of a table's columns, without the picture's.
    fn columns(&self) -> Vec<&'static str>;

    /// A result as lines of a table.
    fn rows(&self, result: &Value) -> Vec<Vec<String>>;

    /// A result as a text file.
    fn text(&self, result: &Value) -> String {
        self.rows(result).iter().map(|row| row.join("\t") + "\n").collect()
    }

    /// Adds to a JSON line what belongs beside the result.
    fn add_to_line(&self, _line: &mut Map<String, Value>, _result: &Value) {}

    /// Puts the arrays that belong to a result into it.
    fn add_floats(&self, _result: &mut Value, _floats: &[Vec<f32>]) {}

    /// The folder of drawings, where there are to be any.
    fn drawings(&self) -> Option<&Path> {
        None
    }

    /// Drawings of a picture by name: of that number among the pictures of a result.
    ///
    /// # Errors
    /// For what cannot be drawn.
    fn draw(&self, _picture: &Pictured<'_>, _nth: usize) -> Result<Vec<(String, RgbImage)>> {
        Ok(Vec::new())
    }
}

/// A picture, and what was found.
pub(crate) struct Pictured<'a> {
    /// Its pixels.
    pub image: &'a RgbImage,
    /// The result.
    pub result: &'a Value,
    /// The arrays that belong to it.
    pub floats: &'a [Vec<f32>],
}

/// Options that every task has.
#[derive(Args, Clone, Debug)]
pub(crate) struct Pictures {
    /// Pictures (png, jpeg, webp, gif, bmp), folders of them, or `-` for names on standard input.
    images: Vec<PathBuf>,
    /// A model directory, a repository on the hub (`owner/name@revision`), the address of a `blip.json`; or
    /// several with the task of each (`caption=owner/one,vqa=owner/two`). The embedded `tiny` when left out.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Pictures that are encoded side by side, at most 8.
    #[arg(long, default_value_t = BATCH)]
    batch: usize,
    /// The pictures are the frames of one clip.
    #[arg(long)]
    video: bool,
    /// Of a clip, take so many of the frames.
    #[arg(long, requires = "video", value_name = "COUNT")]
    frames: Option<usize>,
    /// Which: `even` over the clip, or as the original's retrieval.
    #[arg(long, requires = "video", value_enum, default_value_t = Sampling::Even)]
    sampling: Sampling,
    /// Leave pictures as they lie in their files, whatever EXIF says.
    #[arg(long)]
    ignore_exif: bool,
    /// What becomes of transparency: `white` below it, or `discard` it.
    #[arg(long, value_parser = alpha, default_value = "white")]
    alpha: Alpha,
    #[command(flatten)]
    output: Output,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

fn alpha(name: &str) -> Result<Alpha, String> {
    match name {
        "white" => Ok(Alpha::White),
        "discard" => Ok(Alpha::Discard),
        _ => Err("expected white or discard".to_owned()),
    }
}

/// A task's own options, and those of every task.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments<J: Args> {
    #[command(flatten)]
    job: J,
    #[command(flatten)]
    pictures: Pictures,
}

/// What a result is about: a picture, a pair, or the frames of a clip.
struct Unit {
    name: String,
    inputs: Vec<Input>,
}

/// Does the task: exit code 0 when all went well, 1 when a picture failed.
///
/// # Errors
/// For what concerns all pictures: options, the model, the device, outputs.
pub(crate) fn run<J: Job + Args>(Arguments { job, pictures }: &Arguments<J>) -> Result<ExitCode> {
    let mut request = job.request()?;
    expand_lists(&mut request)?;
    let request = Request::from_json(&Value::Object(request).to_string())?;
    if !(1..=BATCH).contains(&pictures.batch) {
        bail!(bad_option(format!("option batch is {}, expected 1 to {BATCH}", pictures.batch)));
    }
    let units = pictures.units(job.has_pictures(), J::PICTURES)?;
    let firsts: Vec<&Input> = units.iter().filter_map(|unit| unit.inputs.first()).collect();
    let mut sinks = pictures.output.open(&job.columns(), &firsts)?;
    let drawings = Drawings::open(job.drawings(), units.iter().flat_map(|unit| &unit.inputs))?;
    let has = |unit: &Unit| {
        let is_known = unit.inputs.first().is_some_and(|first| sinks.has(first, &unit.name));
        is_known && unit.inputs.iter().all(|input| drawings.has(input))
    };
    let (known, waiting): (Vec<Unit>, Vec<Unit>) = units.into_iter().partition(has);
    let mut progress = Progress::new(waiting.len(), pictures.quiet);
    if !waiting.is_empty() {
        let session = open_session(pictures.model.as_deref(), pictures.device)?;
        let together = if pictures.video { 1 } else { (pictures.batch / J::PICTURES).max(1) };
        let tasks = session.tasks_of(&request)?;
        let mut run = Run { job, pictures, request, session, tasks, drawings, sinks: &mut sinks };
        for batch in waiting.chunks(together) {
            run.do_batch(batch, &mut progress)?;
        }
    }
    progress.clear();
    let failed = progress.failed();
    if !pictures.quiet && (sinks.has_files() || (failed > 0 && waiting.len() > 1)) {
        let done = waiting.len() - failed;
        eprintln!("blip: {done} done, {failed} failed, {} were there before", known.len());
    }
    Ok(if failed > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

impl Pictures {
    fn units(&self, has_pictures: bool, pictures: usize) -> Result<Vec<Unit>> {
        let mut inputs = expand(&self.images)?;
        if !has_pictures {
            if !inputs.is_empty() {
                bail!(bad_option("this is about texts alone: leave the pictures out".to_owned()));
            }
            return Ok(vec![Unit { name: String::new(), inputs }]);
        }
        if inputs.is_empty() {
            bail!("there is no picture: name files, folders, or - for a list on standard input");
        }
        if self.video {
            if pictures > 1 {
                bail!(bad_option("pictures are compared, not frames: leave --video out".to_owned()));
            }
            if let Some(frames) = self.frames {
                let chosen = frame_indices(inputs.len(), frames, self.sampling);
                inputs = chosen.into_iter().map(|index| inputs[index].clone()).collect();
            }
            let name = inputs.first().map(|input| input.path.display().to_string()).unwrap_or_default();
            return Ok(vec![Unit { name, inputs }]);
        }
        if !inputs.len().is_multiple_of(pictures) {
            bail!(bad_option(format!("this is about {pictures} pictures at a time, not {}", inputs.len())));
        }
        let unit = |inputs: &[Input]| {
            let names: Vec<String> = inputs.iter().map(|input| input.path.display().to_string()).collect();
            Unit { name: names.join(" "), inputs: inputs.to_vec() }
        };
        // What was named before is left out.
        let mut seen = HashSet::new();
        let paths = |inputs: &[Input]| inputs.iter().map(|input| input.path.clone()).collect::<Vec<_>>();
        let fresh = inputs.chunks(pictures).filter(|inputs| seen.insert(paths(inputs)));
        Ok(fresh.map(unit).collect())
    }

    fn decode(&self, input: &Input) -> Result<RgbImage> {
        let bytes = read(&input.path)?;
        let options = ImageOptions { apply_exif: !self.ignore_exif, alpha: self.alpha };
        decode(&bytes, &options).with_context(|| input.path.display().to_string())
    }
}

/// A task that is being done.
struct Run<'a, J> {
    job: &'a J,
    pictures: &'a Pictures,
    request: Request,
    session: Session,
    /// Whose image encoders look at the pictures.
    tasks: Vec<Task>,
    drawings: Drawings,
    sinks: &'a mut Sinks,
}

impl<J: Job> Run<'_, J> {
    fn do_batch(&mut self, batch: &[Unit], progress: &mut Progress) -> Result<()> {
        let (mut units, mut images) = (Vec::new(), Vec::new());
        for unit in batch {
            let decoded: Result<Vec<RgbImage>> =
                unit.inputs.iter().map(|input| self.pictures.decode(input)).collect();
            match decoded {
                Ok(decoded) => {
                    units.push(unit);
                    images.extend(decoded);
                }
                Err(error) => {
                    progress.clear();
                    super::complain(&error);
                    progress.step(true);
                }
            }
        }
        if units.is_empty() {
            return Ok(());
        }
        let start = std::time::Instant::now();
        let (session, tasks) = (&self.session, &self.tasks);
        let encoded: Vec<Picture> = match self.pictures.video {
            _ if images.is_empty() => Vec::new(),
            true => vec![block_on(session.encode_video_for(tasks, &images))?],
            false => block_on(session.encode_for(tasks, &images))?,
        };
        let encode_ms = start.elapsed().as_secs_f64() * 1e3 / images.len().max(1) as f64;
        // What is asked of several pictures together shares the work on texts; a pair is one question.
        let questions = if J::PICTURES > 1 { units.len() } else { 1 };
        let (pictures_each, units_each) = (encoded.len() / questions, units.len() / questions);
        let images_each = images.len() / units.len();
        for (nth, units) in units.chunks(units_each).enumerate() {
            let pictures = &encoded[nth * pictures_each..][..pictures_each];
            let answer = block_on(session.answer(&self.request, pictures, &mut |_| Control::Continue))?;
            let mut json: Value = serde_json::from_str(&answer.json).context("an answer is JSON")?;
            let Value::Array(results) = json["results"].take() else { bail!("an answer has results") };
            let (each, floats) = (results.len() / units.len(), answer.floats.len() / units.len());
            for (place, unit) in units.iter().enumerate() {
                let own = results[place * each..][..each].to_vec();
                let mut result =
                    if each == 1 { own.into_iter().next().unwrap_or_default() } else { own.into() };
                let floats = &answer.floats[place * floats..][..floats];
                let images = &images[(nth * units_each + place) * images_each..][..images_each];
                for (nth, (input, image)) in unit.inputs.iter().zip(images).enumerate() {
                    let pictured = Pictured { image, result: &result, floats };
                    self.drawings.write(input, &self.job.draw(&pictured, nth)?)?;
                }
                self.job.add_floats(&mut result, floats);
                if let Some(ms) = result.get_mut("ms") {
                    ms["encode"] = encode_ms.into();
                }
                let record = record(self.job, &unit.name, &result);
                match unit.inputs.first() {
                    Some(input) => self.sinks.write(input, &record)?,
                    None => self.sinks.write(&Input::default(), &record)?,
                }
                progress.step(false);
            }
        }
        Ok(())
    }
}

fn record<J: Job>(job: &J, name: &str, result: &Value) -> Record {
    let mut json = Map::new();
    if !name.is_empty() {
        json.insert("image".to_owned(), name.into());
    }
    job.add_to_line(&mut json, result);
    json.insert("result".to_owned(), result.clone());
    let (json, rows, text) = (Value::Object(json).to_string(), job.rows(result), job.text(result));
    Record { name: name.to_owned(), json, rows, text }
}

/// Replaces each `@file` in lists of texts by the file's lines; `@@` stands for the character.
fn expand_lists(request: &mut Map<String, Value>) -> Result<()> {
    for value in request.values_mut() {
        let Value::Array(list) = value else { continue };
        let mut all = Vec::with_capacity(list.len());
        for entry in std::mem::take(list) {
            match entry.as_str().and_then(|text| text.strip_prefix('@')) {
                None => all.push(entry),
                Some(literal) if literal.starts_with('@') => all.push(literal.into()),
                Some(path) => {
                    let text = String::from_utf8(read(path.as_ref())?)
                        .with_context(|| format!("{path} is not UTF-8"))?;
                    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                    all.extend(lines.map(Value::from));
                }
            }
        }
        *list = all;
    }
    Ok(())
}

fn bad_option(message: String) -> Error {
    Error::new(ErrorKind::BadOption, message)
}

/// A number of a result, to be read.
pub(crate) fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or_else(String::new, |number| format!("{number:.digits$}"))
}

/// A text of a result.
pub(crate) fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Numbers of a result, in as few digits as tell them from others of their type.
pub(crate) fn numbers(values: &[f32]) -> Value {
    let short = |value: &f32| value.to_string().parse::<f64>().map_or(Value::Null, Value::from);
    values.iter().map(short).collect()
}

/// The entries of a list.
pub(crate) fn entries(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
