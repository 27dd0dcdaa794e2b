//! What lies where in a checkpoint that is somewhere else: asks for the few ranges of its bytes that say
//! so, and never for its tensors.
//!
//! Whoever has the file, a disk or a server, is told what is [wanted](Survey::wants) and
//! [gives](Survey::give) it. A safetensors file says everything at its beginning; what `torch.save` writes
//! is an archive, whose directory is at its end and whose pickle is anywhere.

use std::collections::HashMap;
use std::ops::Range;

use super::archive::{self, FAR_END, LOCAL, NEAR_END, Record, before_data};
use super::header::Header;
use super::keymap::{Meaning, meaning};
use super::pickle::{self, Pickled};
use super::plan::Entry;
use crate::{Error, ErrorKind, Result};

/// What is read of a safetensors file at first; a large model's header fits.
const BEGINNING: u64 = 160 << 10;
/// What is read beyond the header of an archive's entry at first: `torch.save` aligns data with padding.
const PADDING: u64 = 512;

/// Where the tensors of a file are.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// The tensors, each in one of the regions.
    pub tensors: Vec<Located>,
    /// Regions without overlaps, in the order of the file.
    pub regions: Vec<Region>,
}

/// A tensor and its bytes.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub entry: Entry,
    /// Index of its region.
    pub region: usize,
    /// Its bytes, from where the data of the region begins. Several tensors may share some.
    pub range: Range<u64>,
}

/// A part of a file that holds tensors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    /// Where it begins.
    pub start: u64,
    /// Whether an archive's header is in front of its data.
    pub has_header: bool,
    /// Bytes of data.
    pub size: u64,
    /// Where it must have ended.
    pub limit: u64,
}

/// A file that is being asked about.
#[derive(Debug)]
pub(super) struct Survey {
    total: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The beginning of a safetensors file, as far as is known how long it is.
    Header {
        wanted: u64,
    },
    /// So many last bytes of an archive.
    End {
        wanted: u64,
    },
    Directory(Range<u64>),
    /// An entry, as far as is known how much is in front of its data.
    Entry {
        wanted: Range<u64>,
        current: Entries,
        records: Vec<Record>,
        pickle: Vec<u8>,
    },
    Known(Layout),
    Failed,
}

/// The entries of an archive that are read whole.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Entries {
    Pickle(usize),
    /// Says `little`, where there is one.
    ByteOrder(usize),
}

impl Survey {
    /// Of a file of so many bytes; the name tells safetensors from what `torch.save` writes.
    pub fn new(name: &str, total: u64) -> Self {
        let stage = if name.ends_with(".safetensors") {
            Stage::Header { wanted: BEGINNING.min(total) }
        } else {
            Stage::End { wanted: NEAR_END.min(total) }
        };
        Self { total, stage }
    }

    /// The bytes that are needed next; nothing when all is known.
    pub fn wants(&self) -> Option<Range<u64>> {
        match &self.stage {
            Stage::Header { wanted } => Some(0..*wanted),
            Stage::End { wanted } => Some(self.total - wanted..self.total),
            Stage::Directory(range) => Some(range.clone()),
            Stage::Entry { wanted, .. } => Some(wanted.clone()),
            Stage::Known(_) | Stage::Failed => None,
        }
    }

    /// Takes the bytes that were wanted.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsFormat`] when they are not what such a file has there, and
    /// [`ErrorKind::Internal`] when nothing was wanted or the bytes are too few or too many.
    pub fn give(&mut self, bytes: &[u8]) -> Result<()> {
        let expected = self.wants().map(|range| range.end - range.start);
        let stage = std::mem::replace(&mut self.stage, Stage::Failed);
        if expected != Some(bytes.len() as u64) {
            let message = format!("weights: {} bytes were given, wanted were {expected:?}", bytes.len());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        self.stage = match stage {
            Stage::Header { .. } => self.header(bytes)?,
            Stage::End { wanted } => self.end(bytes, wanted)?,
            Stage::Directory(range) => self.directory(bytes, range.start)?,
            Stage::Entry { wanted, current, records, pickle } => {
                self.entry(bytes, wanted, current, records, pickle)?
            }
            Stage::Known(_) | Stage::Failed => Stage::Failed,
        };
        Ok(())
    }

    /// Where everything is, once nothing is wanted any more.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] before that.
    pub fn layout(self) -> Result<Layout> {
        match self.stage {
            Stage::Known(layout) => Ok(layout),
            _ => Err(Error::new(ErrorKind::Internal, "weights: the file was not looked at to its end")),
        }
    }

    fn header(&self, bytes: &[u8]) -> Result<Stage> {
        let wanted = 8 + Header::length(bytes)? as u64;
        if wanted > bytes.len() as u64 && wanted <= self.total {
            return Ok(Stage::Header { wanted });
        }
        let header = Header::parse(bytes)?;
        header.check_length(self.total)?;
        let start = header.tensors.first().map_or(self.total, |(_, range)| range.start);
        let region = Region { start, has_header: false, size: self.total - start, limit: self.total };
        let located = |(entry, range): (Entry, Range<u64>)| Located {
            entry,
            region: 0,
            range: range.start - start..range.end - start,
        };
        let tensors = header.tensors.into_iter().map(located).collect();
        Ok(Stage::Known(Layout { tensors, regions: vec![region] }))
    }

    fn end(&self, tail: &[u8], wanted: u64) -> Result<Stage> {
        let farthest = FAR_END.min(self.total);
        match archive::directory(tail, self.total - wanted)? {
            Some(range) => Ok(Stage::Directory(range)),
            None if wanted < farthest => Ok(Stage::End { wanted: farthest }),
            None => Err(archive::refused(
                "it has no directory (files written before PyTorch 1.6 have none, and are not read)",
            )),
        }
    }

    fn directory(&self, bytes: &[u8], start: u64) -> Result<Stage> {
        let records = archive::records(bytes, start)?;
        let is_pickle = |record: &Record| record.name.ends_with("/data.pkl");
        let index = records.iter().position(is_pickle);
        let index = index.ok_or_else(|| archive::refused("it has no `data.pkl`"))?;
        if records[index].size > pickle::LONGEST {
            return Err(archive::refused(format!("a pickle of {} bytes", records[index].size)));
        }
        Ok(self.read_entry(Entries::Pickle(index), records, Vec::new()))
    }

    /// Wants an entry and what is probably in front of it.
    fn read_entry(&self, current: Entries, records: Vec<Record>, pickle: Vec<u8>) -> Stage {
        let (Entries::Pickle(index) | Entries::ByteOrder(index)) = current;
        let Record { name, header, size } = &records[index];
        let end = header + LOCAL as u64 + name.len() as u64 + size + PADDING;
        Stage::Entry { wanted: *header..end.min(self.total), current, records, pickle }
    }

    fn entry(
        &self,
        bytes: &[u8],
        wanted: Range<u64>,
        current: Entries,
        records: Vec<Record>,
        pickle: Vec<u8>,
    ) -> Result<Stage> {
        let (Entries::Pickle(index) | Entries::ByteOrder(index)) = current;
        let start = before_data(bytes)?;
        let length = start + records[index].size as usize;
        let Some(data) = bytes.get(start..length) else {
            let end = wanted.start + length as u64;
            if end > self.total {
                return Err(archive::refused("an entry reaches beyond its end"));
            }
            return Ok(Stage::Entry { wanted: wanted.start..end, current, records, pickle });
        };
        if let Entries::ByteOrder(_) = current {
            if data != b"little" {
                return Err(archive::refused("its numbers are big-endian"));
            }
            return Ok(Stage::Known(layout(&records, &pickle, self.total)?));
        }
        let root = records[index].name.strip_suffix("data.pkl").unwrap_or_default();
        let order = format!("{root}byteorder");
        match records.iter().position(|record| record.name == order && record.size <= 16) {
            Some(index) => Ok(self.read_entry(Entries::ByteOrder(index), records, data.to_vec())),
            None => Ok(Stage::Known(layout(&records, data, self.total)?)),
        }
    }
}

/// Where the tensors of an archive are.
fn layout(records: &[Record], pickle: &[u8], total: u64) -> Result<Layout> {
    let by_name: HashMap<&str, usize> =
        records.iter().enumerate().map(|(index, record)| (&*record.name, index)).collect();
    let root = records.iter().find_map(|record| record.name.strip_suffix("data.pkl"));
    let root = root.unwrap_or_default();
    let mut found = Vec::new();
    for (name, tensor) in pickle::tensors(pickle)? {
        let path = format!("{root}data/{}", tensor.storage);
        let record = *by_name
            .get(&*path)
            .ok_or_else(|| archive::refused(format!("`{path}`, which holds `{name}`, is not in it")))?;
        if let Some(located) = locate(name, tensor, record, records[record].size)? {
            found.push(located);
        }
    }
    let mut used: Vec<usize> = found.iter().map(|located| located.region).collect();
    used.sort_unstable();
    used.dedup();
    let limit = |record: usize| records.get(record + 1).map_or(total, |next| next.header);
    let region = |record: &usize| Region {
        start: records[*record].header,
        has_header: true,
        size: records[*record].size,
        limit: limit(*record),
    };
    let regions = used.iter().map(region).collect();
    for located in &mut found {
        located.region = used.binary_search(&located.region).unwrap_or_default();
    }
    Ok(Layout { tensors: found, regions })
}

/// The place of a tensor in a storage of so many bytes; nothing for one that is not laid out plainly and
/// not needed either.
fn locate(name: String, tensor: Pickled, record: usize, stored: u64) -> Result<Option<Located>> {
    if !tensor.is_contiguous {
        if meaning(&name) == Meaning::Ignored {
            return Ok(None);
        }
        return Err(archive::refused(format!("`{name}` does not lie row by row")));
    }
    // The pickle has checked that the tensor lies in its storage.
    let bytes = |elements: u64| elements.checked_mul(tensor.size);
    let range = (bytes(tensor.elements) == Some(stored))
        .then(|| Some(bytes(tensor.offset)?..bytes(tensor.offset + tensor.len())?))
        .flatten();
    let range = range.ok_or_else(|| {
        archive::refused(format!(
            "the storage of `{name}` has {stored} bytes, expected {} elements of {}",
            tensor.elements, tensor.size
        ))
    })?;
    let entry = Entry { name, dtype: tensor.dtype, shape: tensor.shape };
    Ok(Some(Located { entry, region: record, range }))
}
