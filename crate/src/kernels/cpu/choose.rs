//! Choosing tokens from logits. NaN counts as -∞ everywhere.

use super::super::contract::{AdvanceSpec, state};
use super::exp::{exp2, greatest};
use super::isa::{Isa, Kernel, Level, dispatch_at};

/// The greatest `k` that [`top_k`] takes.
const MOST: usize = 32;
/// Logits that are looked at as one: where none of them is among the best, none is looked at alone.
const CHUNK: usize = 64;

/// The `k` highest logits of each row of `vocab`, their ids as floats, and the row's log-sum-exp:
/// `[rows, 2·k + 1]`; see [`Kernels::top_k`](super::super::Kernels::top_k). Of what a vocabulary
/// smaller than `k` lacks, the value is -∞ and the id 0.
///
/// # Panics
/// When `k` is above 32.
pub fn top_k(logits: &[f32], vocab: usize, k: usize) -> Vec<f32> {
    top_k_at(Level::best(), logits, vocab, k)
}

/// One greedy step over `logits: [rows, vocab]`: rewrites the decoding state and the history's entry
/// `[rows, 2]` of the present position; see [`Kernels::advance`](super::super::Kernels::advance). A
/// row without any finite logit gets token 0 with log-probability -∞.
pub fn advance(logits: &[f32], now: &mut [i32], entry: &mut [i32], spec: &AdvanceSpec) {
    advance_at(Level::best(), logits, now, entry, spec);
}

fn top_k_at(level: Level, logits: &[f32], vocab: usize, k: usize) -> Vec<f32> {
    assert!(k <= MOST, "{k} candidates, of at most {MOST}");
    let mut out = Vec::with_capacity(logits.len() / vocab * (2 * k + 1));
    for logits in logits.chunks_exact(vocab) {
        let (best, log_sum) = dispatch_at(level, Look { logits, k });
        out.extend((0..k).map(|i| best.get(i).map_or(f32::NEG_INFINITY, |(value, _)| value)));
        out.extend((0..k).map(|i| best.get(i).map_or(0.0, |(_, id)| id as f32)));
        out.push(log_sum);
    }
    out
}

fn advance_at(level: Level, logits: &[f32], now: &mut [i32], entry: &mut [i32], spec: &AdvanceSpec) {
    let eos = spec.eos.cast_signed();
    // The state's tokens are about to stand at the position, so one more than it do by now.
    let banned = now[state::POSITION] as usize + 1 < spec.min_length;
    let (tokens, finished) = now[state::TOKENS..].split_at_mut(spec.rows);
    let rows = tokens.iter_mut().zip(finished).zip(entry.chunks_exact_mut(2));
    for (((token, finished), entry), logits) in rows.zip(logits.chunks_exact(spec.vocab)) {
        let log_prob;
        if *finished != 0 {
            (*token, log_prob) = (eos, 0.0);
        } else {
            // Two, in case the first is the banned one.
            let (best, log_sum) = dispatch_at(level, Look { logits, k: 2 });
            let chosen =
                (0..2).filter_map(|i| best.get(i)).find(|(_, id)| !(banned && *id == spec.eos as usize));
            (*token, log_prob) = match chosen {
                Some((value, id)) if value > f32::NEG_INFINITY => (id as i32, value - log_sum),
                _ => (0, f32::NEG_INFINITY),
            };
        }
        *finished = i32::from(*finished != 0 || *token == eos);
        entry.copy_from_slice(&[*token, log_prob.to_bits().cast_signed()]);
    }
    now[state::POSITION] += 1;
}

/// The best of a row so far, highest first, of equals the lower id.
struct Best {
    entries: [(f32, usize); MOST],
    len: usize,
    k: usize,
}

impl Best {
    #[inline(always)]
    fn get(&self, index: usize) -> Option<(f32, usize)> {
        self.entries[..self.len].get(index).copied()
    }

    /// What a later logit must exceed to be among the best; anything will do while there is room.
    #[inline(always)]
    fn bar(&self) -> Option<f32> {
        if self.len < self.k { None } else { self.entries[..self.k].last().map(|(value, _)| *value) }
    }

    /// Ids must come in ascending order.
    fn offer(&mut self, value: f32, id: usize) {
        let value = if value.is_nan() { f32::NEG_INFINITY } else { value };
        if self.bar().is_some_and(|bar| value <= bar) {
            return;
        }
        let place = self.entries[..self.len].partition_point(|(other, _)| *other >= value);
        self.len = (self.len + 1).min(self.k);
        self.entries[place..self.len].rotate_right(1);
        self.entries[place] = (value, id);
    }
}

/// One pass for the best, one for the log-sum-exp.
struct Look<'a> {
    logits: &'a [f32],
    k: usize,
}

impl Kernel for Look<'_> {
    type Output = (Best, f32);

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> (Best, f32) {
        let Self { logits, k } = self;
        let mut best = Best { entries: [(f32::NEG_INFINITY, 0); MOST], len: 0, k };
        let mut top = f32::NEG_INFINITY;
        for (chunk, values) in logits.chunks(CHUNK).enumerate() {
            let highest = greatest(simd, values);
            top = top.max(highest);
            if k > 0 && best.bar().is_none_or(|bar| highest > bar) {
                for (i, value) in values.iter().enumerate() {
                    best.offer(*value, chunk * CHUNK + i);
                }
            }
        }
        (best, log_sum_exp(simd, logits, top))
    }
}

/// `ln Σ eˣ`, where `top` is the greatest x; -∞ when that is, for every term is held above zero.
#[inline(always)]
fn log_sum_exp<S: Isa>(simd: S, x: &[f32], top: f32) -> f32 {
    /// Terms summed in single precision.
    const RUN: usize = 1024;
    let top_lanes = simd.splat(top);
    let mut total = 0.0f64;
    for run in x.chunks(RUN) {
        let mut sum = simd.zero();
        let mut vectors = run.chunks_exact(S::LANES);
        for x in &mut vectors {
            sum = simd.add(sum, exp(simd, simd.sub(simd.load(x), top_lanes)));
        }
        let rest = vectors.remainder();
        if !rest.is_empty() {
            let x = simd.load_part(rest, f32::NEG_INFINITY);
            sum = simd.add(sum, exp(simd, simd.sub(x, top_lanes)));
        }
        total += f64::from(simd.sum(sum));
    }
    (f64::from(top) + total.ln()) as f32
}

/// `eˣ` for x ≤ 0.
#[inline(always)]
fn exp<S: Isa>(simd: S, x: S::F) -> S::F {
    exp2(simd, simd.mul(x, simd.splat(std::f32::consts::LOG2_E)))
}

#[cfg(test)]
mod tests {
    use super::super::samples::Samples;
    use super::*;

    /// Values, ids and log-sum-exp of one row, by sorting.
    fn sorted(logits: &[f32]) -> (Vec<(f32, usize)>, f64) {
        let clean = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
        let mut all: Vec<(f32, usize)> = logits.iter().enumerate().map(|(id, x)| (clean(*x), id)).collect();
        let top = all.iter().map(|(x, _)| f64::from(*x)).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = all.iter().map(|(x, _)| (f64::from(*x) - top).exp()).sum();
        // The sort is stable: equals stay in the order of their ids.
        all.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap());
        (all, if top == f64::NEG_INFINITY { top } else { top + sum.ln() })
    }

    fn assert_top_k(logits: &[f32], vocab: usize, k: usize) {
        for level in Level::available() {
            let out = top_k_at(level, logits, vocab, k);
            assert_eq!(out.len(), logits.len() / vocab * (2 * k + 1));
            for (out, logits) in out.chunks_exact(2 * k + 1).zip(logits.chunks_exact(vocab)) {
                let (mut best, log_sum) = sorted(logits);
                best.resize(best.len().max(k), (f32::NEG_INFINITY, 0));
                let values: Vec<f32> = best[..k].iter().map(|(value, _)| *value).collect();
                let ids: Vec<f32> = best[..k].iter().map(|(_, id)| *id as f32).collect();
                assert_eq!(out[..k], values, "{level:?} {vocab} {k}");
                assert_eq!(out[k..2 * k], ids, "{level:?} {vocab} {k}");
                let got = f64::from(out[2 * k]);
                assert!(got == log_sum || (got - log_sum).abs() < 3e-6, "{level:?} {got} {log_sum}");
            }
        }
    }

    #[test]
    fn the_best_are_those_of_a_sort() {
        let mut samples = Samples::new(3);
        for vocab in [1, 2, 31, 64, 65, 1000, 30_524] {
            for k in [0, 1, 3, 6, 32] {
                let rows = if vocab > 10_000 { 2 } else { 3 };
                assert_top_k(&samples.floats(rows * vocab), vocab, k);
            }
        }
    }

    #[test]
    fn of_equal_logits_the_lower_id_comes_first() {
        let mut samples = Samples::new(4);
        assert_top_k(&[1.5; 300], 100, 32);
        // Few different values, so that ties fall on the bar.
        let few: Vec<f32> = (0..5000).map(|_| samples.index(4) as f32).collect();
        assert_top_k(&few, 5000, 32);
        assert_top_k(&few, 1000, 5);
    }

    #[test]
    fn no_number_and_nothing_at_all_are_the_least() {
        let mut samples = Samples::new(5);
        let mut logits = samples.floats(400);
        logits.iter_mut().step_by(5).for_each(|x| *x = f32::NAN);
        logits.iter_mut().skip(1).step_by(5).for_each(|x| *x = f32::NEG_INFINITY);
        assert_top_k(&logits, 200, 32);
        assert_top_k(&[f32::NAN, f32::NEG_INFINITY, f32::NAN, 0.5], 4, 4);
        assert_top_k(&[f32::NAN; 70], 70, 3);
        assert_top_k(&[f32::NEG_INFINITY; 70], 70, 3);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        assert_top_k(&[1e30, -1e30, 88.0, 3e38], 4, 2);
        assert_top_k(&[-1e30, -1.1e30], 2, 2);
    }

    const SPEC: AdvanceSpec = AdvanceSpec { rows: 3, vocab: 70, eos: 7, min_length: 0, capacity: 20 };

    /// State of three rows at `position` after one step with `logits`, and the history's entry.
    fn advanced(
        level: Level,
        logits: &[f32],
        position: i32,
        finished: [i32; 3],
        spec: AdvanceSpec,
    ) -> (Vec<i32>, Vec<i32>) {
        let mut now = vec![position, 0, 0, 0, 11, 12, 13];
        now.extend(finished);
        let mut entry = vec![-1; 6];
        advance_at(level, logits, &mut now, &mut entry, &spec);
        (now, entry)
    }

    #[test]
    fn a_step_takes_the_highest_logit_and_its_probability() {
        let mut samples = Samples::new(6);
        for level in Level::available() {
            for _ in 0..20 {
                let mut logits = samples.floats(3 * 70);
                let best = [samples.index(70), samples.index(70), 7];
                for (row, best) in best.iter().enumerate() {
                    logits[row * 70 + best] = 3.0;
                }
                let (now, entry) = advanced(level, &logits, 5, [0; 3], SPEC);
                assert_eq!(now[..4], [6, 0, 0, 0]);
                for (row, best) in best.into_iter().enumerate() {
                    assert_eq!([now[4 + row], entry[2 * row]], [best as i32; 2], "{level:?}");
                    assert_eq!(now[7 + row], i32::from(best == 7));
                    let exact = 3.0 - sorted(&logits[row * 70..][..70]).1;
                    let got = f32::from_bits(entry[2 * row + 1].cast_unsigned());
                    assert!((f64::from(got) - exact).abs() < 3e-6, "{level:?} {got} {exact}");
                }
            }
        }
    }

    #[test]
    fn a_finished_row_repeats_the_end() {
        let logits = Samples::new(7).floats(3 * 70);
        for level in Level::available() {
            let (now, entry) = advanced(level, &logits, 5, [0, 1, 0], SPEC);
            assert_eq!([now[5], now[8]], [7, 1]);
            assert_eq!(entry[2..4], [7, 0], "the bits of 0.0");
            assert_ne!(entry[0], 7, "the rows beside it go on");
        }
    }

    #[test]
    fn the_end_is_not_chosen_too_early() {
        let mut logits = Samples::new(8).floats(3 * 70);
        for row in 0..3 {
            logits[row * 70 + 7] = 9.0;
            logits[row * 70 + 20 + row] = 5.0;
        }
        let spec = AdvanceSpec { min_length: 7, ..SPEC };
        for level in Level::available() {
            let (now, entry) = advanced(level, &logits, 5, [0; 3], spec);
            assert_eq!(now[4..], [20, 21, 22, 0, 0, 0], "six tokens stand, seven are wanted");
            let got = f32::from_bits(entry[1].cast_unsigned());
            let exact = 5.0 - sorted(&logits[..70]).1;
            assert!((f64::from(got) - exact).abs() < 3e-6, "the banned token keeps its share");
            let (now, _) = advanced(level, &logits, 6, [0; 3], spec);
            assert_eq!(now[4..], [7, 7, 7, 1, 1, 1]);
        }
    }

    #[test]
    fn equal_logits_choose_the_lowest_id_and_nothing_chooses_zero() {
        for level in Level::available() {
            let (now, entry) = advanced(level, &[0.25; 210], 0, [0; 3], SPEC);
            assert_eq!(now[4..7], [0; 3]);
            let got = f32::from_bits(entry[1].cast_unsigned());
            assert!((got + 70f32.ln()).abs() < 1e-5);
            for nothing in [f32::NAN, f32::NEG_INFINITY] {
                let (now, entry) = advanced(level, &[nothing; 210], 0, [0; 3], SPEC);
                assert_eq!(now[4..7], [0; 3]);
                assert_eq!(f32::from_bits(entry[1].cast_unsigned()), f32::NEG_INFINITY);
            }
        }
    }
}
