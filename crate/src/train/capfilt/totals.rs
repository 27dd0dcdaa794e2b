//! What a stage did in all of a folder's shards.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::result::{REPORT, Report, unreadable};
use super::texts::Flow;
use crate::{Error, ErrorKind, Result};

/// The reports of a folder, summed up.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// The stage.
    pub stage: String,
    /// The model of all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The options of all of them.
    pub options: Map<String, Value>,
    /// How many shards are finished.
    pub shards: usize,
    /// Sums of all numbers in the reports; of texts in and out, the noise ratio as well.
    pub counts: Map<String, Value>,
    /// Skipped records by reason.
    pub skipped: BTreeMap<String, usize>,
}

impl Totals {
    /// Of the results in a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read; [`ErrorKind::BadOption`] when it has no report, or reports
    /// of different stages, models or options.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
            let entry = entry.map_err(|error| unreadable(folder, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(REPORT) && !name.starts_with('.') {
                paths.push(entry.path());
            }
        }
        paths.sort();
        let mut totals: Option<Self> = None;
        for path in &paths {
            let bytes = std::fs::read(path).map_err(|error| unreadable(path, error))?;
            let report: Report = serde_json::from_slice(&bytes).map_err(|error| {
                let message = format!("`{}` is not a stage's report", path.display());
                Error::new(ErrorKind::Integrity, message).with_source(error)
            })?;
            let made = &report.made;
            let totals = totals.get_or_insert_with(|| Self {
                stage: made.stage.clone(),
                model: made.model.clone(),
                options: made.options.clone(),
                shards: 0,
                counts: Map::new(),
                skipped: BTreeMap::new(),
            });
            if (&made.stage, &made.model, &made.options) != (&totals.stage, &totals.model, &totals.options) {
                let message =
                    format!("`{}` is of another stage, model or options than the others", path.display());
                return Err(Error::new(ErrorKind::BadOption, message));
            }
            totals.shards += 1;
            add(&mut totals.counts, &report.counts);
            for skipped in &report.skipped {
                // Behind the colon stands what is different each time.
                let reason = skipped.reason.split(':').next().unwrap_or_default();
                *totals.skipped.entry(reason.to_owned()).or_default() += 1;
            }
        }
        let mut totals = totals.ok_or_else(|| {
            let message = format!("no shard is finished in `{}`", folder.display());
            Error::new(ErrorKind::BadOption, message)
        })?;
        totals.counts.values_mut().for_each(add_noise_ratio);
        Ok(totals)
    }
}

/// Adds numbers under equal names, in objects of objects.
fn add(sums: &mut Map<String, Value>, counts: &Map<String, Value>) {
    for (name, value) in counts {
        match value {
            Value::Object(inner) => {
                let sum = sums.entry(name.clone()).or_insert_with(|| Map::new().into());
                if let Value::Object(sum) = sum {
                    add(sum, inner);
                }
            }
            value => {
                let before = sums.get(name).and_then(Value::as_u64).unwrap_or(0);
                sums.insert(name.clone(), (before + value.as_u64().unwrap_or(0)).into());
            }
        }
    }
}

fn add_noise_ratio(value: &mut Value) {
    if let (Ok(flow), Value::Object(object)) = (serde_json::from_value::<Flow>(value.clone()), value) {
        object.insert("noiseRatio".to_owned(), flow.noise_ratio().into());
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {} shards", self.stage, self.shards)?;
        if let Some(model) = &self.model {
            writeln!(f, "{:<12} {model}", "model")?;
        }
        writeln!(f, "{:<12} {}", "options", Value::from(self.options.clone()))?;
        for (name, value) in &self.counts {
            let Some(texts) = value.get("texts") else {
                writeln!(f, "{name:<12} {value}")?;
                continue;
            };
            let dropped = value["noiseRatio"].as_f64().unwrap_or_default() * 100.0;
            writeln!(f, "{name:<12} {} of {texts} texts kept, {dropped:.1} % dropped", value["kept"])?;
        }
        for (reason, count) in &self.skipped {
            writeln!(f, "{:<12} {count} records: {reason}", "skipped")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::result::{Made, Place, Skipped};
    use super::*;

    fn write(folder: &Path, name: &str, threshold: f64, kept: usize, reason: &str) {
        let place = Place::new(folder, name);
        std::fs::write(place.unfinished(), name).unwrap();
        let object = |value: Value| value.as_object().unwrap().clone();
        let options = object(json!({ "threshold": threshold }));
        let made = Made { stage: "filter".into(), version: 1, inputs: vec![], model: None, options };
        let counts = json!({"pictures": 4, "web": {"texts": 4, "kept": kept}});
        let skipped = vec![Skipped { key: "k".into(), reason: reason.into() }];
        place.finish(made, object(counts), skipped).unwrap();
    }

    #[test]
    fn reports_of_one_kind_are_summed_up() {
        let folder = std::env::temp_dir().join(format!("blip-totals-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(Totals::of(&folder).unwrap_err().code(), "bad-option");
        write(&folder, "a.jsonl", 0.5, 4, "bad-image: cut short");
        write(&folder, "b.jsonl", 0.5, 2, "bad-image: not one of the formats");
        let totals = Totals::of(&folder).unwrap();
        assert_eq!((totals.shards, &totals.counts["pictures"]), (2, &8.into()));
        assert_eq!(totals.counts["web"], json!({"texts": 8, "kept": 6, "noiseRatio": 0.25}));
        assert_eq!(totals.skipped["bad-image"], 2);
        let text = totals.to_string();
        assert!(text.contains("web          6 of 8 texts kept, 25.0 % dropped"), "{text}");
        write(&folder, "c.jsonl", 0.6, 2, "");
        assert_eq!(Totals::of(&folder).unwrap_err().code(), "bad-option");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
