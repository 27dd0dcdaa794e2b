//! Running other programs, with the command line shown first.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Runs a command with its output on the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| format!("cannot start {}", program(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", program(command));
    }
    Ok(())
}

/// Runs a command quietly and returns what it wrote to its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let result = command.output().with_context(|| format!("cannot start {}", program(command)))?;
    if !result.status.success() {
        let words = String::from_utf8_lossy(&result.stderr);
        bail!("{} failed: {}\n{}", program(command), result.status, words.trim());
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

/// Whether a command starts and succeeds; it writes nothing.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// What a command wrote, both streams in the order of their lines, and whether it succeeded.
pub struct Transcript {
    /// Lines of both streams.
    pub text: String,
    /// Whether the exit status was zero.
    pub success: bool,
}

/// Runs a command with its output both on the terminal and in the result.
pub fn transcript(command: &mut Command) -> Result<Transcript> {
    announce(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program(command)))?;
    let text = Arc::new(Mutex::new(String::new()));
    let streams: [Option<Box<dyn Read + Send>>; 2] =
        [child.stdout.take().map(|s| Box::new(s) as _), child.stderr.take().map(|s| Box::new(s) as _)];
    let readers: Vec<_> = streams
        .into_iter()
        .flatten()
        .map(|stream| {
            let text = Arc::clone(&text);
            thread::spawn(move || copy_lines(stream, &text))
        })
        .collect();
    for reader in readers {
        // A reader ends when its stream does; one that panicked has kept what it had read.
        reader.join().ok();
    }
    let success = child.wait()?.success();
    let text = text.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Transcript { text, success })
}

fn copy_lines(stream: Box<dyn Read + Send>, text: &Mutex<String>) {
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(&line);
        text.push('\n');
    }
}

fn announce(command: &Command) {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    println!("$ {} {}", program(command), arguments.join(" "));
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
