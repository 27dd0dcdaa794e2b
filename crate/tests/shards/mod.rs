//! Tar files and pictures for tests of what reads shards.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A file of the small networks that share an image encoder.
pub fn networks(path: &str) -> PathBuf {
    repository("tests/fixtures/networks").join(path)
}

/// A tar file of these files (POSIX ustar), ended as it should be.
pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        for (at, field) in
            [(100, "0000644\0"), (108, "0000000\0"), (116, "0000000\0"), (136, "00000000000\0")]
        {
            header[at..at + field.len()].copy_from_slice(field.as_bytes());
        }
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(header);
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend([0; 1024]);
    bytes
}

/// A picture of theirs, as PNG.
pub fn picture(nth: usize) -> Vec<u8> {
    fs::read(networks(&format!("pictures/{}.png", nth % 8))).unwrap()
}

/// The files in a tar file, in its order.
pub fn untar(path: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let (mut at, mut files) = (0, Vec::new());
    let field = |header: &[u8]| {
        let end = header.iter().position(|byte| *byte == 0 || *byte == b' ').unwrap_or(header.len());
        String::from_utf8(header[..end].to_vec()).unwrap()
    };
    while bytes[at] != 0 {
        let size = usize::from_str_radix(&field(&bytes[at + 124..at + 136]), 8).unwrap();
        files.push((field(&bytes[at..at + 100]), bytes[at + 512..at + 512 + size].to_vec()));
        at += 512 + size.next_multiple_of(512);
    }
    files
}
