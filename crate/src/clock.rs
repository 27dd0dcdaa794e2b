//! Milliseconds, natively and in the browser.

/// Milliseconds since an arbitrary start; only differences mean something.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn now_ms() -> f64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

/// Milliseconds since an arbitrary start; only differences mean something.
#[cfg(target_family = "wasm")]
pub(crate) fn now_ms() -> f64 {
    // `performance` is in windows and workers alike; `Instant` panics on this target.
    js_sys::Reflect::get(&js_sys::global(), &"performance".into())
        .ok()
        .and_then(|performance| {
            let now = js_sys::Reflect::get(&performance, &"now".into()).ok()?;
            js_sys::Function::from(now).call0(&performance).ok()?.as_f64()
        })
        .unwrap_or_else(js_sys::Date::now)
}
