//! The examples that a measure is taken on.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use crate::generate::Control;
use crate::tasks::{BATCH, Picture, Sampling, Session, frame_indices};
use crate::train::data::{Dataset, Record};
use crate::{Error, ErrorKind, Result};

/// Some examples of a dataset, one after another.
#[derive(Clone)]
pub struct Examples<'a> {
    dataset: &'a dyn Dataset,
    range: Range<usize>,
    frames: (usize, Sampling),
}

/// Frames of a clip that are looked at, as in the reference's retrieval.
pub const CLIP_FRAMES: usize = 8;

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
        let range = 0..limit.map_or(dataset.len(), |limit| limit.min(dataset.len()));
        Self { dataset, range, frames: (CLIP_FRAMES, Sampling::Even) }
    }

    /// The same examples; of a clip with more frames so many are looked at.
    #[must_use]
    pub fn with_frames(self, frames: usize, sampling: Sampling) -> Self {
        Self { frames: (frames, sampling), ..self }
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
        let size = size.unwrap_or(self.len()).max(1);
        let end = self.range.end;
        self.range
            .clone()
            .step_by(size)
            .map(|start| Self { range: start..(start + size).min(end), ..self.clone() })
            .collect()
    }

    /// Reads one, of a long clip the frames that are looked at; `None`, counted in `left`, when it cannot be
    /// read or `lacks` says what it has not.
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
            Ok(mut record) => match lacks(&record) {
                Some(reason) => {
                    left.add(reason);
                    None
                }
                None => {
                    let (frames, sampling) = self.frames;
                    if record.images.len() > frames && is_clip(&record) {
                        let all = std::mem::take(&mut record.images);
                        let seen = frame_indices(all.len(), frames, sampling);
                        record.images = seen.into_iter().map(|index| all[index].clone()).collect();
                    }
                    Some(record)
                }
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

/// Whether the pictures of a record are the frames of a clip: a statement is about two pictures.
fn is_clip(record: &Record) -> bool {
    record.images.len() > 1 && record.texts.statements.is_empty()
}

/// What a record lacks for a measure of pictures, or of clips that a model sees as one picture (paper §5.6).
pub(super) fn one_thing_seen(record: &Record) -> Option<&'static str> {
    if is_clip(record) { None } else { one_picture(record) }
}

/// Encodes what the records show: pictures side by side, clips one after another. Takes the pictures out.
///
/// # Errors
/// What the device fails with.
pub(super) async fn encode(session: &Session, records: &mut [Record]) -> Result<Vec<Picture>> {
    let shown: Vec<_> = records.iter_mut().map(|record| std::mem::take(&mut record.images)).collect();
    if shown.iter().all(|images| images.len() == 1) {
        return session.encode_many(&shown.into_iter().flatten().collect::<Vec<_>>()).await;
    }
    let mut encoded = Vec::with_capacity(shown.len());
    for frames in shown {
        encoded.push(session.encode_video(&frames).await?);
    }
    Ok(encoded)
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

    /// One record of so many frames, each of which has its number as its red.
    struct Clip(u8, Texts);

    impl Dataset for Clip {
        fn len(&self) -> usize {
            1
        }

        fn get(&self, _: usize) -> Result<Record> {
            let frame = |red| image::RgbImage::from_pixel(1, 1, image::Rgb([red, 0, 0]));
            Ok(Record {
                key: "clip".to_owned(),
                images: (0..self.0).map(frame).collect(),
                texts: self.1.clone(),
            })
        }

        fn describe(&self) -> String {
            "a clip".to_owned()
        }
    }

    #[test]
    fn of_a_long_clip_some_frames_are_looked_at_and_of_a_pair_both_pictures() {
        let frames = |dataset: &Clip, seen: usize, sampling| {
            let examples = Examples::new(dataset, None).with_frames(seen, sampling);
            let mut left = Left::default();
            let groups = examples.groups(Some(1));
            let record = groups[0].read(0, one_thing_seen, &mut left);
            record
                .map(|record| record.images.iter().map(|frame| frame.get_pixel(0, 0)[0]).collect::<Vec<_>>())
        };
        let clip = Clip(12, Texts::default());
        assert_eq!(frames(&clip, 4, Sampling::Even).unwrap(), [1, 4, 7, 10]);
        assert_eq!(frames(&clip, 4, Sampling::Orig).unwrap(), [0, 3, 6, 9]);
        assert_eq!(frames(&Clip(3, Texts::default()), 4, Sampling::Even).unwrap(), [0, 1, 2]);
        let statement = crate::train::data::Statement { text: "both are red".to_owned(), holds: true };
        let pair = Clip(2, Texts { statements: vec![statement], ..Texts::default() });
        assert_eq!(frames(&pair, 1, Sampling::Even), None);
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
