//! The devices that the corpus runs on, and how close each must come to the reference.

use std::env;
use std::sync::OnceLock;

use blip_web::device::{DeviceKind, OpenDevice, block_on};

/// Runs tests on every device: one module a device, so that the name of a failing test says where it failed.
///
/// The file has `Place` in scope and a function `run` that takes a [`Place`] and the function of a test.
#[macro_export]
macro_rules! on_every_device {
    ($($test:ident)*) => {
        mod flex {
            $(#[test] fn $test() { super::run(super::Place::Flex, super::$test); })*
        }
        mod wgpu {
            $(#[test] fn $test() { super::run(super::Place::Wgpu, super::$test); })*
        }
    };
}

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// burn-flex on the CPU: the reference device.
    Flex,
    /// wgpu: a graphics card, or Mesa's software Vulkan (lavapipe) on machines without one.
    Wgpu,
}

/// Largest absolute difference from the reference (f32 on the CPU).
///
/// transformers in f32 is itself up to 1.2e-5 away from its own f64 results on this corpus
/// (`f64_difference` in its `cases.json`), so no bound can be tighter than about 2e-5.
const TOLERANCES: [(Place, f32); 2] = [
    // Sums in another order, and an exponential and an erf of another library.
    (Place::Flex, 1e-4),
    // Besides, shader compilers may fuse, reorder and approximate: WGSL grants `exp` and `inverseSqrt` several ULP.
    (Place::Wgpu, 1e-3),
];

impl Place {
    /// Largest absolute difference from the reference.
    pub fn tolerance(self) -> f32 {
        let row = TOLERANCES.iter().find(|(place, _)| *place == self);
        row.expect("the table has a row for every place").1
    }

    /// The device; `None`, with a line `skipped: …` that says why, where it cannot be used.
    ///
    /// `BLIP_GPU` decides about wgpu: `auto` (default) skips without an adapter, `require` fails,
    /// `off` always skips.
    ///
    /// # Panics
    /// With `BLIP_GPU=require` and no adapter, or with another value of `BLIP_GPU`.
    pub fn device(self) -> Option<OpenDevice> {
        if self == Self::Flex {
            return Some(block_on(OpenDevice::open(DeviceKind::Cpu)).expect("this build has burn-flex"));
        }
        let wanted = env::var("BLIP_GPU").unwrap_or_else(|_| "auto".to_owned());
        assert!(
            ["auto", "require", "off"].contains(&&*wanted),
            "BLIP_GPU is `{wanted}`: auto, require or off"
        );
        if wanted == "off" {
            skip("BLIP_GPU=off");
            return None;
        }
        // A process can set a GPU up once; every test of it uses the same device.
        static GPU: OnceLock<Result<OpenDevice, String>> = OnceLock::new();
        let open = || block_on(OpenDevice::open(DeviceKind::Gpu)).map_err(|error| error.to_string());
        match GPU.get_or_init(open) {
            Ok(device) => Some(device.clone()),
            Err(error) if wanted == "require" => panic!("BLIP_GPU=require, but there is no GPU: {error}"),
            Err(error) => {
                skip(&format!("no GPU adapter for wgpu: {error}"));
                None
            }
        }
    }
}

/// Whether the slow tests were asked for with `BLIP_SLOW=1`; prints the line that counts as skipped if not.
pub fn slow() -> bool {
    let asked = env::var("BLIP_SLOW").is_ok_and(|value| value == "1");
    if !asked {
        skip("set BLIP_SLOW=1");
    }
    asked
}

#[expect(clippy::print_stdout, reason = "the test runner counts these lines of a test's output")]
fn skip(reason: &str) {
    println!("skipped: {reason}");
}
