//! The corpus of tasks: calls and what must come out, described in `fixtures/README.md`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use blip_web::config::BlipConfig;
use blip_web::device::{OpenDevice, block_on};
use blip_web::generate::Control;
use blip_web::image::{ImageOptions, decode};
use blip_web::tasks::{Answer, Part, Picture, Request, Session};
use blip_web::weights::Checkpoint;
use image::RgbImage;
use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::compare::Report;
use crate::corpus::fixtures;

/// One file of the corpus with its tensors.
#[derive(Debug)]
pub struct Calls<C = Call> {
    /// The cases, in order.
    pub cases: Vec<C>,
    tensors: BTreeMap<String, Vec<f32>>,
}

/// One call.
#[derive(Debug, Deserialize)]
pub struct Call {
    /// What the case is about.
    pub name: String,
    /// The folder of its model in `fixtures/networks/`.
    pub model: String,
    /// The pictures that are asked about, each a list of frames.
    pub pictures: Vec<Vec<usize>>,
    /// The call, as JSON.
    pub request: Value,
    /// What must come out; fields that are not named are not compared.
    pub results: Value,
    /// Names of the tensors that come out beside it.
    pub floats: Vec<String>,
}

/// How close numbers must come, all of them absolute.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Numbers in the JSON.
    pub json: f32,
    /// Numbers of the tensors.
    pub floats: f32,
}

#[derive(Deserialize)]
struct File<C> {
    cases: Vec<C>,
}

impl<C: DeserializeOwned> Calls<C> {
    /// The cases of `fixtures/tasks/<name>.json`, with the tensors beside it where there are any.
    ///
    /// # Panics
    /// When the fixture is damaged.
    pub fn open(name: &str) -> Self {
        Self::read(name).unwrap_or_else(|error| panic!("fixture `{name}`: {error:#}"))
    }

    fn read(name: &str) -> Result<Self> {
        let folder = fixtures().join("tasks");
        let text = fs::read_to_string(folder.join(format!("{name}.json"))).context("JSON")?;
        let File { cases } = serde_json::from_str(&text)?;
        let path = folder.join(format!("{name}.safetensors"));
        let bytes = if path.exists() { fs::read(&path)? } else { Vec::new() };
        let mut tensors = BTreeMap::new();
        if !bytes.is_empty() {
            for (name, view) in SafeTensors::deserialize(&bytes)?.iter() {
                let floats = view.data().as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk));
                tensors.insert(name.to_owned(), floats.collect());
            }
        }
        Ok(Self { cases, tensors })
    }

    /// The tensor of that name, row-major.
    ///
    /// # Panics
    /// When there is none.
    pub fn tensor(&self, name: &str) -> &[f32] {
        self.tensors.get(name).unwrap_or_else(|| panic!("the fixture has no tensor `{name}`"))
    }
}

impl Calls {
    /// The cases whose names begin like that.
    ///
    /// # Panics
    /// When there is none: a test must not pass because a name was changed.
    pub fn of<'a>(&'a self, beginning: &'a str) -> impl Iterator<Item = &'a Call> {
        let found = || self.cases.iter().filter(move |call| call.name.starts_with(beginning));
        assert!(found().next().is_some(), "no case is called `{beginning}…`");
        found()
    }

    /// Makes a call and compares what comes out.
    pub fn check(&self, report: &mut Report, session: &Session, call: &Call, tolerance: Tolerance) {
        let Answer { json, floats } = call.make(session);
        let got: Value = serde_json::from_str(&json).unwrap_or_default();
        report.json(&call.name, &got["results"], &call.results, tolerance.json);
        report.equal(&format!("{}: tensors", call.name), &floats.len(), &call.floats.len());
        for (got, name) in floats.iter().zip(&call.floats) {
            report.close(name, got, self.tensor(name), tolerance.floats);
        }
    }
}

impl Call {
    /// The answer of a session.
    ///
    /// # Panics
    /// When there is none, with the reason.
    pub fn make(&self, session: &Session) -> Answer {
        self.answer(session).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn answer(&self, session: &Session) -> blip_web::Result<Answer> {
        let pictures: Vec<Picture> =
            self.pictures.iter().map(|frames| encode(session, frames)).collect::<blip_web::Result<_>>()?;
        let request = Request::from_json(&self.request.to_string())?;
        block_on(session.answer(&request, &pictures, &mut |_| Control::Continue))
    }
}

fn encode(session: &Session, frames: &[usize]) -> blip_web::Result<Picture> {
    let images: Vec<RgbImage> = frames.iter().map(|index| picture(*index)).collect();
    match &images[..] {
        [image] => block_on(session.encode(image)),
        frames => block_on(session.encode_video(frames)),
    }
}

/// A picture of the corpus.
///
/// # Panics
/// When it cannot be read.
pub fn picture(index: usize) -> RgbImage {
    let bytes = fs::read(fixtures().join(format!("networks/pictures/{index}.png"))).unwrap_or_default();
    decode(&bytes, &ImageOptions::default()).expect("the fixture has this picture")
}

/// The vocabulary of the corpus, one token a line.
///
/// # Panics
/// When it cannot be read.
pub fn vocabulary() -> Vec<u8> {
    fs::read(fixtures().join("networks/vocab.txt")).expect("the fixture has a vocabulary")
}

/// A model of the corpus: a folder of `fixtures/`, and the file of its weights.
///
/// # Panics
/// When the library refuses it.
pub fn part(folder: &str, weights: &str, device: &OpenDevice) -> Part {
    let folder = fixtures().join(folder);
    let config = fs::read_to_string(folder.join("config.json")).expect("the fixture has a configuration");
    let config = BlipConfig::from_json(&config).expect("the configuration is valid");
    let checkpoint = Checkpoint::open(&folder.join(weights)).expect("the fixture has weights");
    Part::from_checkpoint(&config, &checkpoint, &vocabulary(), device).expect("the weights are complete")
}

/// A session with every network of the corpus: one image encoder for captions, answers and matching, and
/// another one for statements about two pictures.
///
/// # Panics
/// When the library refuses one of them.
pub fn session(device: &OpenDevice) -> Session {
    let network = |name: &str| part(&format!("networks/{name}"), "model.safetensors", device);
    let mut session = Session::new(device);
    let parts = vec![network("caption"), network("vqa"), network("itm"), part("nlvr2", "model.pth", device)];
    session.add(parts).expect("each serves tasks of its own");
    session
}
