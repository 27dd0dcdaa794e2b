//! Every figure with its bar: what was measured, what it is compared with, and whether that holds.

use super::artefacts::Artefacts;
use super::measurements::Measurements;
use super::native::Native;
use super::statistics::Summary;
use crate::workspace::read;
use serde_json::{Map, Value, json};

/// A whole caption of candle's wasm build (q4_K, one thread, 384 px), measured once and not here.
const CANDLE_CAPTION_MS: f64 = 39_350.0;
const MEGABYTE: f64 = 1e6;
/// Positions that the caches of a default caption have room for, rounded up to a whole tile.
const CACHE_CAPACITY: f64 = 32.0;

/// The limit of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
    /// Wanted, but without a limit.
    Stated,
}

/// What the bar is put against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Of {
    /// Ours divided by theirs, or the ratio given.
    Ratio,
    /// Our own number.
    Ours,
}

/// One figure of the report.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is.
    pub figure: String,
    /// Our number.
    pub ours: Option<f64>,
    /// That of what it is compared with.
    pub theirs: Option<f64>,
    /// Ours / theirs, where there is something to divide by.
    pub ratio: Option<f64>,
    /// Of `ours` and `theirs`.
    pub unit: &'static str,
    /// The limit, and of what.
    pub bar: (Bar, Of),
    /// Whether the limit is kept; nothing where this run cannot tell.
    pub holds: Option<bool>,
    /// Why it cannot, or what else to know.
    pub reason: Option<String>,
    /// Summaries of the timings behind it.
    pub runs: Map<String, Value>,
}

impl Row {
    fn new(figure: &str, unit: &'static str, bar: Bar, of: Of) -> Self {
        Self {
            figure: figure.to_owned(),
            ours: None,
            theirs: None,
            ratio: None,
            unit,
            bar: (bar, of),
            holds: None,
            reason: None,
            runs: Map::new(),
        }
    }

    /// Fills in numbers and judges them; a missing one is the reason why there is no verdict.
    fn with(mut self, ours: Result<f64, String>, theirs: Option<Result<f64, String>>) -> Self {
        self.ours = ours.as_ref().ok().copied();
        self.theirs = theirs.as_ref().and_then(|value| value.as_ref().ok().copied());
        self.ratio = self.ours.zip(self.theirs).filter(|(_, theirs)| *theirs != 0.0).map(|(a, b)| a / b);
        let missing = [ours.err(), theirs.and_then(Result::err)];
        let missing: Vec<String> = missing.into_iter().flatten().collect();
        if !missing.is_empty() {
            self.reason = Some(missing.join("; "));
        }
        self.judge()
    }

    /// Compares timings by their medians; a run that others disturbed gives no verdict.
    fn timed(mut self, ours: Result<Summary, String>, theirs: Result<Summary, String>) -> Self {
        let noisy = [&ours, &theirs].into_iter().flatten().any(|summary| !summary.quiet);
        for (name, summary) in [("ours", &ours), ("theirs", &theirs)] {
            if let Ok(summary) = summary {
                self.runs.insert(name.to_owned(), summary.json());
            }
        }
        let median = |summary: Result<Summary, String>| summary.map(|summary| summary.median);
        let mut row = self.with(median(ours), Some(median(theirs)));
        if noisy {
            row = row.without_verdict("others were at work on this machine meanwhile");
        }
        row
    }

    fn judge(mut self) -> Self {
        let number = match self.bar.1 {
            Of::Ratio => self.ratio,
            Of::Ours => self.ours,
        };
        self.holds = match (self.bar.0, number) {
            (Bar::AtMost(limit), Some(number)) => Some(number <= limit),
            (Bar::AtLeast(limit), Some(number)) => Some(number >= limit),
            (Bar::Stated, _) | (_, None) => None,
        };
        if self.bar.0 == Bar::Stated && self.reason.is_none() {
            self.reason = Some("stated without a limit".to_owned());
        }
        self
    }

    fn without_verdict(mut self, reason: &str) -> Self {
        self.holds = None;
        self.reason = Some(match self.reason {
            Some(before) => format!("{before}; {reason}"),
            None => reason.to_owned(),
        });
        self
    }

    fn noting(mut self, note: &str) -> Self {
        self.reason = Some(note.to_owned());
        self
    }

    /// The limit in words, as `≤ 0.8`.
    pub fn bar_text(&self) -> String {
        match self.bar.0 {
            Bar::AtMost(limit) => format!("≤ {limit}"),
            Bar::AtLeast(limit) => format!("≥ {limit}"),
            Bar::Stated => "stated".to_owned(),
        }
    }

    /// As it stands in the report.
    pub fn json(&self) -> Value {
        let mut row = json!({
            "figure": self.figure,
            "ours": self.ours,
            "theirs": self.theirs,
            "ratio": self.ratio,
            "unit": self.unit,
            "bar": self.bar_text(),
            "barOn": if self.bar.1 == Of::Ratio { "ratio" } else { "ours" },
            "holds": self.holds,
            "runs": self.runs,
        });
        if let Some(reason) = &self.reason {
            row["reason"] = json!(reason);
        }
        row
    }
}

/// All figures, in the order of the task that set them.
pub fn rows(measured: &Measurements, native: &Native, artefacts: &Artefacts) -> Vec<Row> {
    let mut rows = processor_rows(measured);
    rows.extend(gpu_rows(measured));
    rows.extend(kernel_rows(native));
    rows.extend(token_rows(measured));
    rows.extend(memory_rows(measured, artefacts));
    rows.extend(size_rows(measured, native));
    rows.extend(quality_rows(native));
    rows
}

/// The engine on the processor, one thread, 8 bit.
fn processor_rows(measured: &Measurements) -> Vec<Row> {
    let against_int8 = |what: &str, key: &str, limit: f64| {
        let figure = format!("wasm CPU, 1 thread, q8 against onnxruntime-web int8, 384 px: {what}");
        Row::new(&figure, "ms", Bar::AtMost(limit), Of::Ratio)
            .timed(measured.warm(&format!("cpu.ours.{key}")), measured.warm(&format!("cpu.theirs.{key}")))
    };
    let caption = measured.warm("cpu.ours.totalMs");
    let noisy = caption.as_ref().is_ok_and(|caption| !caption.quiet);
    let mut candle = Row::new(
        "the same caption against candle's wasm q4_K (recorded elsewhere, not run here)",
        "ms",
        Bar::AtMost(0.1),
        Of::Ratio,
    );
    if let Ok(caption) = &caption {
        candle.runs.insert("ours".to_owned(), caption.json());
    }
    candle = candle.with(caption.map(|caption| caption.median), Some(Ok(CANDLE_CAPTION_MS)));
    if candle.reason.is_none() {
        candle = candle.noting("theirs is a recorded number");
    }
    if noisy {
        candle = candle.without_verdict("others were at work on this machine meanwhile");
    }
    vec![
        against_int8("vision", "visionMs", 0.8),
        against_int8("one token with caches", "stepMs", 0.6),
        against_int8("whole 20-token caption", "totalMs", 0.8),
        candle,
    ]
}

/// The engine on the browser's GPU.
fn gpu_rows(measured: &Measurements) -> Vec<Row> {
    let better = match (
        measured.warm("gpu.vision.theirs.fp32.visionMs"),
        measured.warm("gpu.vision.theirs.q4.visionMs"),
    ) {
        (Ok(fp32), Ok(q4)) => Ok(if fp32.median < q4.median { fp32 } else { q4 }),
        // Without both there is no better one.
        (Err(reason), _) | (_, Err(reason)) => Err(reason),
    };
    let adapter = if measured.has_software_gpu() { "SwiftShader" } else { "this adapter" };
    vec![
        Row::new(
            &format!("WebGPU on {adapter}, q4 against onnxruntime-web q4, 384 px: one token"),
            "ms",
            Bar::AtMost(0.5),
            Of::Ratio,
        )
        .timed(measured.warm("gpu.token.ours.stepMs"), measured.warm("gpu.token.theirs.stepMs")),
        Row::new(
            &format!(
                "WebGPU on {adapter} against onnxruntime-web, its better of fp32 and q4: vision at 224 px"
            ),
            "ms",
            Bar::AtMost(0.5),
            Of::Ratio,
        )
        .timed(measured.warm("gpu.vision.ours.visionMs"), better),
    ]
}

/// Kernels against the adapter itself.
fn kernel_rows(native: &Native) -> Vec<Row> {
    let software = native.value("kernels.software").map(|flag| flag != 0.0);
    let row = |figure: &str, key: &str, limit: f64, on_software: bool| {
        let row = Row::new(figure, "fraction", Bar::AtLeast(limit), Of::Ours);
        match &software {
            Ok(here) if *here == on_software => row.with(native.value(key), None),
            Ok(true) => row.without_verdict("this machine has no GPU"),
            Ok(false) => row.without_verdict("this machine's adapter is a GPU"),
            Err(reason) => row.without_verdict(reason),
        }
    };
    let mut gemv = row("GEMV against a device copy, bytes counted: a GPU", "kernels.gemv", 0.6, false);
    if software == Ok(true) {
        gemv.ours = native.value("kernels.gemv").ok();
        gemv.reason = Some("this machine has no GPU; the number is that of the software adapter".to_owned());
    }
    vec![
        row("GEMM 577×768×3072 against a pure FMA loop: lavapipe", "kernels.gemm", 0.4, true),
        row("GEMM 577×768×3072 against a pure FMA loop: a GPU", "kernels.gemm", 0.5, false),
        gemv,
    ]
}

/// What a steady token asks of WebGPU, and what beams cost.
fn token_rows(measured: &Measurements) -> Vec<Row> {
    let idle = measured.per_token("dispatches") == Ok(0.0);
    let counter = |figure: &str, name: &str, limit: f64| {
        let row =
            Row::new(figure, "a token", Bar::AtMost(limit), Of::Ours).with(measured.per_token(name), None);
        // Nothing counted is not little counted.
        if idle { row.without_verdict("no dispatch was seen at all") } else { row }
    };
    let mut beams =
        Row::new("beam 3 against greedy, time a step, wasm CPU q8", "ms", Bar::AtMost(1.5), Of::Ratio)
            .timed(measured.warm("cpu.beams.stepMs"), measured.warm("cpu.ours.stepMs"));
    if beams.reason.is_none() {
        beams = beams.noting("both are ours: three beams, and greedy in the place of theirs");
    }
    vec![
        counter("steady token: submits", "submits", 1.0),
        counter("steady token: dispatches", "dispatches", 110.0),
        counter("steady token: createBuffer", "createBuffer", 0.0),
        counter("steady token: writeBuffer", "writeBuffer", 0.0),
        counter("steady token: mapAsync, greedy", "mapAsync", 0.3),
        beams,
    ]
}

fn memory_rows(measured: &Measurements, artefacts: &Artefacts) -> Vec<Row> {
    let megabytes = |value: Result<f64, String>| value.map(|bytes| bytes / MEGABYTE);
    let live = measured.0["counters"]["warm384"]["liveBytes"].as_f64();
    let live = live.ok_or_else(|| measured.why_missing("gpu.token.ours"));
    let halves = measured.0["adapter"].to_string().contains("shader-f16");
    vec![
        Row::new("wasm heap peak while base q8 goes to the GPU", "MB", Bar::AtMost(128.0), Of::Ours)
            .with(megabytes(measured.value("heap.ours")), None),
        Row::new(
            "GPU bytes after warm-up against packed weights, caches and activations",
            "MB",
            Bar::AtMost(1.25),
            Of::Ratio,
        )
        .with(megabytes(live), Some(megabytes(needed_bytes(artefacts, if halves { 2.0 } else { 4.0 })))),
    ]
}

/// Bytes that a caption cannot do without: the packed weights, the image's keys and values and one
/// row's cache, and the widest point of a vision block (input, hidden layer, output) with the logits.
fn needed_bytes(artefacts: &Artefacts, element: f64) -> Result<f64, String> {
    let path = artefacts.full_model("mixed").join("blip.json");
    let text = read(&path).map_err(|error| format!("{error:#}"))?;
    let manifest: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let (vision, decoder) = (&manifest["config"]["vision_config"], &manifest["config"]["text_config"]);
    let number = |of: &Value, key: &str| of[key].as_f64().ok_or_else(|| format!("blip.json has no {key}"));
    let weights = number(&manifest["files"]["weights"], "bytes")?;
    let (size, width) = (number(vision, "image_size")?, number(vision, "hidden_size")?);
    let patches = (size / number(vision, "patch_size")?).powi(2);
    let (layers, text_width) = (number(decoder, "num_hidden_layers")?, number(decoder, "hidden_size")?);
    let caches = layers * 2.0 * text_width * (patches + 1.0 + CACHE_CAPACITY);
    let activations = (patches + 1.0) * (2.0 * width + number(vision, "intermediate_size")?)
        + 3.0 * size * size
        + number(decoder, "vocab_size")?;
    Ok(weights + element * (caches + activations))
}

fn size_rows(measured: &Measurements, native: &Native) -> Vec<Row> {
    let megabytes = |value: Result<f64, String>| value.map(|bytes| bytes / MEGABYTE);
    let on_disk = |figure: &str, ours: &str, theirs: &str, limit: f64| {
        Row::new(figure, "MB", Bar::AtMost(limit), Of::Ours)
            .with(megabytes(native.value(ours)), Some(megabytes(native.value(theirs))))
    };
    vec![
        Row::new("runtime before any model: JS + wasm, gzip", "MB", Bar::AtMost(2.0), Of::Ours).with(
            megabytes(measured.value("runtime.ours")),
            Some(megabytes(measured.value("runtime.theirs.webgpu"))),
        ),
        on_disk(
            "base captioning on disk, {vision: q8, text: q4} (theirs: all q4)",
            "disk.ours.mixed",
            "disk.theirs.q4",
            178.0,
        ),
        on_disk("base captioning on disk, all q8 (theirs: int8)", "disk.ours.q8", "disk.theirs.int8", 242.0),
    ]
}

fn quality_rows(native: &Native) -> Vec<Row> {
    let drop = |kind: &str, limit: f64| {
        let figure =
            format!("small captioner on held-out scenes, {kind}: drop in exact captions against f32");
        let before = native.value("captioner.f32");
        let after = native.value(&format!("captioner.{kind}"));
        let points = before.and_then(|before| after.map(|after| before - after));
        Row::new(&figure, "points", Bar::AtMost(limit), Of::Ours).with(points, None)
    };
    let error = |kind: &str, theirs: &str| {
        let figure =
            format!("base with seeded weights: relative error of the logits, {kind} (theirs: {theirs})");
        let row = Row::new(&figure, "fraction", Bar::Stated, Of::Ours).with(
            native.value(&format!("logits.ours.{kind}")),
            Some(native.value(&format!("logits.theirs.{theirs}"))),
        );
        match native.value("logits.theirs.f32") {
            Ok(apart) => row.without_verdict(&format!("in f32 the two engines are {apart:.1e} apart")),
            Err(_) => row,
        }
    };
    vec![drop("q8", 1.0), drop("q4", 3.0), error("q8", "int8"), error("q4", "q4")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(median: f64, quiet: bool) -> Summary {
        Summary { runs: 3, min: median, median, max: median, disturbed: 0, other_cores: 0.0, quiet }
    }

    fn row() -> Row {
        Row::new("x", "ms", Bar::AtMost(0.8), Of::Ratio)
    }

    #[test]
    fn a_ratio_is_judged_by_its_bar() {
        assert_eq!(row().timed(Ok(summary(80.0, true)), Ok(summary(100.0, true))).holds, Some(true));
        assert_eq!(row().timed(Ok(summary(81.0, true)), Ok(summary(100.0, true))).holds, Some(false));
    }

    #[test]
    fn a_disturbed_run_gives_numbers_and_no_verdict() {
        let row = row().timed(Ok(summary(10.0, false)), Ok(summary(100.0, true)));
        assert_eq!((row.ratio, row.holds), (Some(0.1), None));
        assert!(row.reason.is_some_and(|reason| reason.contains("others")));
    }

    #[test]
    fn what_is_missing_is_the_reason() {
        let row = row().timed(Err("no engine".to_owned()), Ok(summary(100.0, true)));
        assert_eq!((row.ours, row.theirs, row.ratio, row.holds), (None, Some(100.0), None, None));
        assert_eq!(row.reason.as_deref(), Some("no engine"));
    }

    #[test]
    fn a_figure_of_our_own_needs_nobody_else() {
        let size = Row::new("x", "MB", Bar::AtMost(2.0), Of::Ours);
        assert_eq!(size.clone().with(Ok(1.9), Some(Err("unknown".to_owned()))).holds, Some(true));
        assert_eq!(size.with(Ok(2.1), None).holds, Some(false));
    }

    #[test]
    fn a_machine_without_a_gpu_judges_no_gpu() {
        let mut native = Native::default();
        native.set_for_test("kernels.software", 1.0);
        native.set_for_test("kernels.gemm", 0.45);
        native.set_for_test("kernels.gemv", 0.9);
        let rows = kernel_rows(&native);
        let verdicts: Vec<Option<bool>> = rows.iter().map(|row| row.holds).collect();
        assert_eq!(verdicts, [Some(true), None, None]);
        assert_eq!(rows[2].ours, Some(0.9));
    }

    #[test]
    fn counters_that_saw_nothing_prove_nothing() {
        let verdicts = |dispatches: f64| {
            let token = json!({ "submits": 1, "dispatches": dispatches, "createBuffer": 0, "writeBuffer": 1, "mapAsync": 0.25 });
            let rows = token_rows(&Measurements(json!({ "counters": { "token": token } })));
            rows.into_iter().take(5).map(|row| row.holds).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(0.0), [None; 5]);
        assert_eq!(verdicts(100.0), [Some(true), Some(true), Some(true), Some(false), Some(true)]);
    }

    #[test]
    fn a_run_that_measured_nothing_has_every_row_and_no_verdict() {
        let folder = std::env::temp_dir().join("no-such-folder-of-the-benchmark");
        let artefacts = Artefacts { onnxruntime: folder.clone(), python: folder.clone(), folder };
        let rows = rows(&Measurements(json!({})), &Native::default(), &artefacts);
        assert_eq!(rows.len(), 24);
        for row in rows {
            assert!(row.holds.is_none() && row.reason.is_some(), "{}", row.figure);
        }
    }
}
