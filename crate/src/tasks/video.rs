//! Which frames of a clip to look at (spec §6.3).

use serde::{Deserialize, Serialize};

/// How frames are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Sampling {
    /// The middles of as many equal stretches: the whole clip is seen.
    #[default]
    Even,
    /// As the original repository's retrieval: steps of `⌊n / frames⌋` from the first frame on. The end
    /// of the clip may be missed, and of a clip with too few frames only the first is seen.
    Orig,
}

/// Indices of `frames` of a clip's `n` frames, in order. Of a short clip some come several times; of an
/// empty one there are none.
pub fn frame_indices(n: usize, frames: usize, sampling: Sampling) -> Vec<usize> {
    if n == 0 || frames == 0 {
        return Vec::new();
    }
    let stretch = |i: usize| match sampling {
        // (i + 1/2)·n / frames, without rounding and without overflow for any real clip.
        Sampling::Even => ((2 * i as u128 + 1) * n as u128 / (2 * frames as u128)) as usize,
        Sampling::Orig => i * (n / frames),
    };
    (0..frames).map(stretch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_step_is_truncated_once() {
        assert_eq!(frame_indices(100, 8, Sampling::Orig), [0, 12, 24, 36, 48, 60, 72, 84]);
        assert_eq!(frame_indices(7, 8, Sampling::Orig), [0; 8]);
        assert_eq!(frame_indices(8, 8, Sampling::Orig), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(frame_indices(15, 8, Sampling::Orig), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn even_frames_are_the_middles_of_equal_stretches() {
        assert_eq!(frame_indices(100, 4, Sampling::Even), [12, 37, 62, 87]);
        assert_eq!(frame_indices(8, 8, Sampling::Even), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(frame_indices(3, 8, Sampling::Even), [0, 0, 0, 1, 1, 2, 2, 2]);
        assert_eq!(frame_indices(1, 4, Sampling::Even), [0; 4]);
        for sampling in [Sampling::Even, Sampling::Orig] {
            assert!(frame_indices(0, 8, sampling).is_empty() && frame_indices(8, 0, sampling).is_empty());
            for n in 1..200 {
                let indices = frame_indices(n, 16, sampling);
                assert!(indices.iter().all(|index| *index < n) && indices.is_sorted());
            }
        }
    }
}
