//! One command a task: its options as the SDK names them, and its results as lines.

mod ask;
mod caption;
mod classify;
mod dialogue;
mod embed;
mod explain;
mod generation;
mod matching;
mod nlvr2;

pub(crate) use ask::Ask;
pub(crate) use caption::Caption;
pub(crate) use classify::Classify;
pub(crate) use dialogue::Dialogue;
pub(crate) use embed::Embed;
pub(crate) use explain::Explain;
#[cfg(feature = "train")]
pub(crate) use generation::Generation;
pub(crate) use matching::Match;
pub(crate) use nlvr2::Nlvr2;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value};

/// The request of a task with these options. What was left out is left out.
pub(crate) fn request(task: &str, options: &impl Serialize) -> Result<Map<String, Value>> {
    let Value::Object(mut request) = serde_json::to_value(options).context("options are JSON")? else {
        bail!("options are an object");
    };
    request.retain(|_, value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        _ => true,
    });
    request.insert("task".to_owned(), task.into());
    Ok(request)
}
