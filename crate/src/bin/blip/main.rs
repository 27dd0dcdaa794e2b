//! The `blip` command line tool.
#![allow(clippy::print_stdout, reason = "printing results is what a command line tool does")]

mod caption;
mod convert;
mod index;
mod inspect;
mod probe;
#[cfg(feature = "train")]
mod scenes;
mod source;
#[cfg(feature = "train")]
mod train;

use clap::{Parser, Subcommand};

/// BLIP on the command line: captions, checkpoints, training.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Caption images.
    Caption(caption::Arguments),
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
    /// Write or score scenes, the training data of the embedded model.
    #[cfg(feature = "train")]
    #[command(subcommand)]
    Scenes(scenes::Command),
}

fn main() -> std::process::ExitCode {
    let result = match Cli::parse().command {
        Command::Caption(arguments) => caption::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Index(arguments) => index::run(&arguments),
        Command::Probe(command) => probe::run(&command),
        #[cfg(feature = "train")]
        Command::Train(command) => train::run(&command),
        #[cfg(feature = "train")]
        Command::Scenes(command) => scenes::run(&command),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            std::process::ExitCode::FAILURE
        }
    }
}

/// An error on one line; the code in brackets is the stable part that scripts match.
fn complain(error: &anyhow::Error) {
    let code = error.downcast_ref::<blip_web::Error>().map_or("error", blip_web::Error::code);
    eprintln!("blip: [{code}] {error:#}");
}
