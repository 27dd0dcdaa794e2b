//! The `blip` command line tool.
#![allow(clippy::print_stdout, reason = "printing results is what a command line tool does")]

mod batch;
#[cfg(feature = "train")]
mod capfilt;
mod convert;
#[cfg(feature = "train")]
mod eval;
mod gallery;
mod index;
mod inspect;
mod network;
mod probe;
#[cfg(feature = "train")]
mod scene_shards;
#[cfg(feature = "train")]
mod scenes;
mod source;
mod tasks;
#[cfg(feature = "train")]
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use batch::Arguments;

/// BLIP on the command line: captions, checkpoints, training.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what pictures show.
    Caption(Arguments<tasks::Caption>),
    /// Answer a question about each picture.
    Ask(Arguments<tasks::Ask>),
    /// Say how well texts fit each picture.
    Match(Arguments<tasks::Match>),
    /// Choose among labels for each picture.
    Classify(Arguments<tasks::Classify>),
    /// Write features of pictures, of texts, or of both together.
    Embed(Arguments<tasks::Embed>),
    /// Say where in each picture the words of a text are.
    Explain(Arguments<tasks::Explain>),
    /// Judge a statement about two pictures, or about each two of a list.
    Nlvr2(Arguments<tasks::Nlvr2>),
    /// Rank answers in a dialogue about each picture.
    Dialogue(Arguments<tasks::Dialogue>),
    /// Index pictures, and find them by words or by a picture.
    #[command(subcommand)]
    Gallery(gallery::Command),
    /// Say what is in a checkpoint or a model directory.
    Inspect(inspect::Arguments),
    /// Convert a checkpoint into a model directory.
    Convert(convert::Arguments),
    /// Write the index of a folder of model directories.
    Index(index::Arguments),
    /// Figures for the benchmark.
    #[command(subcommand, hide = true)]
    Probe(probe::Command),
    /// Train a model.
    #[cfg(feature = "train")]
    #[command(subcommand)]
    Train(train::Command),
    /// Measure a model on examples.
    #[cfg(feature = "train")]
    Eval(eval::Arguments),
    /// Bootstrap captions: caption the web's pictures, filter texts, assemble a training set.
    #[cfg(feature = "train")]
    #[command(subcommand)]
    Capfilt(capfilt::Command),
    /// Write or score scenes, the training data of the embedded model.
    #[cfg(feature = "train")]
    #[command(subcommand)]
    Scenes(scenes::Command),
}

/// 0 when all went well, 1 when some pictures failed, 2 when nothing could be done.
fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Cli::parse().command {
        Command::Caption(arguments) => batch::run(&arguments),
        Command::Ask(arguments) => batch::run(&arguments),
        Command::Match(arguments) => batch::run(&arguments),
        Command::Classify(arguments) => batch::run(&arguments),
        Command::Embed(arguments) => batch::run(&arguments),
        Command::Explain(arguments) => batch::run(&arguments),
        Command::Nlvr2(arguments) => batch::run(&arguments),
        Command::Dialogue(arguments) => batch::run(&arguments),
        Command::Gallery(command) => gallery::run(&command),
        Command::Inspect(arguments) => inspect::run(&arguments).map(done),
        Command::Convert(arguments) => convert::run(&arguments).map(done),
        Command::Index(arguments) => index::run(&arguments).map(done),
        Command::Probe(command) => probe::run(&command).map(done),
        #[cfg(feature = "train")]
        Command::Train(command) => train::run(&command).map(done),
        #[cfg(feature = "train")]
        Command::Eval(arguments) => eval::run(&arguments).map(done),
        #[cfg(feature = "train")]
        Command::Capfilt(command) => capfilt::run(&command),
        #[cfg(feature = "train")]
        Command::Scenes(command) => scenes::run(&command).map(done),
    };
    result.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::from(2)
    })
}

/// An error on one line; the code in brackets is the stable part that scripts match.
fn complain(error: &anyhow::Error) {
    let code = error.downcast_ref::<blip_web::Error>().map_or("error", blip_web::Error::code);
    // An error of the library says its own causes.
    let mut words = Vec::new();
    for cause in error.chain() {
        words.push(cause.to_string());
        if cause.is::<blip_web::Error>() {
            break;
        }
    }
    eprintln!("blip: [{code}] {}", words.join(": "));
}
