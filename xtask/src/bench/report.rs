//! `report.json` for programs and `report.md` for people.

use super::figures::Row;
use super::measurements::Measurements;
use super::native::Native;
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// First times after a start, ours beside theirs.
const COLD: &[(&str, &str, &str)] = &[
    ("wasm CPU: vision, 384 px", "cpu.ours.visionMs", "cpu.theirs.visionMs"),
    ("wasm CPU: keys and values of the image", "cpu.ours.crossMs", "cpu.theirs.crossMs"),
    ("wasm CPU: 20-token caption", "cpu.ours.totalMs", "cpu.theirs.totalMs"),
    ("WebGPU: vision, 224 px (theirs fp32)", "gpu.vision.ours.visionMs", "gpu.vision.theirs.fp32.visionMs"),
    ("WebGPU: vision, 224 px (theirs q4)", "gpu.vision.ours.visionMs", "gpu.vision.theirs.q4.visionMs"),
];

/// Warm times that have no bar of their own.
const WARM: &[(&str, &str, &str)] = &[
    ("wasm CPU: keys and values of the image", "cpu.ours.crossMs", "cpu.theirs.crossMs"),
    (
        "WebGPU, 384 px: keys and values of the image (ours: part of the first tokens)",
        "",
        "gpu.token.theirs.crossMs",
    ),
];

/// Durations and sizes that were taken once.
const ONCE: &[(&str, &str, f64, &str)] = &[
    ("wasm CPU: start and load", "cpu.ours.loadMs", 1.0, "ms"),
    ("wasm CPU: wasm heap after load", "cpu.ours.heap", 1e6, "MB"),
    ("wasm CPU: wasm heap after captions", "cpu.ours.heapAfter", 1e6, "MB"),
    ("wasm CPU, onnxruntime-web: sessions", "cpu.theirs.loadMs", 1.0, "ms"),
    ("wasm CPU, onnxruntime-web: wasm heap after load", "cpu.theirs.heap", 1e6, "MB"),
    ("WebGPU: load of base q8", "heap.loadMs", 1.0, "ms"),
    ("WebGPU, 384 px: warm-up", "gpu.token.ours.warmUpMs", 1.0, "ms"),
    ("WebGPU, 224 px: warm-up", "gpu.vision.ours.warmUpMs", 1.0, "ms"),
    ("runtime, gzip: ours", "runtime.ours", 1e6, "MB"),
    ("runtime, gzip: onnxruntime-web for wasm", "runtime.theirs.wasm", 1e6, "MB"),
    ("runtime, gzip: onnxruntime-web for WebGPU", "runtime.theirs.webgpu", 1e6, "MB"),
];

/// Writes both reports; their paths.
pub fn write(
    folder: &Path,
    quick: bool,
    measured: &Measurements,
    native: &Native,
    rows: &[Row],
) -> Result<[PathBuf; 2]> {
    let paths = [folder.join("report.json"), folder.join("report.md")];
    let cold = pairs(COLD, |key| measured.cold(key));
    let warm = pairs(WARM, |key| measured.warm(key).ok().map(|summary| summary.median));
    let report = json!({
        "mode": if quick { "quick" } else { "full" },
        "date": measured.0["date"],
        "adapter": measured.0["adapter"],
        "machine": measured.0["machine"],
        "onnxruntimeWeb": measured.0["values"]["theirs.version"],
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
        "cold": cold,
        "warm": warm,
        "once": measured.0["values"],
        "native": native.json(),
        "counters": measured.0["counters"],
        "notes": measured.0["notes"],
        "failures": measured.0["failures"],
    });
    fs::write(&paths[0], serde_json::to_string_pretty(&report)? + "\n")?;
    fs::write(&paths[1], markdown(&report, rows, measured))?;
    Ok(paths)
}

/// The entries for which either side has a number.
fn pairs(table: &[(&str, &str, &str)], number: impl Fn(&str) -> Option<f64>) -> Vec<Value> {
    let entry = |(what, ours, theirs): &(&str, &str, &str)| {
        let (ours, theirs) = (number(ours), number(theirs));
        let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
        json!({ "figure": what, "ours": ours, "theirs": theirs, "ratio": ratio, "unit": "ms" })
    };
    table.iter().map(entry).filter(|entry| !entry["ours"].is_null() || !entry["theirs"].is_null()).collect()
}

fn markdown(report: &Value, rows: &[Row], measured: &Measurements) -> String {
    let mut text = String::from("# Benchmark\n\n");
    let machine = &report["machine"];
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    writeln!(
        text,
        "{} mode, {}. {}, {} cores, {} GiB, {}, {}; onnxruntime-web {}. Adapter: `{}`.\n",
        word(&report["mode"]),
        word(&report["date"]),
        word(&machine["processor"]),
        machine["cores"],
        machine["memoryGiB"],
        word(&machine["system"]),
        word(&machine["browser"]),
        word(&report["onnxruntimeWeb"]),
        report["adapter"],
    )
    .expect("a string takes everything");
    text += "| figure | ours | theirs | ratio | unit | bar | holds |\n|---|---|---|---|---|---|---|\n";
    for row in rows {
        let holds = match row.holds {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let cells = [number(row.ours), number(row.theirs), number(row.ratio)].join(" | ");
        text += &format!("| {} | {cells} | {} | {} | {holds} |\n", row.figure, row.unit, row.bar_text());
    }
    let reasons: Vec<String> =
        rows.iter().filter_map(|row| Some(format!("- {}: {}\n", row.figure, row.reason.as_ref()?))).collect();
    if !reasons.is_empty() {
        text += "\n## Notes on figures\n\n";
        text += &reasons.concat();
    }
    text += &spread(rows);
    for (title, key) in [("Cold: the first time after a start", "cold"), ("Warm, without a bar", "warm")] {
        text += &format!("\n## {title}\n\n| figure | ours | theirs | ratio |\n|---|---|---|---|\n");
        for entry in report[key].as_array().into_iter().flatten() {
            let cells = ["ours", "theirs", "ratio"].map(|side| number(entry[side].as_f64())).join(" | ");
            text += &format!("| {}, ms | {cells} |\n", word(&entry["figure"]));
        }
    }
    text += "\n## Taken once\n\n| what | value |\n|---|---|\n";
    for (what, key, divisor, unit) in ONCE {
        if let Ok(value) = measured.value(key) {
            text += &format!("| {what} | {} {unit} |\n", number(Some(value / divisor)));
        }
    }
    text += &counters(&report["counters"]);
    for (title, key) in [("Remarks", "notes"), ("Failures", "failures")] {
        let lines: Vec<String> = match &report[key] {
            Value::Array(list) => list.iter().map(word).collect(),
            Value::Object(map) => {
                map.iter().map(|(part, reason)| format!("{part}: {}", word(reason))).collect()
            }
            _ => Vec::new(),
        };
        if !lines.is_empty() {
            text += &format!("\n## {title}\n\n- {}\n", lines.join("\n- "));
        }
    }
    text
}

/// The timings behind the medians.
fn spread(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n## Timings, ms\n\n| figure | side | runs | min | median | max | disturbed | others, cores |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        for (side, runs) in &row.runs {
            let columns = ["n", "min", "median", "max", "disturbed", "otherCores"];
            let cells = columns.map(|column| number(runs[column].as_f64())).join(" | ");
            text += &format!("| {} | {side} | {cells} |\n", row.figure);
        }
    }
    text
}

/// Calls of WebGPU: a steady token, a whole short caption, the first of its kind.
fn counters(counters: &Value) -> String {
    let columns =
        [("token", "a steady token"), ("caption", "a short caption"), ("firstCaption", "the first one")];
    let Some(names) = counters["token"].as_object() else { return String::new() };
    let mut text = String::from("\n## Calls of WebGPU\n\n| call |");
    for (_, title) in columns {
        text += &format!(" {title} |");
    }
    text += "\n|---|---|---|---|\n";
    for name in names.keys() {
        let cells = columns.map(|(key, _)| number(counters[key][name].as_f64())).join(" | ");
        text += &format!("| {name} | {cells} |\n");
    }
    text
}

/// Three or more significant digits, and no more than needed.
fn number(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value == value.trunc() && value.abs() < 1e6 => format!("{value:.0}"),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_mean_something() {
        let written = [0.4567, 1.234, 55.55, 3532.8, 110.0, 0.0].map(|value| number(Some(value)));
        assert_eq!(written, ["0.457", "1.23", "55.5", "3533", "110", "0"]);
        assert_eq!(number(None), "–");
    }

    #[test]
    fn a_pair_without_numbers_is_left_out() {
        let table = [("a", "x", "y"), ("b", "z", "w")];
        let pairs = pairs(&table, |key| (key == "x").then_some(2.0));
        assert_eq!(pairs.len(), 1);
        assert_eq!((&pairs[0]["ours"], &pairs[0]["theirs"]), (&json!(2.0), &Value::Null));
    }
}
