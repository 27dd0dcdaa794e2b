//! The wasm shell: options in, results out, progress, cancel. No logic, and the only files that know
//! JavaScript.

mod engine;
mod gallery;
mod hub;

use js_sys::Reflect;
use wasm_bindgen::prelude::*;

use crate::{Error, ErrorKind, Result};

#[allow(unsafe_code, reason = "the linker's symbol for the static constructors of the module")]
unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Runs once, when the module is instantiated.
#[wasm_bindgen(start)]
pub fn start() {
    // Naming the symbol stops the linker from wrapping every export in a call of it, which would run
    // all constructors again on every call from JavaScript.
    #[allow(unsafe_code, reason = "called exactly once, before anything else in the module runs")]
    unsafe {
        __wasm_call_ctors();
    }
    std::panic::set_hook(Box::new(|info| {
        // A panic ends the module with a bare `unreachable`; the console keeps its reason.
        web_sys::console::error_1(&JsValue::from_str(&format!("blip-web: {info}")));
    }));
}

/// Version of the crate, equal to the npm package's.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// Tells that the browser runs relaxed SIMD, and that this is the module which has it; to be called
/// before anything else.
#[wasm_bindgen(js_name = enableRelaxedSimd)]
pub fn enable_relaxed_simd() {
    #[cfg(feature = "flex")]
    crate::kernels::cpu::isa::enable_relaxed_simd();
}

/// What JavaScript gets: a value, or an `Error` with a `code`.
type Answer<T> = std::result::Result<T, JsValue>;

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorKind::Internal, "a result cannot be written as JSON").with_source(e))
}

/// An `Error` with the stable code in `code`.
fn to_js(error: Error) -> JsValue {
    let js = js_sys::Error::new(&error.to_string());
    js.set_name("BlipError");
    // Setting a property of a fresh object cannot fail.
    let _ = Reflect::set(&js, &"code".into(), &error.code().into());
    js.into()
}
