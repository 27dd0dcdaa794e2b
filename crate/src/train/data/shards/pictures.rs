//! The pictures of a record as they lie in a shard: for a shard that is made of another one.

use std::fs::File;

use super::super::files::{Part, located, unreadable};
use super::{ShardSet, read};
use crate::{Error, ErrorKind, Result};

impl ShardSet {
    /// The pictures of record `index` as files, undecoded, as [`ShardWriter::add_files`](super::ShardWriter::add_files)
    /// takes them: an extension, behind a number where there are several, and bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when they cannot be read, [`ErrorKind::BadImage`] for a file that is no picture.
    ///
    /// # Panics
    /// When there is no such record.
    pub fn pictures(&self, index: usize) -> Result<Vec<(String, Vec<u8>)>> {
        let (shard, entry) = self.place(index);
        let pictures = || {
            let mut file = File::open(&shard.path).map_err(unreadable(&shard.path))?;
            let spans: Vec<_> = entry
                .files
                .iter()
                .filter_map(|span| match span.part {
                    Part::Picture(number) => Some((number, span)),
                    Part::Captions | Part::Texts => None,
                })
                .collect();
            let mut pictures = Vec::with_capacity(spans.len());
            for (number, span) in &spans {
                let bytes = read(&mut file, span.start, span.len, &shard.path)?;
                let format = image::guess_format(&bytes).map_err(|e| {
                    Error::new(ErrorKind::BadImage, "a file that is no picture").with_source(e)
                })?;
                let extension = format.extensions_str().first().copied().unwrap_or("png");
                let name = match spans.len() {
                    1 => extension.to_owned(),
                    _ => format!("{number}.{extension}"),
                };
                pictures.push((name, bytes));
            }
            Ok(pictures)
        };
        pictures().map_err(located(format!("record `{}` of `{}`", entry.key, shard.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::super::super::{FileOptions, Record, Texts};
    use super::super::{ShardSet, ShardWriter};

    #[test]
    fn pictures_can_be_put_into_another_shard_byte_for_byte() {
        let folder = std::env::temp_dir().join(format!("blip-shards-pictures-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let paths = ["one.tar", "other.tar"].map(|name| folder.join(name));
        let picture = |i| RgbImage::from_pixel(3, 2, Rgb([i, 0, 7]));
        let mut writer = ShardWriter::create(&paths[0]).unwrap();
        for (key, count) in [("a", 1), ("b", 2)] {
            let images = (0..count).map(picture).collect();
            writer.add(&Record { key: key.to_owned(), images, texts: Texts::default() }).unwrap();
        }
        writer.finish().unwrap();
        let set = |nth: usize| ShardSet::open(&paths[nth..=nth], FileOptions::default()).unwrap();
        let mut writer = ShardWriter::create(&paths[1]).unwrap();
        for index in 0..2 {
            let mut files = set(0).pictures(index).unwrap();
            files.push(("json".to_owned(), b"{}".to_vec()));
            writer.add_files(set(0).key(index), files).unwrap();
        }
        writer.finish().unwrap();
        assert!(std::fs::read(&paths[0]).unwrap() == std::fs::read(&paths[1]).unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
