//! Mixed precision: matrix products in halves, everything else in f32.
//!
//! The weights stay in f32. A pass works on a copy whose matrices were cast, and the cast is part of the
//! graph, so gradients arrive in f32 where the weights are. What is small would vanish in halves on the way
//! back; the loss is multiplied before and the gradients divided after. The factor is found as everybody
//! finds it: it halves whenever a gradient is too large for halves, that step is not taken, and it doubles
//! after a while without such a step.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::train::objectives::Learner;
use crate::{Error, ErrorKind, Result};

/// How a run multiplies matrices in halves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixed {
    /// Which halves.
    pub half: Half,
    /// The factor that the run begins with; bf16, which has the range of f32, needs none.
    #[serde(default = "one")]
    pub scale: f64,
    /// Steps in a row after which the factor doubles; never when it is 0.
    #[serde(default)]
    pub growth: usize,
}

fn one() -> f64 {
    1.0
}

/// A half-precision type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    /// IEEE half: WebGPU and Vulkan with `shader-f16`, CUDA.
    F16,
    /// bfloat16: CUDA.
    Bf16,
}

impl Half {
    fn dtype(self) -> DType {
        match self {
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// The factor of the loss between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// What the loss is multiplied by.
    pub factor: f64,
    /// Steps in a row that could be taken.
    pub taken: usize,
}

impl Mixed {
    /// The factor before the first step.
    pub(super) fn start(&self) -> Scale {
        Scale { factor: self.scale, taken: 0 }
    }

    /// The factor after a step that could be taken, or not.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the factor has become so small that something else is wrong.
    pub(super) fn next(&self, scale: Scale, was_taken: bool) -> Result<Scale> {
        const SMALLEST: f64 = 1.0 / 16_777_216.0;
        if !was_taken {
            let factor = scale.factor / 2.0;
            if factor < SMALLEST {
                let message = "gradients are too large for halves whatever the loss is divided by: \
                               lower the learning rate";
                return Err(Error::new(ErrorKind::Internal, message));
            }
            return Ok(Scale { factor, taken: 0 });
        }
        let taken = scale.taken + 1;
        Ok(match self.growth > 0 && taken == self.growth {
            true => Scale { factor: scale.factor * 2.0, taken: 0 },
            false => Scale { taken, ..scale },
        })
    }

    /// # Errors
    /// [`ErrorKind::BadOption`] for a factor that is none.
    pub(super) fn validate(&self) -> Result<()> {
        if self.scale.is_finite() && self.scale > 0.0 {
            return Ok(());
        }
        let message = format!("recipe: mixed.scale is {}, expected a number above 0", self.scale);
        Err(Error::new(ErrorKind::BadOption, message))
    }

    /// Whether a device multiplies such halves.
    ///
    /// # Errors
    /// [`ErrorKind::FeatureMissing`] when it does not; the CPU computes in f32 faster than in halves.
    pub(super) fn check_device(&self, device: &Device) -> Result<()> {
        let plain = device.clone().inner();
        #[cfg(feature = "flex")]
        let is_cpu = plain == Device::flex();
        #[cfg(not(feature = "flex"))]
        let is_cpu = false;
        if !is_cpu && plain.supports_dtype(self.half.dtype()) {
            return Ok(());
        }
        let message = format!("recipe: mixed: the device {plain:?} does not multiply in {:?}", self.half);
        Err(Error::new(ErrorKind::FeatureMissing, message))
    }

    /// A learner whose matrices are halves of the given one's, which stays the one that has gradients.
    pub(super) fn working_copy(&self, learner: &Learner) -> Learner {
        learner.clone().map(&mut Halves { dtype: self.half.dtype(), inside: Vec::new() })
    }
}

struct Halves {
    dtype: DType,
    /// The fields on the way to a parameter, each with the type it is a field of.
    inside: Vec<(String, String)>,
}

impl Halves {
    /// Matrices that things are multiplied by. Words are looked up, and the head of language modelling,
    /// which is tied to them, decides between them: they stay as they are, as do norms and positions.
    fn is_multiplied_by(&self) -> bool {
        let is_matrix = self.inside.last().is_some_and(|(_, of)| of == "Struct:Matrix");
        is_matrix && !self.inside.iter().any(|(name, _)| name == "word_embeddings")
    }
}

impl ModuleMapper for Halves {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.inside.push((name.to_owned(), container_type.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.inside.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.is_multiplied_by() {
            return param;
        }
        let dtype = self.dtype;
        param.map(|values| values.cast(dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_halves_when_gradients_overflow_and_doubles_after_a_while() {
        let mixed = Mixed { half: Half::F16, scale: 1024.0, growth: 3 };
        let mut scale = mixed.start();
        for was_taken in [true, true, false, true, true] {
            scale = mixed.next(scale, was_taken).unwrap();
        }
        assert_eq!(scale, Scale { factor: 512.0, taken: 2 });
        assert_eq!(mixed.next(scale, true).unwrap(), Scale { factor: 1024.0, taken: 0 });
        let small = Scale { factor: 1e-7, taken: 0 };
        assert_eq!(mixed.next(small, false).unwrap_err().code(), "internal");
        assert!(Mixed { scale: 0.0, ..mixed }.validate().is_err());
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_cpu_has_no_use_for_halves() {
        let mixed = Mixed { half: Half::F16, scale: 1.0, growth: 0 };
        let error = mixed.check_device(&Device::flex().autodiff()).unwrap_err();
        assert_eq!(error.code(), "feature-missing");
    }
}
