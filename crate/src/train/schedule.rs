//! Learning-rate schedules: pure functions of the step.

/// Linear warm-up to `peak`, a plateau, and a linear decay to zero over the last `decay` steps.
///
/// The plateau does not depend on `steps`, so a run can be prolonged as long as it is still on it.
pub fn warmup_plateau_decay(step: usize, steps: usize, warmup: usize, decay: usize, peak: f64) -> f64 {
    let rising = (step + 1) as f64 / warmup.max(1) as f64;
    let falling = steps.saturating_sub(step) as f64 / decay.max(1) as f64;
    peak * rising.min(falling).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_stays_and_falls_to_zero() {
        let at = |step| warmup_plateau_decay(step, 1000, 100, 200, 1e-3);
        for (step, expected) in
            [(0, 1e-5), (49, 5e-4), (99, 1e-3), (500, 1e-3), (800, 1e-3), (900, 5e-4), (1000, 0.0)]
        {
            assert!((at(step) - expected).abs() < 1e-12, "{step}: {}", at(step));
        }
    }
}
