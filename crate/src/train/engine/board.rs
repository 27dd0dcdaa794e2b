//! Scalars for TensorBoard.
//!
//! There is no kept crate that writes its event files, and of their format little is needed: records of a
//! length, a message and checksums (TFRecord), where a message is a protocol buffer with the time, the step
//! and some tags with a float each (`tensorflow.Event`, `Summary.Value.simple_value`).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::journal::unusable;
use crate::Result;

/// An event file.
#[derive(Debug)]
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A new file in a folder that TensorBoard is pointed at; it shows all of a folder's as one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let now = now();
        let path = folder.join(format!("events.out.tfevents.{}.{}", now as u64, std::process::id()));
        let file = File::create(&path).map_err(|e| unusable(&path, e))?;
        let mut events = Self { path, file };
        let mut message = Vec::new();
        double(&mut message, 1, now);
        bytes(&mut message, 3, b"brain.Event:2");
        events.write(&message)?;
        Ok(events)
    }

    /// Writes the values that some tags have at a step.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub(super) fn note(&mut self, step: usize, scalars: &[(String, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let mut message = Vec::new();
            bytes(&mut message, 1, tag.as_bytes());
            key(&mut message, 2, 5);
            message.extend((*value as f32).to_le_bytes());
            bytes(&mut summary, 1, &message);
        }
        let mut message = Vec::new();
        double(&mut message, 1, now());
        key(&mut message, 2, 0);
        varint(&mut message, step as u64);
        bytes(&mut message, 5, &summary);
        self.write(&message)
    }

    fn write(&mut self, message: &[u8]) -> Result<()> {
        self.file.write_all(&record(message)).map_err(|e| unusable(&self.path, e))
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}

/// A TFRecord.
fn record(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(&length).to_le_bytes());
    record.extend(message);
    record.extend(masked(message).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted so that a checksum of data with checksums is none of theirs.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xA282_EAD8)
}

fn key(out: &mut Vec<u8>, field: u64, kind: u64) {
    varint(out, field << 3 | kind);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_those_of_the_format() {
        // The version record that TensorFlow begins its files with, at time 0.
        let mut message = Vec::new();
        double(&mut message, 1, 0.0);
        bytes(&mut message, 3, b"brain.Event:2");
        assert_eq!(message[..11], [0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x1A, 13]);
        let record = record(&message);
        // Known: the masked checksum of the length 24, which begins every file of TensorFlow.
        assert_eq!(record[..12], [24, 0, 0, 0, 0, 0, 0, 0, 0xA3, 0x7F, 0x4B, 0x22]);
        assert_eq!(record.len(), 12 + 24 + 4);
        let mut long = Vec::new();
        varint(&mut long, 300);
        assert_eq!(long, [0xAC, 0x02]);
    }
}
