//! Options as JSON objects with camelCase names, of which unknown ones are an error.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config::TextConfig;
use crate::generate::GenerateConfig;
use crate::{Error, ErrorKind, Result};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// # Errors
/// [`ErrorKind::BadOption`] when the text is no JSON object.
pub(super) fn object(text: &str) -> Result<Object> {
    serde_json::from_str(text).map_err(bad)
}

/// Takes the entries of these names out.
pub(super) fn split(from: &mut Object, names: &[&str]) -> Object {
    names.iter().filter_map(|name| from.remove_entry(*name)).collect()
}

/// # Errors
/// [`ErrorKind::BadOption`], naming the option.
pub(super) fn read<T: DeserializeOwned>(object: Object) -> Result<T> {
    serde_json::from_value(Value::Object(object)).map_err(bad)
}

/// A search like `base` where the object says nothing else.
///
/// # Errors
/// [`ErrorKind::BadOption`], naming the option.
pub(super) fn generation(base: &GenerateConfig, changes: Object) -> Result<GenerateConfig> {
    let Ok(Value::Object(mut all)) = serde_json::to_value(base) else {
        return Err(Error::new(ErrorKind::Internal, "options of a search are an object"));
    };
    // An option that is `undefined` in JavaScript may arrive as null: it was left out.
    all.extend(changes.into_iter().filter(|(_, value)| !value.is_null()));
    let config: GenerateConfig = read(all)?;
    config.validate()?;
    Ok(config)
}

/// # Errors
/// [`ErrorKind::BadOption`] when a sequence may grow longer than the model reads.
pub(super) fn check_length(generate: &GenerateConfig, text: &TextConfig) -> Result<()> {
    let (longest, positions) = (generate.max_length, text.max_position_embeddings);
    if longest <= positions {
        return Ok(());
    }
    let message = format!("option maxLength is {longest}, this model reads at most {positions} tokens");
    Err(Error::new(ErrorKind::BadOption, message))
}

fn bad(cause: serde_json::Error) -> Error {
    Error::new(ErrorKind::BadOption, "options").with_source(cause)
}
