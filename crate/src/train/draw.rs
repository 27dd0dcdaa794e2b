//! Random numbers of training: a function of the seed, the purpose and the step, and of nothing else.
//!
//! There is no generator whose state would have to be kept: a run that is resumed at some step draws
//! what an unbroken run would have drawn there.

use super::random::Random;

/// What random numbers decide; each purpose has its own stream, so that one never moves another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Fresh parameters; the stream is the parameter's.
    Parameters = 0,
    /// What queues hold before the first features.
    Queues = 1,
    /// Which hard negatives are taken.
    Negatives = 2,
    /// Dropout and stochastic depth.
    Noise = 3,
    /// What is picked out of a record: a caption, a question, an order of images.
    Records = 4,
    /// The rows of words that the parent's vocabulary had not; the part is the word's number.
    Words = 5,
}

/// A stream of random numbers.
#[derive(Debug)]
pub struct Draw(Random);

/// What tells these streams apart from those of scenes, orders and records.
const STREAM: u64 = 0x7472_6169_6e00_0000;

impl Draw {
    /// The stream of (seed, purpose, step, part): `part` tells apart what happens in one step.
    pub fn new(seed: u64, purpose: Purpose, step: u64, part: u64) -> Self {
        Self(Random::keyed([seed, step, part, STREAM | purpose as u64]))
    }

    /// Uniform in `0..1`, with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.0.bits() >> 11) as f64 * 2f64.powi(-53)
    }

    /// Uniform in `0..n`; the bias of the multiplication, below `n / 2^64`, does not matter.
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        assert!(n > 0, "one of none");
        ((u128::from(self.0.bits()) * n as u128) >> 64) as usize
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.bits()
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.0.bits() >> 63 == 1
    }

    /// So many normal numbers with mean 0 and deviation 1.
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        let mut normals = Vec::with_capacity(count + 1);
        while normals.len() < count {
            // Box and Muller: two independent numbers out of a radius and an angle.
            let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
            let (sine, cosine) = (std::f64::consts::TAU * self.uniform()).sin_cos();
            normals.extend([(radius * cosine) as f32, (radius * sine) as f32]);
        }
        normals.truncate(count);
        normals
    }

    /// So many factors that keep a value with probability `1 − rate`: 0, or `1 / (1 − rate)`.
    pub fn kept(&mut self, count: usize, rate: f64) -> Vec<f32> {
        let (limit, factor) = ((rate * 2f64.powi(32)) as u64, (1.0 / (1.0 - rate)) as f32);
        let mut factors = Vec::with_capacity(count + 1);
        while factors.len() < count {
            let word = self.0.bits();
            for half in [word & 0xFFFF_FFFF, word >> 32] {
                factors.push(if half < limit { 0.0 } else { factor });
            }
        }
        factors.truncate(count);
        factors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_belongs_to_its_seed_purpose_step_and_part() {
        let first = |seed, purpose, step, part| Draw::new(seed, purpose, step, part).uniform();
        let one = first(1, Purpose::Negatives, 2, 3);
        assert_eq!(one, first(1, Purpose::Negatives, 2, 3));
        for other in [
            first(2, Purpose::Negatives, 2, 3),
            first(1, Purpose::Noise, 2, 3),
            first(1, Purpose::Negatives, 3, 3),
            first(1, Purpose::Negatives, 2, 4),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn numbers_have_the_moments_of_their_distribution() {
        let mut draw = Draw::new(7, Purpose::Parameters, 0, 0);
        let normals = draw.normals(40_001);
        assert_eq!(normals.len(), 40_001);
        let moment = |power: i32| {
            normals.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / normals.len() as f64
        };
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03 && (moment(4) - 3.0).abs() < 0.2);
        let kept = draw.kept(40_000, 0.1);
        let zeros = kept.iter().filter(|factor| **factor == 0.0).count();
        assert!((3_800..4_200).contains(&zeros), "{zeros}");
        assert!((kept.iter().sum::<f32>() / 40_000.0 - 1.0).abs() < 0.01);
        let mut counts = [0; 5];
        (0..5_000).for_each(|_| counts[draw.below(5)] += 1);
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }
}
