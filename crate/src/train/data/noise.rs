//! What the web says about a picture: true, poor, wrong or junk, with known truth.

use serde::{Deserialize, Serialize};

use super::{Dataset, Record, SceneDataset, Statement, Texts};
use crate::train::random::Random;
use crate::train::scenes::random::{Purpose, stream};
use crate::train::scenes::{Meaning, Plan, Split, World};
use crate::{Error, ErrorKind, Result};

/// How likely each kind of text is; what is left of one is the scene's own caption.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Noise {
    /// The caption of another scene.
    pub other: f64,
    /// One word of the caption is another: colour, noun, number, place or relation.
    pub swapped: f64,
    /// True, but words are left out: colours, the place, a side.
    pub poor: f64,
    /// A file name, a price, a date, or what stands on buttons.
    pub junk: f64,
}

impl Default for Noise {
    /// Half of the texts are false, a fifth is poor.
    fn default() -> Self {
        Self { other: 0.25, swapped: 0.15, poor: 0.2, junk: 0.1 }
    }
}

/// What was done to a caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseKind {
    /// Nothing.
    Kept,
    /// See [`Noise::other`].
    Other,
    /// See [`Noise::swapped`].
    Swapped,
    /// See [`Noise::poor`].
    Poor,
    /// See [`Noise::junk`].
    Junk,
}

/// What the web says about a scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebText {
    /// The text.
    pub text: String,
    /// Whether it is true of the scene.
    pub holds: bool,
    /// Where it comes from.
    pub kind: NoiseKind,
}

impl Noise {
    /// No noise at all.
    pub const NONE: Self = Self { other: 0.0, swapped: 0.0, poor: 0.0, junk: 0.0 };

    /// The share of texts that are the scene's own captions.
    pub fn clean(&self) -> f64 {
        1.0 - self.other - self.swapped - self.poor - self.junk
    }

    /// The same mixture of noise with another clean share, 0 to 1.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when the share is none, or there is no noise to make more of.
    pub fn with_clean(self, share: f64) -> Result<Self> {
        let noisy = 1.0 - self.clean();
        let scale = if share == 1.0 { 0.0 } else { (1.0 - share) / noisy };
        let [other, swapped, poor, junk] =
            [self.other, self.swapped, self.poor, self.junk].map(|probability| probability * scale);
        let scaled = Self { other, swapped, poor, junk };
        scaled.check()?;
        Ok(scaled)
    }

    /// # Errors
    /// [`ErrorKind::BadOption`] when these are no probabilities.
    fn check(&self) -> Result<()> {
        let all = [self.other, self.swapped, self.poor, self.junk];
        // Rounding may take a sum a little beyond one.
        if all.iter().all(|probability| (0.0..=1.0).contains(probability)) && self.clean() > -1e-9 {
            return Ok(());
        }
        let message = format!("{self:?}: expected probabilities that add up to at most 1");
        Err(Error::new(ErrorKind::BadOption, message))
    }

    /// What the web says about scene `index`: a function of the arguments alone.
    ///
    /// As with every text of the training split, none of a training scene names a held-out combination.
    pub fn text(&self, world: World, split: Split, seed: u64, index: u64) -> WebText {
        let mut random = stream(world, split, seed, index, Purpose::Web);
        let plan = world.plan(split, seed, index);
        let caption = plan.caption();
        let mut chance = random.unit();
        let mut falls_in = |probability: f64| {
            chance -= probability;
            chance < 0.0
        };
        let (kind, text) = if falls_in(self.other) {
            (NoiseKind::Other, other(world, split, &caption, &mut random))
        } else if falls_in(self.swapped) {
            let mut all = world.negatives(split, seed, index);
            // Every scene has things, which are of other colours and other things.
            (NoiseKind::Swapped, all.swap_remove(random.below(all.len())).text)
        } else if falls_in(self.poor) {
            (NoiseKind::Poor, poor(&plan, &mut random))
        } else if falls_in(self.junk) {
            (NoiseKind::Junk, junk(&mut random))
        } else {
            (NoiseKind::Kept, caption)
        };
        WebText { text, holds: matches!(kind, NoiseKind::Kept | NoiseKind::Poor), kind }
    }

    /// Every word and piece of a word that junk has and captions do not: for a vocabulary in which it
    /// can be spelled.
    pub fn words() -> Vec<String> {
        let digits = ('0'..='9').flat_map(|digit| [digit.to_string(), format!("##{digit}")]);
        let mut words: Vec<String> = JUNK_WORDS.split_whitespace().map(str::to_owned).chain(digits).collect();
        words.sort();
        words
    }
}

/// The caption of a scene that has another one.
fn other(world: World, split: Split, caption: &str, random: &mut Random) -> String {
    loop {
        let other = world.plan(split, random.bits(), random.bits()).caption();
        if other != caption {
            return other;
        }
    }
}

/// A true text that says less: everything without colours, or one thing with its colour or without.
fn poor(plan: &Plan, random: &mut Random) -> String {
    let [phrase, bare] = random.pick(&plan.phrases()).clone();
    match random.below(3) {
        // Of two or three equal things the phrase is the caption.
        0 if !matches!(plan.meaning, Meaning::Many(_)) => phrase,
        1 => bare,
        _ => plan.bare_caption(),
    }
}

const JUNK_WORDS: &str = "img dsc photo image jpg png _ . / - : $ # buy now free shipping click here to enlarge \
                          read more home page sale off download view all next share";

fn junk(random: &mut Random) -> String {
    let digits = |random: &mut Random, count: usize| -> String {
        (0..count).map(|_| char::from(b'0' + random.below(10) as u8)).collect()
    };
    match random.below(6) {
        0 => {
            let (start, end) = (*random.pick(&["img", "dsc", "photo"]), *random.pick(&["jpg", "png"]));
            format!("{start}_{}.{end}", digits(random, 4))
        }
        1 => format!("{}/{}/20{}", digits(random, 2), digits(random, 2), digits(random, 2)),
        2 => format!("${}.{} free shipping", digits(random, 2), digits(random, 2)),
        3 => format!("image {} - {}", digits(random, 3), random.pick(&["view all", "next", "share"])),
        4 => format!("sale: {} off - buy now", digits(random, 2)),
        _ => (*random.pick(&["click here to enlarge", "read more", "home page", "free download"])).to_owned(),
    }
}

/// Scenes with what the web says about them, as the noisy pairs that CapFilt starts from.
///
/// A record has the picture and one text, and its statement says whether the text is true, for whoever
/// counts; training does not look at it.
#[derive(Clone, Debug)]
pub struct WebScenes {
    scenes: SceneDataset,
    noise: Noise,
}

impl WebScenes {
    /// The same scenes with the web's texts.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when the noise is no set of probabilities, or these are pairs or clips.
    pub fn new(scenes: SceneDataset, noise: Noise) -> Result<Self> {
        noise.check()?;
        if !scenes.is_single() {
            return Err(Error::new(ErrorKind::BadOption, "the web describes single scenes only"));
        }
        Ok(Self { scenes, noise })
    }

    /// What the web says about record `index`, without drawing it.
    pub fn text(&self, index: usize) -> WebText {
        let (world, split, seed, index) = self.scenes.place(index);
        self.noise.text(world.world(), split, seed, index)
    }
}

impl Dataset for WebScenes {
    fn len(&self) -> usize {
        self.scenes.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let (world, split, seed, number) = self.scenes.place(index);
        let WebText { text, holds, .. } = self.text(index);
        let texts = Texts {
            image_id: Some(number),
            captions: vec![text.clone()],
            statements: vec![Statement { text, holds }],
            ..Texts::default()
        };
        let image = world.scene(split, seed, number).image;
        Ok(Record { key: format!("web-{number:08}"), images: vec![image], texts })
    }

    fn describe(&self) -> String {
        let Noise { other, swapped, poor, junk } = self.noise;
        let scenes = self.scenes.describe();
        format!("{scenes}, with noise (other {other}, swapped {swapped}, poor {poor}, junk {junk})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, HashSet};

    fn texts(world: World, noise: &Noise) -> Vec<(WebText, Plan)> {
        let one = |index| (noise.text(world, Split::Train, 3, index), world.plan(Split::Train, 3, index));
        (0..4000).map(one).collect()
    }

    #[test]
    fn every_kind_has_its_share_and_its_truth() {
        let noise = Noise::default();
        for world in [World::V0, World::V1] {
            let mut counts: BTreeMap<NoiseKind, usize> = BTreeMap::new();
            for (web, plan) in texts(world, &noise) {
                *counts.entry(web.kind).or_default() += 1;
                assert_eq!(web.holds, matches!(web.kind, NoiseKind::Kept | NoiseKind::Poor));
                let is_caption = web.text == plan.caption();
                assert_eq!(is_caption, web.kind == NoiseKind::Kept, "{web:?} of {}", plan.caption());
            }
            let shares = [noise.clean(), noise.other, noise.swapped, noise.poor, noise.junk];
            for (share, count) in shares.into_iter().zip(counts.values()) {
                assert!((share * 4000.0 - *count as f64).abs() < 120.0, "{counts:?}");
            }
        }
    }

    #[test]
    fn a_poor_text_has_no_word_that_the_caption_does_not_have() {
        let noise = Noise { poor: 1.0, ..Noise::NONE };
        for (web, plan) in texts(World::V1, &noise) {
            let caption = plan.caption();
            let words: HashSet<&str> = caption.split([' ', ',']).chain(["a", "an"]).collect();
            assert!(web.text.split([' ', ',']).all(|word| words.contains(word)), "{web:?} of {caption}");
            assert!(web.text.len() < caption.len());
        }
    }

    #[test]
    fn junk_is_spelled_with_the_listed_words() {
        let noise = Noise { junk: 1.0, ..Noise::NONE };
        let words = Noise::words();
        let splits = |c: char| c.is_ascii_punctuation();
        for (web, _) in texts(World::V0, &noise) {
            let spaced: String =
                web.text.chars().flat_map(|c| if splits(c) { vec![' ', c, ' '] } else { vec![c] }).collect();
            for word in spaced.split_whitespace() {
                let known = words.iter().any(|known| known == word);
                assert!(known || word.chars().all(|c| c.is_ascii_digit()), "{word:?} of {:?}", web.text);
            }
        }
    }

    #[test]
    fn the_clean_share_can_be_chosen() {
        let noise = Noise::default().with_clean(0.8).unwrap();
        assert!((noise.clean() - 0.8).abs() < 1e-12);
        assert!((noise.other / noise.junk - 2.5).abs() < 1e-9);
        assert_eq!(Noise::default().with_clean(1.0).unwrap(), Noise::NONE);
        assert_eq!(Noise::NONE.with_clean(1.0).unwrap(), Noise::NONE);
        for bad in [1.5, -0.5, f64::NAN] {
            assert_eq!(Noise::default().with_clean(bad).unwrap_err().code(), "bad-option");
        }
        assert_eq!(Noise::NONE.with_clean(0.5).unwrap_err().code(), "bad-option");
        let text = r#"{"other": 1.0, "swapped": 0.5}"#;
        assert_eq!(serde_json::from_str::<Noise>(text).unwrap().check().unwrap_err().code(), "bad-option");
    }

    #[test]
    fn no_text_of_the_training_split_names_what_is_held_out() {
        for world in [World::V0, World::V1] {
            let colours: Vec<String> = world.knowledge().held_out;
            let colours: Vec<&String> = colours.iter().filter(|name| name.split(' ').count() == 2).collect();
            for (web, _) in texts(world, &Noise { swapped: 0.5, other: 0.5, ..Noise::NONE }) {
                let named =
                    colours.iter().find(|name| web.text.split(" and ").any(|part| part.ends_with(**name)));
                assert_eq!(named, None, "{web:?}");
            }
        }
    }
}
