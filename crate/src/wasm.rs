//! The wasm shell: options in, results out, progress, cancel. No logic, and the only file that knows
//! JavaScript.

use std::cell::RefCell;
use std::rc::Rc;

use js_sys::{Function, Reflect};
use wasm_bindgen::prelude::*;

use crate::clock::now_ms;
use crate::device::{DeviceKind, OpenDevice};
use crate::generate::Control;
use crate::image::from_rgba;
use crate::tasks::{CaptionOptions, CaptionProgress, Captions, Session};
use crate::weights::{Loader, Manifest};
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

/// A device, and the model loaded on it.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Engine {
    device: OpenDevice,
    loading: RefCell<Option<(Manifest, Loader)>>,
    session: RefCell<Option<Rc<Session>>>,
}

#[wasm_bindgen]
impl Engine {
    /// Opens `"webgpu"` or `"cpu"`.
    pub async fn open(device: String) -> std::result::Result<Engine, JsValue> {
        let kind = match device.as_str() {
            "webgpu" => DeviceKind::Gpu,
            "cpu" => DeviceKind::Cpu,
            other => {
                let message = format!("option device is `{other}`, expected `webgpu` or `cpu`");
                return Err(to_js(&Error::new(ErrorKind::BadOption, message)));
            }
        };
        let device = OpenDevice::open(kind).await.map_err(|e| to_js(&e))?;
        Ok(Self { device, loading: RefCell::new(None), session: RefCell::new(None) })
    }

    /// What the device says about itself, as JSON.
    pub fn adapter(&self) -> std::result::Result<String, JsValue> {
        #[cfg_attr(not(feature = "flex"), expect(unused_mut, reason = "only the CPU adds to it"))]
        let mut adapter = self.device.adapter.clone();
        #[cfg(feature = "flex")]
        if self.device.kind() == DeviceKind::Cpu {
            use crate::kernels::cpu::isa::Level;

            let named = |level| match level {
                Level::Simd128 => Some("simd128".to_owned()),
                Level::RelaxedSimd => Some("relaxed-simd".to_owned()),
                _ => None,
            };
            adapter.features = Level::available().into_iter().filter_map(named).collect();
        }
        json(&adapter)
    }

    /// Begins to load a model: the text of its `blip.json`. The weights come next.
    #[wasm_bindgen(js_name = beginLoad)]
    pub fn begin_load(&self, manifest: &str) -> std::result::Result<(), JsValue> {
        let manifest = Manifest::from_json(manifest).map_err(|e| to_js(&e))?;
        let loader = Loader::new(&manifest, &self.device.device).in_halves(self.device.halves());
        self.loading.replace(Some((manifest, loader)));
        Ok(())
    }

    /// Takes the next bytes of the weights file; what is whole among them goes to the device at once.
    pub fn push(&self, bytes: &[u8]) -> std::result::Result<(), JsValue> {
        let mut loading = self.loading.borrow_mut();
        let (_, loader) = loading.as_mut().ok_or_else(|| to_js(&not_loading()))?;
        loader.push(bytes).map_err(|e| to_js(&e))?;
        // Otherwise the device's queue would hold the bytes until there is something to compute.
        self.device.flush();
        Ok(())
    }

    /// Makes the model of what was pushed, and its vocabulary.
    #[wasm_bindgen(js_name = finishLoad)]
    pub async fn finish_load(&self, vocab: Vec<u8>) -> std::result::Result<(), JsValue> {
        let session = self
            .loading
            .take()
            .ok_or_else(not_loading)
            .and_then(|(manifest, loader)| Session::from_loader(&manifest, loader, &vocab, &self.device))
            .map_err(|e| to_js(&e))?;
        self.session.replace(Some(Rc::new(session)));
        Ok(())
    }

    /// Compiles every pipeline by captioning a blank picture, step by step; milliseconds.
    /// `progress(done, total)` is called after each step.
    #[wasm_bindgen(js_name = warmUp)]
    pub async fn warm_up(&self, progress: Function) -> std::result::Result<f64, JsValue> {
        let session = self.session().map_err(|e| to_js(&e))?;
        let start = now_ms();
        let mut report = |done: usize, total: usize| {
            // A listener that throws does not concern the pipelines.
            let _ = progress.call2(&JsValue::NULL, &(done as f64).into(), &(total as f64).into());
        };
        session.warm_up(&mut report).await.map_err(|e| to_js(&e))?;
        Ok(now_ms() - start)
    }

    /// Compares every kernel that the model uses with plain arithmetic; JSON of `SelfTest`.
    #[wasm_bindgen(js_name = selfTest)]
    pub async fn self_test(&self) -> std::result::Result<String, JsValue> {
        let session = self.session().map_err(|e| to_js(&e))?;
        json(&session.self_test().await.map_err(|e| to_js(&e))?)
    }

    /// Captions an encoded picture; JSON in, JSON out. `progress(text, index)` returns false to cancel.
    pub async fn caption(
        &self,
        bytes: Vec<u8>,
        options: String,
        progress: Function,
    ) -> std::result::Result<String, JsValue> {
        let result = async {
            let options = CaptionOptions::from_json(&options)?;
            self.session()?.caption(&bytes, &options, &mut callback(progress)).await
        };
        answer(result.await)
    }

    /// Captions RGBA pixels (straight alpha, row by row); otherwise as `caption`.
    #[wasm_bindgen(js_name = captionPixels)]
    pub async fn caption_pixels(
        &self,
        rgba: Vec<u8>,
        width: u32,
        height: u32,
        options: String,
        progress: Function,
    ) -> std::result::Result<String, JsValue> {
        let result = async {
            let options = CaptionOptions::from_json(&options)?;
            let image = from_rgba(width, height, &rgba, &options.image)?;
            self.session()?.caption_image(&image, &options, &mut callback(progress)).await
        };
        answer(result.await)
    }
}

impl Engine {
    fn session(&self) -> Result<Rc<Session>> {
        let missing = || Error::new(ErrorKind::TaskUnsupported, "no model is loaded");
        self.session.borrow().clone().ok_or_else(missing)
    }
}

fn not_loading() -> Error {
    Error::new(ErrorKind::Internal, "weights were pushed before a load was begun")
}

/// Reports progress to JavaScript; a callback that throws cancels.
fn callback(progress: Function) -> impl FnMut(CaptionProgress) -> Control {
    move |caption| {
        let answer = progress.call2(&JsValue::NULL, &caption.text.into(), &(caption.index as f64).into());
        match answer {
            Ok(value) if value != JsValue::FALSE => Control::Continue,
            _ => Control::Cancel,
        }
    }
}

fn answer(result: Result<Captions>) -> std::result::Result<String, JsValue> {
    json(&result.map_err(|e| to_js(&e))?)
}

fn json(value: &impl serde::Serialize) -> std::result::Result<String, JsValue> {
    serde_json::to_string(value).map_err(|e| {
        to_js(&Error::new(ErrorKind::Internal, "a result cannot be written as JSON").with_source(e))
    })
}

/// An `Error` with the stable code in `code`.
fn to_js(error: &Error) -> JsValue {
    let js = js_sys::Error::new(&error.to_string());
    js.set_name("BlipError");
    // Setting a property of a fresh object cannot fail.
    let _ = Reflect::set(&js, &"code".into(), &error.code().into());
    js.into()
}
