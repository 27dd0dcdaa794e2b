//! A folder of pictures, with texts of the same names beside them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::{FileOptions, Part, assemble, located, unreadable};
use super::{Dataset, Record};
use crate::{Error, ErrorKind, Result};

/// The pictures of a folder and of the folders in it, sorted by their names.
///
/// The key of a record is its path in the folder without extension, and without the number of a
/// picture that is one of several (`KEY.0.png`). A record without texts is fine.
#[derive(Debug)]
pub struct PictureFolder {
    root: PathBuf,
    records: Vec<(String, BTreeMap<Part, PathBuf>)>,
    options: FileOptions,
}

impl PictureFolder {
    /// Lists a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be listed; [`ErrorKind::BadOption`] when it holds no picture,
    /// or two pictures of one name.
    pub fn open(root: &Path, options: FileOptions) -> Result<Self> {
        let mut records: BTreeMap<String, BTreeMap<Part, PathBuf>> = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(unreadable(&folder))? {
                let path = entry.map_err(unreadable(&folder))?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let Some((key, part)) = name(root, &path, &options) else { continue };
                if let Some(other) = records.entry(key).or_default().insert(part, path.clone()) {
                    let message =
                        format!("`{}` and `{}`: expected one of the two", path.display(), other.display());
                    return Err(Error::new(ErrorKind::BadOption, message));
                }
            }
        }
        let is_picture = |part: &Part| matches!(part, Part::Picture(_));
        records.retain(|_, files| files.keys().any(is_picture));
        if records.is_empty() {
            let message =
                format!("no pictures in `{}`: expected png, jpg, webp, gif or bmp files", root.display());
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        Ok(Self { root: root.to_owned(), records: records.into_iter().collect(), options })
    }
}

/// The key of a file and what it is; nothing for a file that is passed over.
fn name(root: &Path, path: &Path, options: &FileOptions) -> Option<(String, Part)> {
    let inside = path.strip_prefix(root).ok()?;
    // A name that is no Unicode cannot be a key, and hidden files are nobody's pictures.
    let file = inside.file_name()?.to_str().filter(|name| !name.starts_with('.'))?;
    let folder = inside.parent()?.to_str()?.replace('\\', "/");
    let (stem, kind) = file.rsplit_once('.')?;
    // "name.3.png", but not "version.2.txt".
    let numbered = stem.rsplit_once('.').and_then(|(stem, number)| {
        let part = Part::of(&format!("{number}.{kind}"), options)?;
        Some((stem, part))
    });
    let (stem, part) = match numbered {
        Some(found) => found,
        None => (stem, Part::of(kind, options)?),
    };
    let key = if folder.is_empty() { stem.to_owned() } else { format!("{folder}/{stem}") };
    Some((key, part))
}

impl Dataset for PictureFolder {
    fn len(&self) -> usize {
        self.records.len()
    }

    /// # Panics
    /// When there is no such record.
    fn get(&self, index: usize) -> Result<Record> {
        let (key, files) = &self.records[index];
        let read = |(part, path): (&Part, &PathBuf)| {
            fs::read(path).map(|bytes| (*part, bytes)).map_err(unreadable(path))
        };
        let files = files.iter().map(read).collect::<Result<_>>()?;
        assemble(key.clone(), files, &self.options)
            .map_err(located(format!("record `{key}` of `{}`", self.root.display())))
    }

    fn describe(&self) -> String {
        format!("{} records in the folder `{}`", self.records.len(), self.root.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};

    #[test]
    fn pictures_have_the_texts_of_their_names() {
        let root = std::env::temp_dir().join(format!("blip-folder-{}", std::process::id()));
        fs::create_dir_all(root.join("sub")).unwrap();
        let picture = |name: &str, level| {
            RgbImage::from_pixel(2, 2, Rgb([level; 3])).save(root.join(name)).unwrap();
        };
        let text = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
        picture("b.png", 1);
        text("b.txt", "a car");
        picture("sub/a.1.png", 3);
        picture("sub/a.0.png", 2);
        text("sub/a.json", r#"{"statements":[{"text":"both are gray","holds":true}]}"#);
        picture("v1.2 final.png", 4);
        picture(".hidden.png", 5);
        text("alone.txt", "nothing");
        text("torn.png", "no picture");
        let open = || PictureFolder::open(&root, FileOptions::default());

        let folder = open().unwrap();
        let keys: Vec<&str> = folder.records.iter().map(|(key, _)| &key[..]).collect();
        assert_eq!(keys, ["b", "sub/a", "torn", "v1.2 final"]);
        assert_eq!(folder.get(0).unwrap().texts.captions, ["a car"]);
        let pair = folder.get(1).unwrap();
        assert_eq!(pair.images.iter().map(|image| image[(0, 0)][0]).collect::<Vec<_>>(), [2, 3]);
        assert!(pair.texts.statements[0].holds);
        let error = folder.get(2).unwrap_err();
        assert!(error.code() == "bad-image" && error.message().contains("torn"), "{error}");
        assert!(folder.get(3).unwrap().texts.captions.is_empty());

        RgbImage::new(1, 1).save(root.join("b.bmp")).unwrap();
        assert_eq!(open().unwrap_err().code(), "bad-option");
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(open().unwrap_err().code(), "io");
        fs::create_dir_all(&root).unwrap();
        assert_eq!(open().unwrap_err().code(), "bad-option");
        fs::remove_dir_all(&root).unwrap();
    }
}
