//! Pictures that a task draws: a folder of them for each picture that it was asked about.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use image::RgbImage;

use super::inputs::Input;

/// Where drawings go, if any are wanted.
#[derive(Debug)]
pub(crate) struct Drawings {
    folder: Option<PathBuf>,
}

impl Drawings {
    /// For these pictures.
    ///
    /// # Errors
    /// Where two of them would share a folder.
    pub fn open<'a>(folder: Option<&Path>, inputs: impl Iterator<Item = &'a Input>) -> Result<Self> {
        let drawings = Self { folder: folder.map(Path::to_owned) };
        let mut taken = HashSet::new();
        for path in inputs.filter_map(|input| drawings.place(input)) {
            if taken.contains(&path) {
                bail!("two pictures would be drawn into {}", path.display());
            }
            taken.insert(path);
        }
        Ok(drawings)
    }

    /// Whether there is nothing left to draw for a picture.
    pub fn has(&self, input: &Input) -> bool {
        self.place(input).is_none_or(|place| place.is_dir())
    }

    /// Writes the drawings of a picture, all of them or none.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, input: &Input, drawings: &[(String, RgbImage)]) -> Result<()> {
        let Some(place) = self.place(input).filter(|_| !drawings.is_empty()) else { return Ok(()) };
        let write = || -> Result<()> {
            let unfinished = place.with_extension("part");
            for folder in [&unfinished, &place] {
                if folder.is_dir() {
                    std::fs::remove_dir_all(folder)?;
                }
            }
            std::fs::create_dir_all(&unfinished)?;
            for (name, drawing) in drawings {
                drawing.save(unfinished.join(file_name(name)))?;
            }
            Ok(std::fs::rename(&unfinished, &place)?)
        };
        write().with_context(|| format!("cannot write {}", place.display()))
    }

    /// Under the name that the picture has inside the folder that was named.
    fn place(&self, input: &Input) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(&input.relative).with_extension(""))
    }
}

/// A name that every file system takes.
fn file_name(name: &str) -> String {
    const LONGEST: usize = 60;
    let plain = |c: char| if c.is_alphanumeric() || c == '-' { c } else { '_' };
    name.chars().take(LONGEST).map(plain).collect::<String>() + ".png"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(path: &str, relative: &str) -> Input {
        Input { path: path.into(), relative: relative.into() }
    }

    #[test]
    fn pictures_of_one_name_are_refused_before_anything_is_drawn() {
        let inputs = [input("a/x.png", "x.png"), input("b/x.jpg", "x.jpg")];
        let error = Drawings::open(Some(Path::new("out")), inputs.iter()).unwrap_err();
        assert!(error.to_string().contains("two pictures"), "{error}");
        let none = Drawings::open(None, inputs.iter()).unwrap();
        assert!(none.has(&inputs[0]));
    }

    #[test]
    fn words_become_names_of_files() {
        assert_eq!(file_name("1-dog"), "1-dog.png");
        assert_eq!(file_name("2-../é?"), "2-___é_.png");
        assert!(file_name(&"x".repeat(1000)).len() < 100);
    }
}
