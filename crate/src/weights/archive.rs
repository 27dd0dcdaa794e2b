//! The directory of a zip archive of stored entries, which is what `torch.save` writes around a pickle.
//!
//! Nothing here reads a file: bytes come from whoever has them, and the offsets say which are needed.

use std::ops::Range;

use crate::{Error, ErrorKind, Result};

/// Where the directory is looked for at first: `torch.save` leaves no comment behind it.
pub(super) const NEAR_END: u64 = 4 << 10;
/// Where it must be: the longest comment, and the records at the end.
pub(super) const FAR_END: u64 = 65_535 + 22 + 20 + 56;
/// The longest directory that is read; that of a large model has some 100 kB.
const LONGEST: u64 = 16 << 20;
/// Bytes of the fixed part of the header in front of an entry's data.
pub(super) const LOCAL: usize = 30;

/// An entry whose data lies in the archive as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Its name, folders included.
    pub name: String,
    /// Where its header begins.
    pub header: u64,
    /// Bytes of its data.
    pub size: u64,
}

/// The place of the directory, from the last bytes of the archive, of which the first is at `start`;
/// nothing when it does not begin among them.
///
/// # Errors
/// [`ErrorKind::WeightsFormat`] for an archive that says nonsense.
pub(super) fn directory(tail: &[u8], start: u64) -> Result<Option<Range<u64>>> {
    let total = start + tail.len() as u64;
    let Some(at) = (0..tail.len().saturating_sub(21)).rev().find(|at| ends_at(&tail[*at..])) else {
        return Ok(None);
    };
    let end = &tail[at..];
    let (mut size, mut offset) = (u64::from(u32_at(end, 12)), u64::from(u32_at(end, 16)));
    if let Some(locator) = at.checked_sub(20).map(|at| &tail[at..])
        && locator.starts_with(b"PK\x06\x07")
    {
        let place = u64_at(locator, 8);
        let Some(wide) = place.checked_sub(start).and_then(|at| tail.get(usize::try_from(at).ok()?..)) else {
            return Ok(None);
        };
        if wide.len() < 56 || !wide.starts_with(b"PK\x06\x06") {
            return Err(refused("its directory is not where it says"));
        }
        (size, offset) = (u64_at(wide, 40), u64_at(wide, 48));
    }
    match offset.checked_add(size) {
        Some(end) if end <= total && size <= LONGEST => Ok(Some(offset..end)),
        _ => Err(refused(format!("a directory of {size} bytes at {offset}, in a file of {total}"))),
    }
}

/// Whether this is the record at the end, with a comment that reaches to the end of the file.
fn ends_at(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x05\x06") && 22 + usize::from(u16_at(bytes, 20)) == bytes.len()
}

/// The entries of a directory that begins at `start`, in the order of their data.
///
/// # Errors
/// [`ErrorKind::WeightsFormat`] for compressed, encrypted, overlapping or repeated entries, and for a
/// directory that ends early.
pub(super) fn records(directory: &[u8], start: u64) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut rest = directory;
    while !rest.is_empty() {
        if rest.len() < 46 || !rest.starts_with(b"PK\x01\x02") {
            return Err(refused("its directory is damaged"));
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(rest, at)));
        let whole =
            rest.get(..46 + name + extra + comment).ok_or_else(|| refused("its directory is cut short"))?;
        rest = &rest[whole.len()..];
        let text = std::str::from_utf8(&whole[46..46 + name]);
        let text = text.map_err(|_| refused("an entry whose name is not UTF-8"))?;
        check_plain(text, u16_at(whole, 8), u16_at(whole, 10))?;
        let [packed, size, header] = wide_fields(whole, &whole[46 + name..46 + name + extra])?;
        if packed != size {
            return Err(refused(format!("`{text}` has two sizes")));
        }
        records.push(Record { name: text.to_owned(), header, size });
    }
    records.sort_by_key(|record| record.header);
    for (index, record) in records.iter().enumerate() {
        let next = records.get(index + 1).map_or(start, |next| next.header);
        let least = (LOCAL + record.name.len()) as u64;
        let end = record.header.checked_add(least).and_then(|data| data.checked_add(record.size));
        if end.is_none_or(|end| end > next) {
            return Err(refused(format!("`{}` overlaps what follows it", record.name)));
        }
    }
    let mut names: Vec<&str> = records.iter().map(|record| &*record.name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(refused(format!("it has `{}` twice", pair[0]))),
        None => Ok(records),
    }
}

/// Sizes and place of an entry, from the 32-bit fields or the 64-bit ones that stand in for them.
fn wide_fields(whole: &[u8], mut extra: &[u8]) -> Result<[u64; 3]> {
    let mut fields = [20, 24, 42].map(|at| u64::from(u32_at(whole, at)));
    let is_elsewhere = |field: &u64| *field == u64::from(u32::MAX);
    while extra.len() >= 4 && fields.iter().any(is_elsewhere) {
        let (kind, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let mut body = extra.get(4..4 + length).ok_or_else(|| refused("its directory is damaged"))?;
        extra = &extra[4 + length..];
        if kind != 1 {
            continue;
        }
        // The three stand in the order size, packed size, place, and only those that are needed.
        for index in [1, 0, 2] {
            if is_elsewhere(&fields[index]) {
                let (now, later) =
                    body.split_at_checked(8).ok_or_else(|| refused("its directory is damaged"))?;
                fields[index] = u64_at(now, 0);
                body = later;
            }
        }
        return Ok(fields);
    }
    Ok(fields)
}

/// Bytes between the beginning of an entry's header and its data; `header` has at least [`LOCAL`] bytes.
///
/// # Errors
/// [`ErrorKind::WeightsFormat`] when this is no header of such an entry.
pub(super) fn before_data(header: &[u8]) -> Result<usize> {
    if header.len() < LOCAL || !header.starts_with(b"PK\x03\x04") {
        return Err(refused("an entry is not where its directory says"));
    }
    check_plain("an entry", u16_at(header, 6), u16_at(header, 8))?;
    Ok(LOCAL + usize::from(u16_at(header, 26)) + usize::from(u16_at(header, 28)))
}

fn check_plain(name: &str, flags: u16, method: u16) -> Result<()> {
    // Bit 0: encrypted; bit 13: the directory is.
    if flags & 0x2001 != 0 {
        return Err(refused(format!("`{name}` is encrypted")));
    }
    if method != 0 {
        return Err(refused(format!("`{name}` is compressed, expected what `torch.save` writes")));
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

pub(super) fn refused(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::WeightsFormat, format!("weights: not an archive that `torch.save` writes: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive as `torch.save` writes it, with everything at the end in 64 bits where `wide`.
    fn archive(files: &[(&str, &[u8])], wide: bool, method: u16, flags: u16) -> (Vec<u8>, u64) {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for (name, data) in files {
            let (header, size) = (bytes.len() as u64, data.len() as u64);
            let padding = [b'Z'; 5];
            bytes.extend(b"PK\x03\x04\0\0");
            bytes.extend([flags.to_le_bytes(), method.to_le_bytes()].concat());
            bytes.extend([0; 16]);
            bytes.extend([(name.len() as u16).to_le_bytes(), (padding.len() as u16).to_le_bytes()].concat());
            bytes.extend(name.as_bytes());
            bytes.extend(padding);
            bytes.extend(*data);
            directory.extend(b"PK\x01\x02\0\0\0\0");
            directory.extend([flags.to_le_bytes(), method.to_le_bytes()].concat());
            directory.extend([0; 8]);
            let (small, place) = if wide { (u32::MAX, u32::MAX) } else { (size as u32, header as u32) };
            directory.extend([small.to_le_bytes(), small.to_le_bytes()].concat());
            let extra: Vec<u8> = if wide {
                let fields = [size, size, header].map(u64::to_le_bytes).concat();
                [&[9, 0, 2, 0, 7, 7, 1, 0, 24, 0][..], &fields].concat()
            } else {
                Vec::new()
            };
            directory
                .extend([(name.len() as u16).to_le_bytes(), (extra.len() as u16).to_le_bytes()].concat());
            directory.extend([0; 10]);
            directory.extend(place.to_le_bytes());
            directory.extend(name.as_bytes());
            directory.extend(extra);
        }
        let (start, size) = (bytes.len() as u64, directory.len() as u64);
        bytes.extend(&directory);
        if wide {
            let place = bytes.len() as u64;
            bytes.extend(b"PK\x06\x06");
            bytes.extend([0; 36]);
            bytes.extend([size.to_le_bytes(), start.to_le_bytes()].concat());
            bytes.extend(b"PK\x06\x07\0\0\0\0");
            bytes.extend(place.to_le_bytes());
            bytes.extend(1u32.to_le_bytes());
        }
        bytes.extend(b"PK\x05\x06\0\0\0\0\0\0\0\0");
        let at = |value: u64| if wide { u32::MAX } else { value as u32 };
        bytes.extend([at(size).to_le_bytes(), at(start).to_le_bytes()].concat());
        bytes.extend([0, 0]);
        (bytes, start)
    }

    fn read(bytes: &[u8]) -> Result<Vec<Record>> {
        let place = directory(bytes, 0)?.ok_or_else(|| refused("no directory"))?;
        records(&bytes[place.start as usize..place.end as usize], place.start)
    }

    #[test]
    fn both_widths_are_read_and_data_is_where_the_header_says() {
        for wide in [false, true] {
            let (bytes, _) = archive(&[("a/data.pkl", b"xyz"), ("a/data/0", b"12345678")], wide, 0, 0x808);
            let found = read(&bytes).unwrap();
            assert_eq!(
                found.iter().map(|r| (&*r.name, r.size)).collect::<Vec<_>>(),
                [("a/data.pkl", 3), ("a/data/0", 8)]
            );
            let header = &bytes[found[1].header as usize..];
            let data = before_data(header).unwrap();
            assert_eq!(&header[data..data + 8], b"12345678");
        }
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        let refusal = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert!(refusal(&archive(&[("a", b"x")], false, 8, 0).0).contains("compressed"));
        assert!(refusal(&archive(&[("a", b"x")], false, 0, 1).0).contains("encrypted"));
        assert!(refusal(&archive(&[("a", b"x"), ("a", b"y")], true, 0, 0).0).contains("twice"));
        assert!(
            refusal(b"no archive at all, but longer than any record at the end").contains("no directory")
        );
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        for wide in [false, true] {
            let (whole, start) = archive(&[("a/data.pkl", b"xyz"), ("a/data/0", b"1234")], wide, 0, 0);
            for at in start as usize..whole.len() {
                for value in [0, 1, 0x50, 0x7F, 0xFF] {
                    let mut bytes = whole.clone();
                    bytes[at] = value;
                    let _ = read(&bytes).map(|found| found.len());
                }
                let _ = read(&whole[..at]).map(|found| found.len());
            }
        }
    }
}
