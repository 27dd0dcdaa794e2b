//! The steps of a greedy caption: launched at first, then recorded, then replayed.
//!
//! Nothing about a step depends on its position ([`crate::kernels::state`]), so one recording stands
//! for all that follow. A replay costs the host a fraction of a hundred launches.

use burn::tensor::{Int, Tensor};

#[cfg(feature = "wgpu")]
use crate::kernels::gpu::{Recorder, Recording};
use crate::model::KvCache;
use crate::{Error, ErrorKind, Result};

/// What the next step will be.
pub(super) enum Steps {
    /// The first of two that run as they are, after which the pools have all that a step needs.
    #[cfg(feature = "wgpu")]
    First,
    /// The second.
    #[cfg(feature = "wgpu")]
    Second(Recorder),
    /// The one that is recorded.
    #[cfg(feature = "wgpu")]
    Third(Recorder),
    /// All others.
    #[cfg(feature = "wgpu")]
    Later(Recording),
    /// Launched one by one.
    Plain,
}

impl Steps {
    /// Steps of which at least `before_reading` come before anything is read from the device: a
    /// recording is made of the first three or not at all, since nothing may be read meanwhile.
    pub fn new(before_reading: usize) -> Self {
        #[cfg(feature = "wgpu")]
        if before_reading > 3 {
            return Self::First;
        }
        let _ = before_reading;
        Self::Plain
    }

    /// Enqueues one step; `step` launches it and returns the history. `read` says that a reading
    /// follows at once: then the step is launched, because a replay would submit what is pending by
    /// itself, and a launch shares that submit with the reading.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] when a recorded step cannot be repeated.
    pub fn next(
        &mut self,
        cache: &mut KvCache,
        history: Tensor<3, Int>,
        read: bool,
        step: impl Fn(&mut KvCache, Tensor<3, Int>) -> Tensor<3, Int>,
    ) -> Result<Tensor<3, Int>> {
        let failed = |reason: String| {
            Error::new(ErrorKind::Gpu, "a recorded step could not be repeated").with_source(reason)
        };
        match std::mem::replace(self, Self::Plain) {
            #[cfg(feature = "wgpu")]
            Self::First => {
                // What cannot be recorded is launched, which gives the same tokens.
                *self = cache.recorder().map_or(Self::Plain, Self::Second);
                Ok(step(cache, history))
            }
            #[cfg(feature = "wgpu")]
            Self::Second(recorder) => {
                *self = Self::Third(recorder);
                Ok(step(cache, history))
            }
            #[cfg(feature = "wgpu")]
            Self::Third(recorder) => {
                // State and history are changed in place here: both names mean the same memory.
                let kept = history.clone();
                let recorded = recorder.record(|| {
                    step(cache, history);
                });
                match recorded {
                    Ok(recording) => {
                        recording.replay().map_err(failed)?;
                        *self = Self::Later(recording);
                        Ok(kept)
                    }
                    // Nothing of it ran, but it was counted.
                    Err(_) => {
                        cache.retreat();
                        Ok(step(cache, kept))
                    }
                }
            }
            #[cfg(feature = "wgpu")]
            Self::Later(recording) => {
                let history = if read {
                    step(cache, history)
                } else {
                    recording.replay().map_err(failed)?;
                    cache.advance();
                    history
                };
                *self = Self::Later(recording);
                Ok(history)
            }
            Self::Plain => Ok(step(cache, history)),
        }
    }
}
