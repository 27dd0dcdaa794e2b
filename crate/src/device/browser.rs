//! What the device needs of a browser: a look at its adapter, a turn of the event loop, and its end.

use std::cell::RefCell;

use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::AdapterInfo;
use crate::{Error, ErrorKind, Result};

/// Asks the browser for its adapter before the runtime does, which would panic where a feature lacks.
///
/// # Errors
/// [`ErrorKind::WebgpuUnavailable`] without WebGPU or adapter, [`ErrorKind::FeatureMissing`] without
/// `timestamp-query`, which the runtime's streams need.
pub(crate) async fn probe_adapter() -> Result<AdapterInfo> {
    let unavailable = |why: &str| {
        let message = format!("WebGPU cannot be used here: {why}");
        Error::new(ErrorKind::WebgpuUnavailable, message)
    };
    let gpu = get(&get(&js_sys::global(), "navigator"), "gpu");
    if gpu.is_falsy() {
        return Err(unavailable("the browser has no `navigator.gpu`, or the page is not a secure context"));
    }
    let options = Object::new();
    // Setting a property of a fresh object cannot fail.
    let _ = Reflect::set(&options, &"powerPreference".into(), &"high-performance".into());
    let request = get(&gpu, "requestAdapter")
        .dyn_into::<Function>()
        .and_then(|request| request.call1(&gpu, &options))
        .map(|promise| Promise::resolve(&promise))
        .map_err(|_| unavailable("`requestAdapter` failed"))?;
    let adapter = JsFuture::from(request).await.map_err(|_| unavailable("`requestAdapter` was refused"))?;
    if adapter.is_falsy() {
        return Err(unavailable("there is no adapter"));
    }
    let mut features: Vec<String> =
        Array::from(&get(&adapter, "features")).iter().filter_map(|feature| feature.as_string()).collect();
    features.sort();
    if !features.iter().any(|feature| feature == "timestamp-query") {
        let message = "the GPU adapter lacks the WebGPU feature `timestamp-query`";
        return Err(Error::new(ErrorKind::FeatureMissing, message));
    }
    let info = get(&adapter, "info");
    let text = |name: &str| get(&info, name).as_string().unwrap_or_default();
    // Older browsers keep the flag on the adapter itself.
    let fallback = |object: &JsValue| get(object, "isFallbackAdapter").is_truthy();
    Ok(AdapterInfo {
        vendor: text("vendor"),
        architecture: text("architecture"),
        device: text("device"),
        description: text("description"),
        is_fallback_adapter: fallback(&info) || fallback(&adapter),
        features,
    })
}

thread_local! {
    /// The GPU of this module. What the runtime drops waits for the browser's collector otherwise.
    #[cfg(feature = "wgpu")]
    static GPU: RefCell<Option<burn::tensor::wgpu::wgpu::Device>> = const { RefCell::new(None) };
    /// Who wants to know that it was lost.
    static LISTENER: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Keeps the GPU to be destroyed.
#[cfg(feature = "wgpu")]
pub(crate) fn keep(device: burn::tensor::wgpu::wgpu::Device) {
    GPU.set(Some(device));
}

/// Gives the GPU up, with all memory on it.
pub(crate) fn destroy() {
    LISTENER.set(None);
    #[cfg(feature = "wgpu")]
    if let Some(device) = GPU.take() {
        device.destroy();
    }
}

/// Calls `listener` with a message when the GPU is lost, unless it is given up.
pub(crate) fn on_lost(listener: Function) {
    LISTENER.set(Some(listener));
}

/// Tells the listener.
pub(crate) fn lost(message: &str) {
    if let Some(listener) = LISTENER.take() {
        // One that throws does not concern the device.
        let _ = listener.call1(&JsValue::NULL, &message.into());
    }
}

/// Lets the event loop turn, so that messages get in between two tokens of the CPU engine.
pub(crate) async fn yield_to_events() {
    // A message channel, because timers are held back to 4 ms when they nest.
    let promise = Promise::new(&mut |resolve, _| {
        let Ok(channel) = web_sys::MessageChannel::new() else {
            // Without channels there is nothing to yield with; go on at once.
            let _ = resolve.call0(&JsValue::NULL);
            return;
        };
        channel.port1().set_onmessage(Some(&resolve));
        if channel.port2().post_message(&JsValue::NULL).is_err() {
            let _ = resolve.call0(&JsValue::NULL);
        }
    });
    // The promise is never rejected.
    let _ = JsFuture::from(promise).await;
}

/// A property, or undefined.
fn get(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or(JsValue::UNDEFINED)
}
