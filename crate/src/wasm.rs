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
use crate::weights::Manifest;
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

/// A device, and the model loaded on it.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Engine {
    device: OpenDevice,
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
        Ok(Self { device, session: RefCell::new(None) })
    }

    /// What the device says about itself, as JSON.
    pub fn adapter(&self) -> std::result::Result<String, JsValue> {
        json(&self.device.adapter)
    }

    /// Loads a model: the text of its `blip.json`, and the files named there.
    pub async fn load(
        &self,
        manifest: String,
        weights: Vec<u8>,
        vocab: Vec<u8>,
    ) -> std::result::Result<(), JsValue> {
        let session = Manifest::from_json(&manifest)
            .and_then(|manifest| Session::from_manifest(&manifest, weights, &vocab, &self.device))
            .map_err(|e| to_js(&e))?;
        self.session.replace(Some(Rc::new(session)));
        Ok(())
    }

    /// Compiles every pipeline by captioning a blank picture; milliseconds.
    #[wasm_bindgen(js_name = warmUp)]
    pub async fn warm_up(&self) -> std::result::Result<f64, JsValue> {
        let session = self.session().map_err(|e| to_js(&e))?;
        let start = now_ms();
        session.warm_up().await.map_err(|e| to_js(&e))?;
        Ok(now_ms() - start)
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
