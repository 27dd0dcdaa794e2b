//! Finding texts for pictures and pictures for texts (paper §5.1, spec §5).

use std::collections::HashMap;

use serde::Serialize;

use super::examples::{Examples, Left, OnExample, encode, one_thing_seen};
use super::ranked::Ranked;
use crate::generate::Control;
use crate::tasks::{BATCH, Convention, Session, Task};
use crate::train::data::Record;
use crate::train::metrics::ranks::rank;
use crate::train::metrics::retrieval::{NOT_KEPT, candidates, transposed};
use crate::{Error, ErrorKind, Result};

/// How to measure retrieval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalOptions {
    /// ITM looks again at so many of the best by ITC, in each direction: 256 on COCO and 128 on Flickr30k in
    /// the reference. Without it, only ITC is measured.
    pub rerank: Option<usize>,
    /// Pictures and texts are sought among those of so many examples, group by group, instead of among all.
    pub among: Option<usize>,
    /// A text that is word by word that of another picture is right for both. The reference counts only a
    /// picture's own, which is another text of the same words.
    pub same_words: bool,
}

/// Both directions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Directions {
    /// Texts for a picture: the place of the best of its own (TR).
    pub to_text: Ranked,
    /// Pictures for a text (IR).
    pub to_image: Ranked,
    /// The mean of all six recalls, by which the reference chooses its best epoch.
    pub mean_recall: f64,
}

/// Retrieval.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetrievalReport {
    /// Pictures.
    pub pictures: usize,
    /// Texts.
    pub texts: usize,
    /// By the cosine of the two features.
    pub by_contrast: Directions,
    /// By ITM's logit plus the cosine, among the best by contrast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reranked: Option<Directions>,
    /// How it was measured.
    pub options: RetrievalOptions,
    /// Examples that were left out.
    pub left: Left,
}

/// Pictures and texts of a dataset.
struct Gathered {
    /// The example of each picture; records of one picture are one.
    pictures: Vec<usize>,
    texts: Vec<String>,
    /// The picture of each text.
    owners: Vec<usize>,
}

/// Measures retrieval in both directions among the pictures, or clips, and texts of the examples.
///
/// Pictures are encoded once for their features, and once more when ITM looks again, so that memory does
/// not grow with their tokens.
///
/// # Errors
/// [`ErrorKind::TaskUnsupported`] without the networks, [`ErrorKind::BadOption`] without a picture with a
/// text or for `rerank` or `among` of 0, [`ErrorKind::Aborted`] when told to stop, and what the device
/// fails with.
pub async fn retrieval(
    session: &Session,
    examples: &Examples<'_>,
    options: RetrievalOptions,
    on_example: OnExample<'_>,
) -> Result<RetrievalReport> {
    session.part(Task::Itc)?;
    if options.rerank.is_some() {
        session.part(Task::Itm)?;
    }
    for (name, value) in [("rerank", options.rerank), ("among", options.among)] {
        if value == Some(0) {
            return Err(Error::new(ErrorKind::BadOption, format!("option {name} is 0, expected at least 1")));
        }
    }
    let (mut contrast, mut reranked) = (Ranks::default(), Ranks::default());
    let (mut pictures, mut texts, mut left) = (0, 0, Left::default());
    for group in examples.groups(options.among) {
        let (gathered, cosines) = gather(session, &group, &mut left).await?;
        if !gathered.texts.is_empty() {
            pictures += gathered.pictures.len();
            texts += gathered.texts.len();
            let truth = Truth::new(&gathered.owners, &gathered.texts, options.same_words);
            contrast.add(&truth, &cosines, &cosines)?;
            if let Some(kept) = options.rerank {
                let [to_text, to_image] = rerank(session, &group, &gathered, &cosines, kept).await?;
                reranked.add(&truth, &to_text, &to_image)?;
            }
        }
        examples.tell(on_example, group.indices().end)?;
    }
    if texts == 0 {
        return Err(Error::new(ErrorKind::BadOption, "no example has a picture and a text"));
    }
    let by_contrast = contrast.directions()?;
    let reranked = options.rerank.map(|_| reranked.directions()).transpose()?;
    Ok(RetrievalReport { pictures, texts, by_contrast, reranked, options, left })
}

/// The ranks of the right ones, in both directions.
#[derive(Default)]
struct Ranks {
    to_text: Vec<usize>,
    to_image: Vec<usize>,
}

impl Ranks {
    /// Adds those of scores for each direction, both `[pictures, texts]`.
    fn add(&mut self, truth: &Truth, to_text: &[f32], to_image: &[f32]) -> Result<()> {
        let columns = truth.pictures.len();
        for (row, right) in to_text.chunks(columns.max(1)).zip(&truth.texts) {
            self.to_text.push(rank(row, right)?);
        }
        let rows = truth.texts.len();
        for (row, right) in transposed(to_image, columns).chunks(rows.max(1)).zip(&truth.pictures) {
            self.to_image.push(rank(row, right)?);
        }
        Ok(())
    }

    fn directions(&self) -> Result<Directions> {
        let (to_text, to_image) = (Ranked::of(&self.to_text)?, Ranked::of(&self.to_image)?);
        let mean_recall = f64::midpoint(to_text.summary.mean_recall, to_image.summary.mean_recall);
        Ok(Directions { to_text, to_image, mean_recall })
    }
}

/// What is right: the texts of each picture, and the pictures of each text.
struct Truth {
    texts: Vec<Vec<usize>>,
    pictures: Vec<Vec<usize>>,
}

impl Truth {
    fn new(owners: &[usize], texts: &[String], same_words: bool) -> Self {
        // By number, or by words: which texts are one.
        let mut groups: HashMap<&str, Vec<usize>> = HashMap::new();
        for (text, words) in texts.iter().enumerate() {
            groups.entry(words).or_default().push(text);
        }
        let mut own = vec![Vec::new(); owners.iter().max().map_or(0, |most| most + 1)];
        let pictures = texts.iter().enumerate().map(|(text, words)| {
            let alike = if same_words { groups[&**words].clone() } else { vec![text] };
            let mut pictures: Vec<usize> = alike.into_iter().map(|text| owners[text]).collect();
            pictures.sort_unstable();
            pictures.dedup();
            pictures.iter().for_each(|picture| own[*picture].push(text));
            pictures
        });
        let pictures = pictures.collect();
        Self { texts: own, pictures }
    }
}

/// The pictures and texts of a group, and their cosines, `[pictures, texts]`.
async fn gather(session: &Session, examples: &Examples<'_>, left: &mut Left) -> Result<(Gathered, Vec<f32>)> {
    let lacks =
        |record: &Record| one_thing_seen(record).or(record.texts.captions.is_empty().then_some("no caption"));
    let mut known: HashMap<u64, usize> = HashMap::new();
    let mut gathered = Gathered { pictures: Vec::new(), texts: Vec::new(), owners: Vec::new() };
    let mut features = Vec::new();
    for batch in examples.batches() {
        let mut new_ones = Vec::new();
        for index in batch {
            let Some(mut record) = examples.read(index, lacks, left) else { continue };
            let new = gathered.pictures.len();
            let picture = match record.texts.image_id {
                Some(id) => *known.entry(id).or_insert(new),
                None => new,
            };
            gathered.owners.extend(record.texts.captions.iter().map(|_| picture));
            gathered.texts.append(&mut record.texts.captions);
            if picture == new {
                gathered.pictures.push(index);
                new_ones.push(record);
            }
        }
        for picture in encode(session, &mut new_ones).await? {
            features.push(session.image_feature(&picture).await?);
        }
    }
    let mut on_step = |_: usize, _: usize| Control::Continue;
    let words = session.text_features(&gathered.texts, Convention::default(), &mut on_step).await?;
    let product = |picture: &Vec<f32>, text: &Vec<f32>| {
        picture.iter().zip(text).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
    };
    let cosines = features.iter().flat_map(|picture| words.iter().map(move |text| product(picture, text)));
    Ok((gathered, cosines.collect()))
}

/// The scores of both directions after a second look at the best of each, both as `[pictures, texts]`.
async fn rerank(
    session: &Session,
    examples: &Examples<'_>,
    Gathered { pictures, texts, .. }: &Gathered,
    cosines: &[f32],
    kept: usize,
) -> Result<[Vec<f32>; 2]> {
    let columns = texts.len();
    let mut for_text: Vec<Vec<usize>> = vec![Vec::new(); pictures.len()];
    for (text, row) in transposed(cosines, columns).chunks(pictures.len()).enumerate() {
        candidates(row, kept).into_iter().for_each(|picture| for_text[picture].push(text));
    }
    let mut scores = [vec![NOT_KEPT; cosines.len()], vec![NOT_KEPT; cosines.len()]];
    let mut left = Left::default();
    for start in (0..pictures.len()).step_by(BATCH) {
        let end = (start + BATCH).min(pictures.len());
        let mut records = Vec::new();
        for index in &pictures[start..end] {
            let record = examples.read(*index, one_thing_seen, &mut left);
            let changed = || Error::new(ErrorKind::Io, "an example cannot be read a second time");
            records.push(record.ok_or_else(changed)?);
        }
        for (picture, encoded) in (start..end).zip(encode(session, &mut records).await?) {
            let row = picture * columns..(picture + 1) * columns;
            let for_picture = candidates(&cosines[row.clone()], kept);
            // A pair that both directions ask about is looked at once.
            let mut wanted: Vec<usize> = [&for_picture[..], &for_text[picture]].concat();
            wanted.sort_unstable();
            wanted.dedup();
            let asked: Vec<String> = wanted.iter().map(|text| texts[*text].clone()).collect();
            let mut on_step = |_: usize, _: usize| Control::Continue;
            let logits = session.itm_logits(&encoded, &asked, Convention::default(), &mut on_step).await?;
            for (text, [_, yes]) in wanted.into_iter().zip(logits) {
                let place = row.start + text;
                for (scores, kept) in scores.iter_mut().zip([&for_picture, &for_text[picture]]) {
                    if kept.contains(&text) {
                        scores[place] = yes + cosines[place];
                    }
                }
            }
        }
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_are_right_for_both_where_that_is_asked_for() {
        let texts = ["a dog", "a cat", "a dog"].map(str::to_owned);
        let owners = [0, 1, 1];
        let own = Truth::new(&owners, &texts, false);
        assert_eq!(own.texts, [vec![0], vec![1, 2]]);
        assert_eq!(own.pictures, [vec![0], vec![1], vec![1]]);
        let same = Truth::new(&owners, &texts, true);
        assert_eq!(same.texts, [vec![0, 2], vec![0, 1, 2]]);
        assert_eq!(same.pictures, [vec![0, 1], vec![1], vec![0, 1]]);
        let scores = [0.1, 0.5, 0.9, 0.2, 0.8, 0.3];
        let mut ranks = Ranks::default();
        ranks.add(&same, &scores, &scores).unwrap();
        assert_eq!((ranks.to_text, ranks.to_image), (vec![1, 1], vec![1, 1, 1]));
        let mut ranks = Ranks::default();
        ranks.add(&own, &scores, &scores).unwrap();
        let directions = ranks.directions().unwrap();
        assert_eq!((ranks.to_text, ranks.to_image), (vec![3, 1], vec![2, 1, 2]));
        assert_eq!(directions.to_text.summary.recall, [50.0, 100.0, 100.0]);
    }
}
