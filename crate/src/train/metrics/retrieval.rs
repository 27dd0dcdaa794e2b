//! Retrieval between pictures and texts, as the original code evaluates it.
//!
//! Everything is scored by the cosine of its features (ITC); of each row the best are scored again by the
//! matching head (ITM), whose logit is added to the cosine, and the rest is out of the running.

use serde::Serialize;

use super::mean;
use super::ranks::{RankSummary, beats, rank};
use crate::{Error, ErrorKind, Result};

/// The score of what the matching head does not look at.
pub const NOT_KEPT: f32 = -100.0;

/// Both directions of a set of pictures and texts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retrieval {
    /// Texts for a picture: the rank of the best of its own (TR).
    pub to_text: RankSummary,
    /// Pictures for a text (IR).
    pub to_image: RankSummary,
    /// The mean of all six recalls, by which the original chooses its best epoch (`r_mean`).
    pub mean_recall: f64,
}

/// The `keep` best of a row of cosines, in descending order; of equal ones the earlier.
pub fn candidates(cosines: &[f32], keep: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..cosines.len()).collect();
    // Stable: equal scores stay in order.
    order.sort_by(|&a, &b| beats(cosines[a], cosines[b]).cmp(&beats(cosines[b], cosines[a])).reverse());
    order.truncate(keep);
    order
}

/// A row with the matching head's say: logit and cosine added where a candidate was kept, [`NOT_KEPT`]
/// elsewhere. The logit is that of a match, without softmax.
///
/// # Errors
/// `bad-option` when there are not as many logits as candidates, or a candidate is not in the row.
pub fn reranked(cosines: &[f32], kept: &[usize], match_logits: &[f32]) -> Result<Vec<f32>> {
    if kept.len() != match_logits.len() {
        let message =
            format!("metrics: {} matching logits for {} candidates", match_logits.len(), kept.len());
        return Err(Error::new(ErrorKind::BadOption, message));
    }
    let mut scores = vec![NOT_KEPT; cosines.len()];
    for (&index, &logit) in kept.iter().zip(match_logits) {
        let score = scores.get_mut(index).ok_or_else(|| {
            let message = format!("metrics: candidate {index} of a row of {} scores", cosines.len());
            Error::new(ErrorKind::BadOption, message)
        })?;
        *score = logit + cosines[index];
    }
    Ok(scores)
}

/// The texts of each picture, from the picture of each text.
///
/// # Errors
/// `bad-option` when a text belongs to none of the pictures, or a picture has no text.
pub fn texts_of_pictures(owners: &[usize], pictures: usize) -> Result<Vec<Vec<usize>>> {
    let mut texts = vec![Vec::new(); pictures];
    for (text, &owner) in owners.iter().enumerate() {
        let own = texts.get_mut(owner).ok_or_else(|| {
            let message = format!("metrics: text {text} belongs to picture {owner}, of {pictures}");
            Error::new(ErrorKind::BadOption, message)
        })?;
        own.push(text);
    }
    if let Some(picture) = texts.iter().position(Vec::is_empty) {
        return Err(Error::new(ErrorKind::BadOption, format!("metrics: picture {picture} has no text")));
    }
    Ok(texts)
}

/// The ranks of the right ones, row by row, and what they come to.
///
/// # Shapes
/// - scores: `[rows, columns]`, row-major; one list of right columns a row
///
/// # Errors
/// `bad-option` when the scores are no whole rows, a row has nothing right, or a column is not there.
pub fn directed(scores: &[f32], right: &[Vec<usize>]) -> Result<RankSummary> {
    let columns = scores.len() / right.len().max(1);
    if right.is_empty() || columns * right.len() != scores.len() {
        let message = format!("metrics: {} scores are no {} rows of equal length", scores.len(), right.len());
        return Err(Error::new(ErrorKind::BadOption, message));
    }
    let rows = scores.chunks(columns.max(1)).zip(right);
    let ranks = rows.map(|(row, right)| rank(row, right)).collect::<Result<Vec<_>>>()?;
    RankSummary::of(&ranks)
}

/// The other direction's matrix: `[rows, columns]` to `[columns, rows]`.
pub fn transposed(scores: &[f32], columns: usize) -> Vec<f32> {
    let column = |index| scores.iter().skip(index).step_by(columns.max(1)).copied();
    (0..columns).flat_map(column).collect()
}

impl Retrieval {
    /// Both directions, each from its own matrix; they are transposed to each other only without re-ranking.
    ///
    /// # Shapes
    /// - to_text: `[pictures, texts]`
    /// - to_image: `[texts, pictures]`
    /// - owners: the picture of each text
    ///
    /// # Errors
    /// As [`texts_of_pictures`] and [`directed`].
    pub fn of(to_text: &[f32], to_image: &[f32], owners: &[usize], pictures: usize) -> Result<Self> {
        let own: Vec<_> = owners.iter().map(|&owner| vec![owner]).collect();
        let to_text = directed(to_text, &texts_of_pictures(owners, pictures)?)?;
        let to_image = directed(to_image, &own)?;
        let mean_recall = mean(&[to_text.mean_recall, to_image.mean_recall]);
        Ok(Self { to_text, to_image, mean_recall })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_cosines_are_kept_in_order() {
        let row = [0.1, 0.5, f32::NAN, 0.5, 0.9];
        assert_eq!(candidates(&row, 3), [4, 1, 3]);
        assert_eq!(candidates(&row, 9), [4, 1, 3, 0, 2]);
        assert!(candidates(&[], 3).is_empty());
    }

    #[test]
    fn the_matching_head_decides_among_what_was_kept() {
        let row = [0.5, 0.25, 0.75];
        assert_eq!(reranked(&row, &[2, 0], &[-1.0, 2.0]).unwrap(), [2.5, NOT_KEPT, -0.25]);
        assert!(reranked(&row, &[2, 0], &[1.0]).is_err() && reranked(&row, &[3], &[1.0]).is_err());
    }

    #[test]
    fn both_directions_have_their_truths() {
        // Two pictures, three texts; the second text is of the second picture, which is ranked first for it.
        let to_text = [0.9, 0.1, 0.2, 0.8, 0.3, 0.1];
        let to_image = transposed(&to_text, 3);
        assert_eq!(to_image, [0.9, 0.8, 0.1, 0.3, 0.2, 0.1]);
        let retrieval = Retrieval::of(&to_text, &to_image, &[0, 1, 0], 2).unwrap();
        assert_eq!((retrieval.to_text.recall[0], retrieval.to_text.mean_rank), (50.0, 1.5));
        assert_eq!((retrieval.to_image.recall[0], retrieval.to_image.count), (100.0, 3));
        assert!((retrieval.mean_recall - (250.0 / 3.0 + 100.0) / 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_kept_wrong_one_stands_before_a_dropped_right_one() {
        let row = [0.9, 0.8, 0.1];
        let kept = candidates(&row, 2);
        let scores = reranked(&row, &kept, &[-9.0, -8.0]).unwrap();
        assert_eq!(directed(&scores, &[vec![2]]).unwrap().mean_rank, 3.0);
    }

    #[test]
    fn shapes_and_owners_are_checked() {
        for error in [
            directed(&[0.0; 5], &[vec![0], vec![0]]).unwrap_err(),
            directed(&[], &[vec![0]]).unwrap_err(),
            directed(&[0.0; 2], &[vec![]]).unwrap_err(),
            directed(&[], &[]).unwrap_err(),
            texts_of_pictures(&[0, 2], 2).unwrap_err(),
            texts_of_pictures(&[0, 0], 2).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::BadOption);
        }
    }
}
