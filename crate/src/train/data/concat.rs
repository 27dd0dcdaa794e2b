//! Several datasets as one.

use std::sync::Arc;

use super::{Dataset, Record};
use crate::{Error, ErrorKind, Result};

/// The records of several datasets one after the other, without weights, as the paper mixes its sets.
///
/// Keys get the number of their dataset in front, and so do picture ids: picture 5 of one dataset is
/// not picture 5 of another.
pub struct Concat {
    parts: Vec<Arc<dyn Dataset>>,
    /// Where each part ends.
    ends: Vec<usize>,
}

impl std::fmt::Debug for Concat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Concat({})", self.describe())
    }
}

impl Concat {
    /// One dataset of several.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when there are none.
    pub fn new(parts: Vec<Arc<dyn Dataset>>) -> Result<Self> {
        let mut end = 0;
        let ends = parts.iter().map(|part| {
            end += part.len();
            end
        });
        let ends: Vec<usize> = ends.collect();
        if end == 0 {
            return Err(Error::new(ErrorKind::BadOption, "no datasets to read: expected at least one"));
        }
        Ok(Self { parts, ends })
    }
}

/// A picture's number among those of all parts. The upper bits tell the parts apart; numbers that need
/// them, which hashes do, are mixed with the part, where two being equal is as unlikely as before.
fn image_id(part: usize, id: u64) -> u64 {
    const BITS: u32 = 48;
    if id >> BITS == 0 {
        (part as u64) << BITS | id
    } else {
        id ^ (part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl Dataset for Concat {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// # Panics
    /// When there is no such record.
    fn get(&self, index: usize) -> Result<Record> {
        let part = self.ends.partition_point(|&end| end <= index);
        let start = if part == 0 { 0 } else { self.ends[part - 1] };
        let mut record = self.parts[part].get(index - start)?;
        record.key = format!("{part}/{}", record.key);
        record.texts.image_id = record.texts.image_id.map(|id| image_id(part, id));
        Ok(record)
    }

    fn describe(&self) -> String {
        let parts: Vec<String> = self.parts.iter().map(|part| part.describe()).collect();
        parts.join(" + ")
    }

    fn pieces(&self) -> Vec<usize> {
        self.parts.iter().flat_map(|part| part.pieces()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Texts;
    use super::*;
    use std::collections::HashSet;

    struct Numbers(usize);

    impl Dataset for Numbers {
        fn len(&self) -> usize {
            self.0
        }

        fn get(&self, index: usize) -> Result<Record> {
            let texts = Texts { image_id: (index > 0).then_some(index as u64), ..Texts::default() };
            Ok(Record { key: index.to_string(), images: Vec::new(), texts })
        }

        fn describe(&self) -> String {
            format!("{} numbers", self.0)
        }
    }

    #[test]
    fn records_follow_each_other_with_keys_and_ids_of_their_own() {
        let concat = Concat::new(vec![Arc::new(Numbers(3)), Arc::new(Numbers(2000))]).unwrap();
        assert_eq!(concat.len(), 2003);
        assert_eq!(concat.describe(), "3 numbers + 2000 numbers");
        assert_eq!(concat.pieces(), [3, 1024, 976]);
        let records: Vec<Record> = (0..2003).map(|index| concat.get(index).unwrap()).collect();
        assert_eq!(records[2].key, "0/2");
        assert_eq!(records[3].key, "1/0");
        assert_eq!(records[3].texts.image_id, None);
        let ids: HashSet<Option<u64>> = records.iter().map(|record| record.texts.image_id).collect();
        assert_eq!(ids.len(), 2002, "all ids, and none");
        assert_eq!(Concat::new(Vec::new()).unwrap_err().code(), "bad-option");
    }

    #[test]
    fn the_ids_of_the_first_part_stay_what_they_are() {
        assert_eq!(image_id(0, 391_895), 391_895);
        assert_eq!(image_id(0, u64::MAX), u64::MAX);
        assert_ne!(image_id(1, u64::MAX), u64::MAX);
    }
}
