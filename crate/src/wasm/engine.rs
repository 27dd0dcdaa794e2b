//! A device with models on it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use ::image::RgbImage;
use js_sys::{Array, Float32Array, Function, Reflect, Uint8Array};
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;

use super::{Answer, json, to_js};
use crate::clock::now_ms;
use crate::device::{DeviceKind, OpenDevice, browser};
use crate::gallery::Gallery;
use crate::generate::Control;
use crate::image::{ImageOptions, decode, from_rgba};
use crate::tasks::{BATCH, Event, ModelLoader, Part, Picture, Request, Session, Task};
use crate::weights::Manifest;
use crate::{Error, ErrorKind, Result};

/// A device, the models loaded on it, and the pictures that were encoded.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Engine {
    device: OpenDevice,
    loading: RefCell<Option<ModelLoader>>,
    session: RefCell<Rc<Session>>,
    pictures: RefCell<BTreeMap<u32, Picture>>,
    last: Cell<u32>,
}

/// How images are encoded.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EncodeOptions {
    #[serde(flatten)]
    image: serde_json::Map<String, serde_json::Value>,
    video: bool,
    tasks: Vec<Task>,
}

/// What is loaded.
#[derive(Serialize)]
struct Loaded {
    tasks: Vec<Task>,
    parts: Vec<LoadedPart>,
    towers: usize,
    /// Of the image encoder and the projections of ITC: galleries of equal ones can be searched alike.
    fingerprint: Option<String>,
    /// Values of ITC's features, which galleries are made of.
    width: Option<usize>,
}

#[derive(Serialize)]
struct LoadedPart {
    id: String,
    tasks: Vec<Task>,
    tower: usize,
    #[serde(rename = "imageSize")]
    image_size: usize,
}

/// Bytes of a page of the module's memory. All of it, 4 GiB, is one byte more than `usize` can say.
const WASM_PAGE: u64 = 64 << 10;

/// What is in use.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    gpu_bytes: u64,
    gpu_reserved: u64,
    pictures: usize,
    wasm_bytes: u64,
}

#[wasm_bindgen]
impl Engine {
    /// Opens `"webgpu"` or `"cpu"`.
    pub async fn open(device: String) -> Answer<Engine> {
        let kind = match device.as_str() {
            "webgpu" => DeviceKind::Gpu,
            "cpu" => DeviceKind::Cpu,
            other => {
                let message = format!("option device is `{other}`, expected `webgpu` or `cpu`");
                return Err(to_js(Error::new(ErrorKind::BadOption, message)));
            }
        };
        let device = OpenDevice::open(kind).await.map_err(to_js)?;
        let session = RefCell::new(Rc::new(Session::new(&device)));
        Ok(Self {
            device,
            loading: RefCell::new(None),
            session,
            pictures: RefCell::new(BTreeMap::new()),
            last: Cell::new(0),
        })
    }

    /// What the device says about itself, as JSON.
    pub fn adapter(&self) -> Answer<String> {
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
        json(&adapter).map_err(to_js)
    }

    /// Calls `listener` with a message when the GPU is lost.
    #[wasm_bindgen(js_name = onLost)]
    pub fn on_lost(&self, listener: Function) {
        if self.device.kind() == DeviceKind::Gpu {
            browser::on_lost(listener);
        }
    }

    /// Begins to load a model: the text of its `blip.json`. The weights come next. What was loaded
    /// before stays.
    #[wasm_bindgen(js_name = beginLoad)]
    pub fn begin_load(&self, manifest: &str) -> Answer<()> {
        let manifest = Manifest::from_json(manifest).map_err(to_js)?;
        self.loading.replace(Some(ModelLoader::new(manifest, &self.device)));
        Ok(())
    }

    /// Takes the next bytes of the weights files, in the manifest's order and back to back; what is
    /// whole among them goes to the device at once.
    pub fn push(&self, bytes: &[u8]) -> Answer<()> {
        let mut loading = self.loading.borrow_mut();
        loading.as_mut().ok_or_else(not_loading).and_then(|loader| loader.push(bytes)).map_err(to_js)?;
        // Otherwise the device's queue would hold the bytes until there is something to compute.
        self.device.flush();
        Ok(())
    }

    /// Makes the models of what was pushed, and their vocabulary, and adds them to what is loaded; with
    /// `tasks`, a JSON array of names, only what serves one of these. Pictures that were encoded before
    /// cannot be shown to them.
    #[wasm_bindgen(js_name = finishLoad)]
    pub async fn finish_load(&self, vocab: Vec<u8>, tasks: Option<String>) -> Answer<()> {
        let finish = || {
            let mut parts = self.loading.take().ok_or_else(not_loading)?.finish(&vocab)?;
            // Before they are added: another model may be there for the tasks that these are not for.
            if let Some(tasks) = tasks {
                let bad = |e| Error::new(ErrorKind::BadOption, "option tasks").with_source(e);
                let tasks: Vec<Task> = serde_json::from_str(&tasks).map_err(bad)?;
                Part::keep(&mut parts, &tasks)?;
            }
            self.change(|session| session.add(parts))
        };
        finish().map_err(to_js)
    }

    /// What is loaded, as JSON.
    pub fn loaded(&self) -> Answer<String> {
        let session = self.session.borrow();
        let parts = session.parts().iter().map(|part| LoadedPart {
            id: part.id.clone(),
            tasks: part.tasks.clone(),
            tower: part.tower(),
            image_size: part.config.vision_config.image_size,
        });
        let gallery = session.gallery().ok();
        json(&Loaded {
            tasks: session.tasks(),
            parts: parts.collect(),
            towers: session.towers(),
            fingerprint: gallery.as_ref().map(|gallery| gallery.fingerprint().to_owned()),
            width: gallery.as_ref().map(Gallery::width),
        })
        .map_err(to_js)
    }

    /// Compiles every pipeline that the usual calls use, step by step; milliseconds.
    /// `progress(done, total)` is called after each step, and in between with what is done; `false` cancels.
    #[wasm_bindgen(js_name = warmUp)]
    pub async fn warm_up(&self, progress: Function) -> Answer<f64> {
        let session = self.session();
        let start = now_ms();
        let mut report = |done: usize, total: usize| {
            // A callback that throws cancels.
            match progress.call2(&JsValue::NULL, &(done as f64).into(), &(total as f64).into()) {
                Ok(value) if value != JsValue::FALSE => Control::Continue,
                _ => Control::Cancel,
            }
        };
        session.warm_up(&mut report).await.map_err(to_js)?;
        Ok(now_ms() - start)
    }

    /// Compares every kernel that the models use with plain arithmetic; JSON of `SelfTest`.
    #[wasm_bindgen(js_name = selfTest)]
    pub async fn self_test(&self) -> Answer<String> {
        let session = self.session();
        session.self_test().await.and_then(|test| json(&test)).map_err(to_js)
    }

    /// Encodes images side by side, as many as fit: each a `Uint8Array` with a file's bytes, or
    /// `{rgba, width, height}` with straight alpha, row by row. JSON options `applyExif`, `alpha`, `video`
    /// for the frames of one clip, and `tasks` that they will be asked for. Returns a handle each, or one
    /// for a clip.
    ///
    /// The image encoders that run are those of `request`, or else of `tasks`, or else the first one; others
    /// follow when they are needed.
    pub async fn encode(&self, images: Array, options: String, request: Option<String>) -> Answer<Vec<u32>> {
        let encoded = async {
            let bad = |e| Error::new(ErrorKind::BadOption, "options").with_source(e);
            let EncodeOptions { image, video, tasks } = serde_json::from_str(&options).map_err(bad)?;
            let options: ImageOptions = serde_json::from_value(image.into()).map_err(bad)?;
            if !video && images.length() as usize > BATCH {
                let message = format!("{} images at once, expected at most {BATCH}", images.length());
                return Err(Error::new(ErrorKind::BadOption, message));
            }
            let pictures: Vec<RgbImage> =
                images.iter().map(|image| picture(&image, &options)).collect::<Result<_>>()?;
            drop(images);
            let session = self.session();
            let tasks = match request {
                Some(request) => session.tasks_of(&Request::from_json(&request)?)?,
                None => tasks,
            };
            if video {
                return Ok(vec![session.encode_video_for(&tasks, &pictures).await?]);
            }
            session.encode_for(&tasks, &pictures).await
        };
        let encoded = encoded.await.map_err(to_js)?;
        let mut pictures = self.pictures.borrow_mut();
        let mut keep = |picture| {
            self.last.set(self.last.get() + 1);
            pictures.insert(self.last.get(), picture);
            self.last.get()
        };
        Ok(encoded.into_iter().map(&mut keep).collect())
    }

    /// Forgets a picture.
    pub fn release(&self, handle: u32) {
        self.pictures.borrow_mut().remove(&handle);
    }

    /// Does what a request asks for each of the pictures: JSON in; out comes an array of JSON and
    /// `Float32Array`s. `progress(text, index, 0)` hears of tokens and `progress(undefined, done,
    /// total)` of steps; `false` cancels.
    #[wasm_bindgen(unchecked_return_type = "[string, ...Float32Array[]]")]
    pub async fn run(&self, request: String, handles: Vec<u32>, progress: Function) -> Answer<Array> {
        let answer = async {
            let request = Request::from_json(&request)?;
            let pictures: Vec<Picture> =
                handles.iter().map(|handle| self.picture(*handle)).collect::<Result<_>>()?;
            let session = self.session();
            let mut report = |event: Event<'_>| {
                let (text, a, b) = match event {
                    Event::Token { text, index } => (text.into(), index, 0),
                    Event::Step { done, total } => (JsValue::UNDEFINED, done, total),
                };
                // A callback that throws cancels.
                match progress.call3(&JsValue::NULL, &text, &(a as f64).into(), &(b as f64).into()) {
                    Ok(value) if value != JsValue::FALSE => Control::Continue,
                    _ => Control::Cancel,
                }
            };
            session.answer(&request, &pictures, &mut report).await
        };
        let answer = answer.await.map_err(to_js)?;
        let result = Array::of1(&answer.json.into());
        for values in answer.floats {
            result.push(&Float32Array::from(values.as_slice()));
        }
        Ok(result)
    }

    /// Bytes and pictures in use, as JSON.
    pub fn memory(&self) -> Answer<String> {
        let [gpu_bytes, gpu_reserved] = self.device.memory();
        let wasm_bytes = core::arch::wasm32::memory_size(0) as u64 * WASM_PAGE;
        let pictures = self.pictures.borrow().len();
        json(&Memory { gpu_bytes, gpu_reserved, pictures, wasm_bytes }).map_err(to_js)
    }
}

impl Engine {
    fn session(&self) -> Rc<Session> {
        self.session.borrow().clone()
    }

    fn picture(&self, handle: u32) -> Result<Picture> {
        let unknown =
            || Error::new(ErrorKind::BadOption, "the encoded image was released, or is of another instance");
        self.pictures.borrow().get(&handle).cloned().ok_or_else(unknown)
    }

    /// Changes the session, which no call may be using.
    fn change(&self, change: impl FnOnce(&mut Session) -> Result<()>) -> Result<()> {
        let mut session = self.session.borrow_mut();
        let busy = || Error::new(ErrorKind::Internal, "a model is loaded while another call runs");
        change(Rc::get_mut(&mut session).ok_or_else(busy)?)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.loading.take();
        self.pictures.take();
        self.session.replace(Rc::new(Session::new(&self.device)));
        // What cannot be given back goes with the device.
        let _ = self.device.release();
        self.device.close();
    }
}

fn not_loading() -> Error {
    Error::new(ErrorKind::Internal, "weights were pushed before a load was begun")
}

/// The pixels of one image.
fn picture(image: &JsValue, options: &ImageOptions) -> Result<RgbImage> {
    if let Some(bytes) = image.dyn_ref::<Uint8Array>() {
        return decode(&bytes.to_vec(), options);
    }
    let field = |name: &str| Reflect::get(image, &name.into()).unwrap_or_default();
    let side = |name: &str| field(name).as_f64().unwrap_or_default() as u32;
    match field("rgba").dyn_ref::<Uint8Array>() {
        Some(rgba) => from_rgba(side("width"), side("height"), &rgba.to_vec(), options),
        None => Err(Error::new(ErrorKind::BadImage, "an image is neither bytes nor RGBA pixels")),
    }
}
