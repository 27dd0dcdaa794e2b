//! `blip eval`: how well a model does, task by task.

mod data;
mod table;

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use blip_web::device::block_on;
use blip_web::generate::Control;
use blip_web::tasks::{AskOptions, CaptionOptions, FRAMES, Request, Sampling, Session, Task};
use blip_web::train::data::Dataset;
use blip_web::train::evaluate::{
    CLIP_FRAMES, Examples, OnExample, QuestionOptions, RetrievalOptions, answer_list, captions, dialogues,
    hard_negatives, questions, retrieval, statements,
};
use blip_web::{Error, ErrorKind};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};

use super::source::{DeviceName, open_session, read};
use super::tasks::{Generation, request};
use data::{Data, Source};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// Exact captions, BLEU, ROUGE-L, CIDEr.
    Caption,
    /// VQA accuracy of generated answers, and of ones chosen from a list.
    Vqa,
    /// Recall of texts for pictures and of pictures for texts.
    Retrieval,
    /// Captions beside ones that are nearly true.
    Negatives,
    /// Statements about two pictures.
    Nlvr2,
    /// The place of the answer among a dialogue's candidates.
    Dialogue,
}

#[derive(Args)]
pub(crate) struct Arguments {
    /// A model directory, what training wrote, or several with the task of each
    /// (`caption=one,itm=other`). The embedded `tiny` when left out.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// What to measure; all that the model was trained for and the data has texts for when left out.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    measures: Vec<Measure>,
    #[command(flatten)]
    data: Data,
    /// Text that captions continue.
    #[arg(long)]
    prompt: Option<String>,
    /// Answers to choose from, one a line; those of the examples themselves when it is `own`. Without it
    /// answers are only generated.
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Of the answers, rank so many with the likeliest beginnings in full.
    #[arg(long)]
    candidates: Option<usize>,
    /// Retrieval: ITM looks again at so many of the best by ITC.
    #[arg(long, value_name = "COUNT")]
    rerank: Option<usize>,
    /// Retrieval: seek among so many examples at a time, instead of among all.
    #[arg(long, value_name = "COUNT")]
    among: Option<usize>,
    /// Retrieval: a text that another picture has word for word is right for both.
    #[arg(long)]
    same_words: bool,
    /// Of a clip with more frames, look at so many: the original takes 8 for retrieval and 16 for questions.
    #[arg(long, value_name = "COUNT", default_value_t = CLIP_FRAMES)]
    frames: usize,
    /// Which: `even` over the clip, or as the original's retrieval.
    #[arg(long, value_enum, default_value_t = Sampling::Even)]
    sampling: Sampling,
    #[command(flatten)]
    generation: Generation,
    /// Write everything as JSON; `-` is standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write every caption beside its references, and every answer beside the annotated ones, one JSON object
    /// a line.
    #[arg(long, value_name = "FILE")]
    said: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (caption, ask) = (arguments.caption_options()?, arguments.ask_options()?);
    if !(1..=FRAMES).contains(&arguments.frames) {
        let message = format!("option frames is {}, expected 1 to {FRAMES}", arguments.frames);
        bail!(Error::new(ErrorKind::BadOption, message));
    }
    let source = arguments.data.open()?;
    let session = open_session(arguments.model.as_deref(), arguments.device)?;
    let measures = match arguments.measures.is_empty() {
        false => arguments.measures.clone(),
        true => possible(&session, &source),
    };
    if measures.is_empty() {
        let tasks: Vec<&str> = session.tasks().into_iter().map(Task::name).collect();
        let message =
            format!("the data has no texts for what the model was trained for ({})", tasks.join(", "));
        bail!(Error::new(ErrorKind::BadOption, message));
    }
    if let Some(path) = &arguments.said {
        File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut report = Map::new();
    report.insert("data".to_owned(), source.single.describe().into());
    for measure in measures {
        let name = measure.name();
        let value = arguments.measure(measure, &session, &source, (&caption, &ask))?;
        report.insert(name.to_owned(), value);
    }
    arguments.write(&Value::Object(report))
}

impl Measure {
    fn name(self) -> &'static str {
        match self {
            Self::Caption => "caption",
            Self::Vqa => "vqa",
            Self::Retrieval => "retrieval",
            Self::Negatives => "negatives",
            Self::Nlvr2 => "nlvr2",
            Self::Dialogue => "dialogue",
        }
    }
}

/// What a model can do and the first examples have texts for.
fn possible(session: &Session, source: &Source) -> Vec<Measure> {
    const LOOKED_AT: usize = 8;
    let has = |dataset: &dyn Dataset, is: fn(&blip_web::train::data::Record) -> bool| {
        (0..dataset.len().min(LOOKED_AT)).any(|index| dataset.get(index).is_ok_and(|record| is(&record)))
    };
    let can = |task| session.part(task).is_ok();
    let single = &*source.single;
    let all = [
        (Measure::Caption, can(Task::Caption) && has(single, |record| !record.texts.captions.is_empty())),
        (Measure::Vqa, can(Task::Vqa) && has(single, |record| !record.texts.questions.is_empty())),
        (Measure::Retrieval, can(Task::Itc) && has(single, |record| !record.texts.captions.is_empty())),
        (Measure::Negatives, can(Task::Itm) && has(single, |record| !record.texts.hard_negatives.is_empty())),
        (
            Measure::Nlvr2,
            can(Task::Nlvr2)
                && has(source.pairs(), |record| {
                    record.images.len() == 2 && !record.texts.statements.is_empty()
                }),
        ),
        (Measure::Dialogue, can_talk(session) && has(single, |record| record.texts.dialogue.is_some())),
    ];
    all.into_iter().filter(|(_, is_possible)| *is_possible).map(|(measure, _)| measure).collect()
}

/// Whether a network for matching can look at a picture and a text together.
fn can_talk(session: &Session) -> bool {
    session
        .part(Task::Itm)
        .is_ok_and(|part| part.config.vision_config.hidden_size == part.config.text_config.hidden_size)
}

impl Arguments {
    fn caption_options(&self) -> Result<CaptionOptions> {
        let mut request = request("caption", &self.generation)?;
        request.extend(self.prompt.clone().map(|prompt| ("prompt".to_owned(), prompt.into())));
        match Request::from_json(&Value::Object(request).to_string())? {
            Request::Caption(options) => Ok(options),
            _ => bail!("a caption's request is one"),
        }
    }

    fn ask_options(&self) -> Result<AskOptions> {
        let mut request = request("ask", &self.generation)?;
        request.insert("question".to_owned(), "".into());
        request.extend(self.candidates.map(|count| ("candidates".to_owned(), count.into())));
        match Request::from_json(&Value::Object(request).to_string())? {
            Request::Ask(options) => Ok(options),
            _ => bail!("a question's request is one"),
        }
    }

    fn measure(
        &self,
        measure: Measure,
        session: &Session,
        source: &Source,
        (caption, ask): (&CaptionOptions, &AskOptions),
    ) -> Result<Value> {
        let dataset = if measure == Measure::Nlvr2 { source.pairs() } else { &*source.single };
        let examples = Examples::new(dataset, source.limit).with_frames(self.frames, self.sampling);
        let mut progress = Progress::new(measure.name(), self.quiet);
        let on_example: OnExample<'_> = &mut |done, total| progress.show(done, total);
        let value = match measure {
            Measure::Caption => {
                let report = block_on(captions(session, &examples, caption, on_example))?;
                self.write_said(&report.said)?;
                json(&report)
            }
            Measure::Vqa => {
                let answers = match self.answers.as_deref() {
                    None => None,
                    Some(path) if path == Path::new("own") => Some(answer_list(&examples, on_example)?),
                    Some(path) => Some(lines(path)?),
                };
                let options = QuestionOptions { ask: ask.clone(), generated: true, answers };
                let report = block_on(questions(session, &examples, &options, on_example))?;
                self.write_said(&report.said)?;
                json(&report)
            }
            Measure::Retrieval => {
                let (rerank, among, same_words) = (self.rerank, self.among, self.same_words);
                let options = RetrievalOptions { rerank, among, same_words };
                json(&block_on(retrieval(session, &examples, options, on_example))?)
            }
            Measure::Negatives => json(&block_on(hard_negatives(session, &examples, on_example))?),
            Measure::Nlvr2 => json(&block_on(statements(session, &examples, on_example))?),
            Measure::Dialogue => json(&block_on(dialogues(session, &examples, on_example))?),
        };
        progress.clear();
        value
    }

    fn write_said(&self, all: &[impl Serialize]) -> Result<()> {
        let Some(path) = &self.said else { return Ok(()) };
        let line = |said| -> Result<String> { Ok(serde_json::to_string(said)? + "\n") };
        let text = all.iter().map(line).collect::<Result<String>>()?;
        let file = File::options().append(true).open(path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    fn write(&self, report: &Value) -> Result<()> {
        let text = format!("{report:#}\n");
        match self.json.as_deref() {
            Some(path) if path.as_os_str() == "-" => print!("{text}"),
            Some(path) => {
                std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
                print!("{}", table::of(report));
            }
            None => print!("{}", table::of(report)),
        }
        Ok(())
    }
}

fn json(report: &impl Serialize) -> Result<Value> {
    serde_json::to_value(report).context("a report is JSON")
}

fn lines(path: &Path) -> Result<Vec<String>> {
    let text = String::from_utf8(read(path)?).with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// A line on standard error that is overwritten, where somebody is watching.
struct Progress {
    watched: bool,
    measure: &'static str,
}

impl Progress {
    fn new(measure: &'static str, quiet: bool) -> Self {
        Self { watched: !quiet && std::io::stderr().is_terminal(), measure }
    }

    fn show(&mut self, done: usize, total: usize) -> Control {
        if self.watched {
            eprint!("\r\x1b[K{}: {done}/{total}", self.measure);
            // Best effort: a terminal that is gone shows nothing anyway.
            let _ = std::io::stderr().flush();
        }
        Control::Continue
    }

    fn clear(&self) {
        if self.watched {
            eprint!("\r\x1b[K");
        }
    }
}
