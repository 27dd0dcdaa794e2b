//! Annotations in JSON beside a folder of pictures, as the published data sets come.

mod layouts;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{located, unreadable};
use super::{Dataset, Record, Texts};
use crate::image::{ImageOptions, decode};
use crate::{Error, ErrorKind, Result};

/// How a file of annotations is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// COCO's own `captions_*.json`: one record a picture, with all of its captions.
    CocoCaptions,
    /// `[{image, caption, image_id}]`, training: one record a caption.
    Caption,
    /// `[{image, caption: […]}]`, evaluation on COCO or Flickr30k: one record a picture.
    Captions,
    /// `[{sentence, label, images: [left, right]}]`, NLVR2.
    Statement,
    /// `[{question, question_id, image, answer: […], dataset}]`: one record a question. Of `vqa` each
    /// different answer weighs its share of all answers, of `vg` each weighs 0.2; the answers may be
    /// left out.
    Question,
    /// `[{image, img_id}]`, NoCaps: pictures without captions.
    Picture,
}

/// The records of a file of annotations.
#[derive(Debug)]
pub struct Annotations {
    file: PathBuf,
    layout: Layout,
    root: PathBuf,
    records: Vec<Entry>,
    images: ImageOptions,
}

/// A record without the pixels.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    key: String,
    /// Paths below the root.
    images: Vec<String>,
    texts: Texts,
}

impl Annotations {
    /// Reads the annotations in `file` about pictures below `root`; without a layout, the first entry
    /// says which it is.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file cannot be read; [`ErrorKind::BadOption`] when it is not laid out
    /// as expected, or empty. Pictures are looked for when they are asked for.
    pub fn open(file: &Path, root: &Path, layout: Option<Layout>, images: ImageOptions) -> Result<Self> {
        let text = fs::read(file).map_err(unreadable(file))?;
        let bad = |what: String| Error::new(ErrorKind::BadOption, format!("`{}`: {what}", file.display()));
        let layout = match layout {
            Some(layout) => layout,
            None => layouts::recognised(&text).ok_or_else(|| {
                bad("expected a list of annotations with an image, or COCO's images and annotations".into())
            })?,
        };
        let records = layouts::read(&text, layout)
            .map_err(|e| bad(format!("not laid out as {layout:?} annotations")).with_source(e))?;
        if records.is_empty() {
            return Err(bad("expected at least one annotation".into()));
        }
        Ok(Self { file: file.to_owned(), layout, root: root.to_owned(), records, images })
    }

    /// How the file is laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The texts of record `index`, without its pictures.
    ///
    /// # Panics
    /// When there is no such record.
    pub fn texts(&self, index: usize) -> &Texts {
        &self.records[index].texts
    }
}

impl Dataset for Annotations {
    fn len(&self) -> usize {
        self.records.len()
    }

    /// # Panics
    /// When there is no such record.
    fn get(&self, index: usize) -> Result<Record> {
        let Entry { key, images, texts } = &self.records[index];
        let read = |image: &String| {
            let path = self.root.join(image);
            let bytes = fs::read(&path).map_err(unreadable(&path))?;
            decode(&bytes, &self.images).map_err(located(format!("`{}`", path.display())))
        };
        let images = images.iter().map(read).collect::<Result<_>>()?;
        Ok(Record { key: key.clone(), images, texts: texts.clone() })
    }

    fn describe(&self) -> String {
        format!("{} {:?} annotations of `{}`", self.records.len(), self.layout, self.file.display())
    }
}

#[cfg(test)]
mod tests;
