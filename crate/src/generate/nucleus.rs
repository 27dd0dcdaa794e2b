//! Nucleus sampling: temperature, then top-k, then top-p, then a draw.
//!
//! Holtzman et al. 2020, arXiv 1904.09751; the order is that of both references.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;

use super::elementary::exp;

/// The filters, with buffers that are reused from token to token.
pub(super) struct Nucleus {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    order: Vec<u32>,
    kept: Vec<(u32, f64)>,
}

impl Nucleus {
    pub fn new(temperature: f64, top_k: usize, top_p: f64) -> Self {
        Self { temperature, top_k, top_p, order: Vec::new(), kept: Vec::new() }
    }

    /// Draws a token; `None` if every score is minus infinity.
    pub fn draw(&mut self, scores: &[f32], random: &mut ChaCha12Rng) -> Option<u32> {
        let kept = self.filter(scores);
        let mass: f64 = kept.iter().map(|(_, weight)| weight).sum();
        // 53 random bits: a uniform number in [0, 1) that every machine computes alike.
        let uniform = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut rest = uniform * mass;
        for &(token, weight) in kept {
            rest -= weight;
            if rest < 0.0 {
                return Some(token);
            }
        }
        // Only rounding leads here: the last token covers what the sum lost.
        kept.last().map(|(token, _)| *token)
    }

    /// The tokens that survive, best first, with weights proportional to their probabilities.
    ///
    /// Of equal scores the lower token counts as better, so exactly `top_k` survive the first filter.
    /// The second keeps the smallest set whose share of what the first left reaches `top_p`.
    pub fn filter(&mut self, scores: &[f32]) -> &[(u32, f64)] {
        self.kept.clear();
        self.order.clear();
        self.order.extend((0..scores.len() as u32).filter(|id| scores[*id as usize] > f32::NEG_INFINITY));
        let better =
            |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then_with(|| a.cmp(b));
        if (1..self.order.len()).contains(&self.top_k) {
            self.order.select_nth_unstable_by(self.top_k - 1, better);
            self.order.truncate(self.top_k);
        }
        self.order.sort_unstable_by(better);
        let Some(&first) = self.order.first() else {
            return &self.kept;
        };
        let max = f64::from(scores[first as usize]);
        let weight = |id: u32| exp((f64::from(scores[id as usize]) - max) / self.temperature);
        self.kept.extend(self.order.iter().map(|&id| (id, weight(id))));
        let threshold = self.top_p * self.kept.iter().map(|(_, weight)| weight).sum::<f64>();
        let mut before = 0.0;
        let nucleus = self.kept.iter().take_while(|(_, weight)| {
            let inside = before < threshold;
            before += weight;
            inside
        });
        let size = nucleus.count();
        self.kept.truncate(size);
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn ids(temperature: f64, top_k: usize, top_p: f64, probabilities: &[f32]) -> Vec<u32> {
        let scores: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        Nucleus::new(temperature, top_k, top_p).filter(&scores).iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn the_token_that_crosses_the_threshold_is_kept() {
        let p = [0.1, 0.5, 0.3, 0.1];
        assert_eq!(ids(1.0, 0, 0.45, &p), [1]);
        assert_eq!(ids(1.0, 0, 0.6, &p), [1, 2]);
        assert_eq!(ids(1.0, 0, 0.85, &p), [1, 2, 0]);
        assert_eq!(ids(1.0, 0, 1.0, &p), [1, 2, 0, 3]);
        assert_eq!(ids(1.0, 0, 1e-9, &p), [1], "at least one is kept");
    }

    #[test]
    fn top_k_comes_first_and_top_p_counts_shares_of_what_it_left() {
        let p = [0.4, 0.2, 0.1, 0.1, 0.1, 0.1];
        // Of all tokens 0.65 needs three; of the best two, 0.4/0.6 reaches it alone.
        assert_eq!(ids(1.0, 0, 0.65, &p), [0, 1, 2]);
        assert_eq!(ids(1.0, 2, 0.65, &p), [0]);
        assert_eq!(ids(1.0, 4, 1.0, &p), [0, 1, 2, 3], "ties at the edge: the lower id stays");
        assert_eq!(ids(1.0, 99, 1.0, &p).len(), 6, "more than there are keeps all");
    }

    #[test]
    fn temperature_acts_before_the_nucleus() {
        let p = [0.5, 0.25, 0.125, 0.125];
        assert_eq!(ids(1.0, 0, 0.7, &p), [0, 1]);
        assert_eq!(ids(0.5, 0, 0.7, &p), [0], "sharper: 0.25/0.34 reaches 0.7");
        assert_eq!(ids(4.0, 0, 0.7, &p), [0, 1, 2], "flatter");
    }

    #[test]
    fn frequencies_follow_the_filtered_distribution() {
        let scores = [0.4_f32, 0.3, 0.2, 0.1].map(f32::ln);
        let mut random = ChaCha12Rng::seed_from_u64(3);
        let mut nucleus = Nucleus::new(1.0, 0, 0.85);
        let mut counts = [0_u32; 4];
        for _ in 0..20_000 {
            counts[nucleus.draw(&scores, &mut random).unwrap() as usize] += 1;
        }
        assert_eq!(counts[3], 0);
        for (id, expected) in [4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0].into_iter().enumerate() {
            let share = f64::from(counts[id]) / 20_000.0;
            assert!((share - expected).abs() < 0.015, "token {id}: {share}, expected {expected}");
        }
    }

    #[test]
    fn only_minus_infinity_draws_nothing() {
        let mut random = ChaCha12Rng::seed_from_u64(0);
        assert_eq!(Nucleus::new(1.0, 50, 0.9).draw(&[f32::NEG_INFINITY; 3], &mut random), None);
    }
}
