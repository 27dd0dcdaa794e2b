//! Settings out of defaults, a file and the command line.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, ErrorKind, Result};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The config file.
    File,
    /// The command line.
    Set,
}

/// Settings, and which of them are not the defaults of the stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved<T> {
    /// The settings.
    pub value: T,
    /// Where values come from that the file or the command line name, by their paths.
    pub origins: BTreeMap<String, Origin>,
}

/// `defaults`, with what a TOML file says instead, and what `key.of.a.value=value` says instead of both.
///
/// # Errors
/// [`ErrorKind::BadOption`] when the file is no TOML, and for names and values that the settings have
/// not.
pub fn resolve<T: Serialize + DeserializeOwned>(
    defaults: &T,
    file: Option<&str>,
    sets: &[String],
) -> Result<Resolved<T>> {
    let mut value = written(defaults)?;
    let mut origins = BTreeMap::new();
    if let Some(text) = file {
        let given: Value =
            toml::from_str(text).map_err(|e| bad(format!("the config file is not TOML: {e}")))?;
        lay_over(&mut value, given, &mut String::new(), Origin::File, &mut origins);
    }
    for set in sets {
        let (path, text) =
            set.split_once('=').ok_or_else(|| bad(format!("`{set}` sets nothing: expected key=value")))?;
        let given = path.trim().rsplit('.').fold(read(text.trim()), |inner, name| {
            Value::Object([(name.to_owned(), inner)].into_iter().collect())
        });
        lay_over(&mut value, given, &mut String::new(), Origin::Set, &mut origins);
    }
    Ok(Resolved { value: valid(value)?, origins })
}

/// `defaults` with what is given instead.
///
/// # Errors
/// As [`resolve`].
pub fn overlaid<T: Serialize + DeserializeOwned>(defaults: &T, given: &Value) -> Result<T> {
    let mut value = written(defaults)?;
    lay_over(&mut value, given.clone(), &mut String::new(), Origin::File, &mut BTreeMap::new());
    valid(value)
}

fn written(defaults: &impl Serialize) -> Result<Value> {
    serde_json::to_value(defaults)
        .map_err(|e| Error::new(ErrorKind::Internal, "settings cannot be written down").with_source(e))
}

fn valid<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_path_to_error::deserialize(value)
        .map_err(|e| bad(format!("the settings are not valid: `{}`: {}", e.path(), e.inner())))
}

/// A value as TOML writes it; anything else is a string.
fn read(text: &str) -> Value {
    let parsed: Option<BTreeMap<String, Value>> = toml::from_str(&format!("value = {text}")).ok();
    let value = parsed.and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Puts what is given over what there is, field by field. Another `kind` of something is another thing:
/// nothing of the old one is kept. The word `none` takes away whatever is no word itself.
fn lay_over(
    value: &mut Value,
    given: Value,
    path: &mut String,
    origin: Origin,
    origins: &mut BTreeMap<String, Origin>,
) {
    match (value, given) {
        (Value::Object(fields), Value::Object(given)) => {
            if given.get("kind").is_some_and(|kind| fields.get("kind") != Some(kind)) {
                fields.clear();
            }
            for (name, given) in given {
                let end = path.len();
                if end > 0 {
                    path.push('.');
                }
                path.push_str(&name);
                lay_over(fields.entry(name).or_insert(Value::Null), given, path, origin, origins);
                path.truncate(end);
            }
        }
        (place, Value::Object(given)) => {
            *place = Value::Object(serde_json::Map::new());
            lay_over(place, Value::Object(given), path, origin, origins);
        }
        (place, given) => {
            origins.insert(path.clone(), origin);
            // TOML has no word for what is not there.
            let nothing = given == "none" && !place.is_string();
            *place = if nothing { Value::Null } else { given };
        }
    }
}

fn bad(message: String) -> Error {
    Error::new(ErrorKind::BadOption, message)
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;
    use crate::train::schedule::Schedule;

    #[test]
    fn the_command_line_goes_over_the_file_and_the_file_over_the_defaults() {
        let file = "epochs = 3\nbatch = 64\n[noise]\ndropout = 0.0\n";
        let sets = ["batch=32", "ranks = 2", "contrast.queue=128", "average=0.99"].map(str::to_owned);
        let Resolved { value, origins } = resolve(&Recipe::pretraining(), Some(file), &sets).unwrap();
        assert_eq!((value.epochs, value.batch, value.ranks, value.average), (3, 32, 2, Some(0.99)));
        assert_eq!((value.noise.dropout, value.noise.attention_dropout), (0.0, 0.1));
        assert_eq!(value.contrast.unwrap().queue, 128);
        assert_eq!(value.contrast.unwrap().momentum, 0.995);
        assert_eq!(origins["epochs"], Origin::File);
        assert_eq!(origins["batch"], Origin::Set);
        assert_eq!(origins["contrast.queue"], Origin::Set);
        assert!(!origins.contains_key("seed"));
    }

    #[test]
    fn another_kind_is_another_thing() {
        let file = "schedule = { kind = \"plateau\", peak = 1e-3, warmup = 5, decay = 7 }";
        let value = resolve(&Recipe::pretraining(), Some(file), &[]).unwrap().value;
        assert_eq!(value.schedule, Schedule::Plateau { peak: 1e-3, warmup: 5, decay: 7 });
        let sets = ["schedule.peak=2e-4".to_owned(), "contrast=none".to_owned()];
        let value = resolve(&Recipe::pretraining(), None, &sets).unwrap().value;
        assert!(matches!(value.schedule, Schedule::Epochs { peak: 2e-4, warmup: 3000, .. }));
        assert_eq!(value.contrast, None);
        let value = resolve(&Recipe::pretraining(), Some("contrast = \"none\""), &[]).unwrap().value;
        assert_eq!(value.contrast, None);
    }

    #[test]
    fn what_the_settings_have_not_is_an_error_that_names_it() {
        for (file, sets, name) in [
            (Some("epoch = 3"), vec![], "epoch"),
            (Some("epochs = \"many\""), vec![], "epochs"),
            (Some("epochs = = 3"), vec![], "TOML"),
            (None, vec!["noise.dropuot=0.1".to_owned()], "dropuot"),
            (None, vec!["batch".to_owned()], "key=value"),
        ] {
            let error = resolve(&Recipe::pretraining(), file, &sets).unwrap_err();
            let chain = error.to_string();
            assert!(error.code() == "bad-option" && chain.contains(name), "{chain}");
        }
    }
}
