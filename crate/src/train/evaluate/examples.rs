//! The examples that a measure is taken on.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use crate::generate::Control;
use crate::tasks::BATCH;
use crate::train::data::{Dataset, Record};
use crate::{Error, ErrorKind, Result};

/// Some examples of a dataset, one after another.
#[derive(Clone)]
pub struct Examples<'a> {
    dataset: &'a dyn Dataset,
    range: Range<usize>,
}

impl std::fmt::Debug for Examples<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {}", self.range, self.dataset.describe())
    }
}

/// Told how many of how many examples are done; may cancel.
pub type OnExample<'a> = &'a mut dyn FnMut(usize, usize) -> Control;

/// Examples that a measure left out, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Left {
    /// How many, by reason.
    pub reasons: BTreeMap<String, usize>,
}

impl Left {
    /// One more.
    pub fn add(&mut self, reason: &str) {
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
    }

    /// All of them.
    pub fn count(&self) -> usize {
        self.reasons.values().sum()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl<'a> Examples<'a> {
    /// The first `limit` examples; all of them without one.
    pub fn new(dataset: &'a dyn Dataset, limit: Option<usize>) -> Self {
        Self { dataset, range: 0..limit.map_or(dataset.len(), |limit| limit.min(dataset.len())) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The same examples in groups of `size`, the last one as large as what is left; one group without a
    /// size.
    pub fn groups(&self, size: Option<usize>) -> Vec<Self> {
        let (dataset, size) = (self.dataset, size.unwrap_or(self.len()).max(1));
        let end = self.range.end;
        self.range
            .clone()
            .step_by(size)
            .map(|start| Self { dataset, range: start..(start + size).min(end) })
            .collect()
    }

    /// Reads one; `None`, counted in `left`, when it cannot be read or `lacks` says what it has not.
    pub fn read(
        &self,
        index: usize,
        lacks: impl Fn(&Record) -> Option<&'static str>,
        left: &mut Left,
    ) -> Option<Record> {
        match self.dataset.get(index) {
            Err(error) => {
                left.add(error.code());
                None
            }
            Ok(record) => match lacks(&record) {
                Some(reason) => {
                    left.add(reason);
                    None
                }
                None => Some(record),
            },
        }
    }

    /// The numbers of the examples in the dataset.
    pub fn indices(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Batches of at most [`BATCH`] of those numbers, in order: what a device encodes side by side.
    pub fn batches(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let end = self.range.end;
        self.range.clone().step_by(BATCH).map(move |start| start..(start + BATCH).min(end))
    }

    /// Tells that the examples before the one with this number are done.
    ///
    /// # Errors
    /// [`ErrorKind::Aborted`] when told to stop.
    pub(super) fn tell(&self, on_example: OnExample<'_>, next: usize) -> Result<()> {
        let (done, total) = (next - self.range.start, self.len());
        match on_example(done, total) {
            Control::Continue => Ok(()),
            Control::Cancel => {
                Err(Error::new(ErrorKind::Aborted, format!("stopped after {done} of {total} examples")))
            }
        }
    }
}

/// What a record of one picture lacks for a measure.
pub(super) fn one_picture(record: &Record) -> Option<&'static str> {
    match record.images.len() {
        1 => None,
        0 => Some("no picture"),
        _ => Some("several pictures"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::data::Texts;

    /// Records without anything; every third cannot be read.
    struct Numbers(usize);

    impl Dataset for Numbers {
        fn len(&self) -> usize {
            self.0
        }

        fn get(&self, index: usize) -> Result<Record> {
            if index % 3 == 2 {
                return Err(Error::new(ErrorKind::BadImage, "cut short"));
            }
            Ok(Record { key: index.to_string(), images: Vec::new(), texts: Texts::default() })
        }

        fn describe(&self) -> String {
            format!("{} numbers", self.0)
        }
    }

    #[test]
    fn examples_are_cut_into_batches_and_groups() {
        let numbers = Numbers(20);
        let examples = Examples::new(&numbers, Some(18));
        let batches: Vec<_> = examples.batches().collect();
        assert_eq!(batches, [0..8, 8..16, 16..18]);
        let groups = examples.groups(Some(10));
        assert_eq!(groups.iter().map(Examples::indices).collect::<Vec<_>>(), [0..10, 10..18]);
        assert_eq!(groups[1].batches().next(), Some(10..18));
        assert_eq!((examples.groups(None).len(), Examples::new(&numbers, None).len()), (1, 20));
        assert_eq!(format!("{:?}", groups[1]), "10..18 of 20 numbers");
        let error = groups[1].tell(&mut |_, _| Control::Cancel, 12).unwrap_err();
        assert!(error.code() == "aborted" && error.to_string().contains("2 of 8"));
    }

    #[test]
    fn what_is_left_out_is_counted_by_reason() {
        let numbers = Numbers(6);
        let examples = Examples::new(&numbers, None);
        let mut left = Left::default();
        let odd = |record: &Record| (record.key == "1").then_some("odd");
        let read = examples.indices().filter_map(|index| examples.read(index, odd, &mut left)).count();
        assert_eq!((read, left.count(), left.is_empty()), (3, 3, false));
        assert_eq!(serde_json::to_string(&left).unwrap(), r#"{"bad-image":2,"odd":1}"#);
        assert!(examples.read(0, one_picture, &mut left).is_none());
    }
}
