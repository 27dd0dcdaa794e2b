//! Galleries of a session's embeddings, and a second look at what is found in them.

use image::RgbImage;

use super::encode::BATCH;
use super::matching::{Convention, ItmScore, OnStep, step};
use super::part::Task;
use super::session::Session;
use crate::Result;
use crate::gallery::{Gallery, Hit};
use crate::generate::Control;

/// What a search found, after a second look.
#[derive(Clone, Debug, PartialEq)]
pub struct Reranked {
    /// The entry, and its cosine.
    pub hit: Hit,
    /// What the image-text matching head says, where it looked.
    pub itm: Option<ItmScore>,
}

impl Reranked {
    /// What it is ranked by: the logit of a match plus the cosine, as the reference evaluates (spec §5);
    /// where nobody looked, the cosine alone.
    pub fn score(&self) -> f32 {
        self.itm.map_or(0.0, |itm| itm.logit) + self.hit.score
    }
}

impl Session {
    /// An empty gallery for what [`image_feature`](Self::image_feature) returns.
    ///
    /// Its fingerprint tells the weights of image encoder and projection, as they are stored: a gallery
    /// goes with every device and with every model that has the two, and with no other.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`](crate::ErrorKind::TaskUnsupported) without a network for ITC.
    pub fn gallery(&self) -> Result<Gallery> {
        let part = self.part(Task::Itc)?;
        let [vision, projections] = part.fingerprints;
        Gallery::new(part.config.image_text_hidden_size, &vision.and(projections).to_string())
    }

    /// Looks again at the first `count` pictures that a search for a text found, with the image-text
    /// matching head. They come first, ordered by [`Reranked::score`]; the others follow as they were found.
    ///
    /// `open` gets the picture of an entry; one that it has none of is not looked at. A few pictures are
    /// held at a time. `on_step` is told how many pictures were looked at.
    ///
    /// # Errors
    /// [`TaskUnsupported`](crate::ErrorKind::TaskUnsupported) without a network for ITM,
    /// [`Aborted`](crate::ErrorKind::Aborted) when cancelled, what `open` fails with, and what the device
    /// fails with.
    pub async fn rerank(
        &self,
        text: &str,
        convention: Convention,
        hits: Vec<Hit>,
        count: usize,
        open: &mut dyn FnMut(&Hit) -> Result<Option<RgbImage>>,
        on_step: OnStep<'_>,
    ) -> Result<Vec<Reranked>> {
        self.part(Task::Itm)?;
        let texts = [text.to_owned()];
        let mut found: Vec<Reranked> = hits.into_iter().map(|hit| Reranked { hit, itm: None }).collect();
        let count = count.min(found.len());
        let (looked_at, mut done) = (&mut found[..count], 0);
        for batch in looked_at.chunks_mut(BATCH) {
            let (mut entries, mut images) = (Vec::new(), Vec::new());
            for entry in batch {
                if let Some(image) = open(&entry.hit)? {
                    entries.push(entry);
                    images.push(image);
                } else {
                    done += 1;
                }
            }
            let pictures = self.encode_for(&[Task::Itm], &images).await?;
            for (entry, picture) in entries.into_iter().zip(pictures) {
                let mut unheard = |_: usize, _: usize| Control::Continue;
                let logits = self.itm_logits(&picture, &texts, convention, &mut unheard).await?;
                entry.itm = logits.first().map(|logits| ItmScore::of(*logits));
                done += 1;
                step(on_step, done, count)?;
            }
        }
        // Stable: equal ones, and those that were not looked at, keep the order of the search.
        found.sort_by(|a, b| match (a.itm, b.itm) {
            (Some(_), Some(_)) => b.score().total_cmp(&a.score()),
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        Ok(found)
    }
}
