//! The library in a browser's worker, on the same corpus as the native tests (`tests/tests/parity.rs`).
//!
//! `cargo xtask test --only wasm-tests` runs this in headless Chromium on a software WebGPU adapter.
#![cfg(target_family = "wasm")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::sync::Once;

use blip_web::config::BlipConfig;
use blip_web::device::{DeviceKind, OpenDevice};
use blip_web::generate::{Control, GenerateConfig, generate};
use blip_web::model::{Blip, Grounding, KvCache, TextMode, cosine, integers};
use blip_web::tasks::ModelDecoder;
use blip_web::weights::{self, Checkpoint};
use burn::tensor::{Int, Tensor, TensorData};
use safetensors::SafeTensors;
use serde_json::Value;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// A model of the corpus, inside the test module: a browser has no files.
struct Files {
    config: &'static str,
    cases: &'static str,
    weights: &'static [u8],
    expected: &'static [u8],
}

macro_rules! files {
    ($name:literal) => {
        Files {
            config: include_str!(concat!("../../tests/fixtures/parity/", $name, "/config.json")),
            cases: include_str!(concat!("../../tests/fixtures/parity/", $name, "/cases.json")),
            weights: include_bytes!(concat!("../../tests/fixtures/parity/", $name, "/model.safetensors")),
            expected: include_bytes!(concat!("../../tests/fixtures/parity/", $name, "/expected.safetensors")),
        }
    };
}

const CAPTION: Files = files!("caption");
const RETRIEVAL: Files = files!("itm");

/// The tolerances of the native tests.
const CPU: (DeviceKind, f32) = (DeviceKind::Cpu, 1e-4);
const WEBGPU: (DeviceKind, f32) = (DeviceKind::Gpu, 1e-3);

#[wasm_bindgen_test]
async fn logits_agree_with_the_reference_on_the_cpu() {
    logits_agree(CPU).await;
}

#[wasm_bindgen_test]
async fn logits_agree_with_the_reference_on_webgpu() {
    logits_agree(WEBGPU).await;
}

#[wasm_bindgen_test]
async fn image_and_text_states_and_scores_agree_with_the_reference_on_the_cpu() {
    states_and_scores_agree(CPU).await;
}

#[wasm_bindgen_test]
async fn image_and_text_states_and_scores_agree_with_the_reference_on_webgpu() {
    states_and_scores_agree(WEBGPU).await;
}

#[wasm_bindgen_test]
async fn generation_is_token_exact_on_the_cpu() {
    let names: Vec<String> = CAPTION.cases()["generation"].as_array().unwrap().iter().map(name).collect();
    assert!(names.len() >= 12);
    generation_agrees(CPU.0, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[wasm_bindgen_test]
async fn generation_is_token_exact_on_webgpu() {
    // A software adapter takes its time: one case of each kind.
    generation_agrees(WEBGPU.0, &["greedy", "greedy_prompt_penalty_min_length", "beam3_min_length"]).await;
}

#[wasm_bindgen_test]
async fn a_second_device_shares_the_first() {
    let first = open(DeviceKind::Gpu).await;
    let second = open(DeviceKind::Gpu).await;
    assert_eq!(first.adapter, second.adapter);
    assert!(first.adapter.features.iter().any(|feature| feature == "timestamp-query"));
    let tensor = Tensor::<1>::from_data([1.0, 2.0], &first.device) * 2.0;
    assert_eq!(second.read(tensor).await.unwrap(), [2.0, 4.0]);
}

#[wasm_bindgen_test]
async fn a_browser_without_webgpu_or_with_a_lesser_adapter_is_told_apart() {
    run_constructors();
    for (gpu, code) in [
        ("undefined", "webgpu-unavailable"),
        ("{ requestAdapter: async () => null }", "webgpu-unavailable"),
        ("{ requestAdapter: async () => { throw new Error('no') } }", "webgpu-unavailable"),
        ("{ requestAdapter: async () => ({ features: new Set(), info: {} }) }", "feature-missing"),
    ] {
        // The runtime keeps the first device, so what is simulated here is only the probe before it.
        let simulate = js_sys::Function::new_no_args(&format!(
            "Object.defineProperty(navigator, 'gpu', {{ value: {gpu}, configurable: true }})"
        ));
        simulate.call0(&wasm_bindgen::JsValue::NULL).unwrap();
        let error = blip_web::device::probe().await.unwrap_err();
        let restore = js_sys::Function::new_no_args("delete navigator.gpu");
        restore.call0(&wasm_bindgen::JsValue::NULL).unwrap();
        assert_eq!(error.code(), code, "{gpu}: {error}");
    }
    assert!(blip_web::device::probe().await.unwrap().features.len() > 1);
}

#[wasm_bindgen_test]
async fn what_is_no_image_is_refused_without_a_panic() {
    let error = blip_web::image::decode(b"not an image", &Default::default()).unwrap_err();
    assert_eq!(error.code(), "bad-image");
}

async fn logits_agree((kind, tolerance): (DeviceKind, f32)) {
    let fixture = Fixture::open(kind, &CAPTION).await;
    for case in CAPTION.cases()["decoder"].as_array().unwrap() {
        let images: Vec<usize> = numbers(&case["images"]).into_iter().map(|index| index as usize).collect();
        let rows: Vec<Vec<u32>> = case["ids"].as_array().unwrap().iter().map(numbers).collect();
        let kept: Vec<bool> =
            case["mask"].as_array().unwrap().iter().flat_map(numbers).map(|m| m == 1).collect();
        let grounding = fixture.grounding(&images);
        let pads = kept.contains(&false).then(|| pads(&kept, rows.len(), &fixture.open));
        let ids = ids(&rows, &fixture.open);
        let logits = fixture.open.read(fixture.model.lm_logits(ids, pads, &grounding)).await.unwrap();
        let (_, expected) = &fixture.tensors[&format!("{}.output", name(case))];
        let vocab = logits.len() / kept.len();
        let kept = |index: usize| kept[index / vocab];
        assert_close(&name(case), &logits, expected, kept, tolerance);
    }
}

/// Image tokens, unimodal and image-grounded text states, ITC cosines and ITM logits.
async fn states_and_scores_agree((kind, tolerance): (DeviceKind, f32)) {
    let fixture = Fixture::open(kind, &RETRIEVAL).await;
    let (model, open) = (&fixture.model, &fixture.open);
    let all = |_: usize| true;
    let cases = RETRIEVAL.cases();
    let images: Vec<usize> =
        numbers(&cases["vision"]["images"]).into_iter().map(|index| index as usize).collect();
    let tokens = open.read(fixture.image_tokens(&images)).await.unwrap();
    assert_close("vision", &tokens, &fixture.tensors["vision.output"].1, all, tolerance);
    for case in cases["retrieval"].as_array().unwrap() {
        let images: Vec<usize> = numbers(&case["images"]).into_iter().map(|index| index as usize).collect();
        let rows: Vec<Vec<u32>> = case["ids"].as_array().unwrap().iter().map(numbers).collect();
        let kept: Vec<bool> =
            case["mask"].as_array().unwrap().iter().flat_map(numbers).map(|m| m == 1).collect();
        let pads = Some(pads(&kept, rows.len(), open));
        let tokens = fixture.image_tokens(&images);
        let encoder = model.text_encoder.as_ref().unwrap();
        let unimodal = name(case) == "text";
        let grounding = (!unimodal).then(|| Grounding::new(encoder.cross_kv(tokens.clone())));
        let mode = if unimodal { TextMode::Unimodal } else { TextMode::Grounded };
        let states = encoder.forward(ids(&rows, open), pads, grounding.as_ref(), mode);
        let width = states.dims()[2];
        let got = open.read(states.clone()).await.unwrap();
        let expected = &fixture.tensors[&format!("{}.output", name(case))].1;
        assert_close(&name(case), &got, expected, |index| kept[index / width], tolerance);
        let (scores, expected) = if unimodal {
            let head = model.itc.as_ref().unwrap();
            (cosine(head.image_features(tokens), head.text_features(states)), "itc".to_owned())
        } else {
            (model.itm.as_ref().unwrap().forward(states), format!("{}.itm", name(case)))
        };
        let scores = open.read(scores).await.unwrap();
        assert_close(&expected, &scores, &fixture.tensors[&expected].1, all, tolerance);
    }
}

/// Every kept value within the tolerance; padding is whatever it is.
fn assert_close(what: &str, got: &[f32], expected: &[f32], kept: impl Fn(usize) -> bool, tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let worst = got
        .iter()
        .zip(expected)
        .enumerate()
        .filter(|(index, _)| kept(*index))
        .map(|(_, (got, expected))| (got - expected).abs())
        .fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: off by {worst:e}, allowed {tolerance:e}");
}

#[wasm_bindgen_test]
async fn a_recorded_decoding_step_replays_as_the_next_steps() {
    const STEPS: usize = 8;
    let fixture = Fixture::open(DeviceKind::Gpu, &CAPTION).await;
    let (model, open, text) = (&fixture.model, &fixture.open, &fixture.config.text_config);
    let grounding = fixture.grounding(&[0]);
    let start = || {
        let mut cache = KvCache::new(model.decoder().unwrap(), 1, STEPS + 1, &open.device);
        cache.feed(&[0], &[text.bos_token_id]);
        (cache, integers(vec![0; 2 * STEPS + 2], [STEPS + 1, 1, 2], &open.device))
    };
    let step = |cache: &mut KvCache, history: Tensor<3, Int>| {
        let logits = model.step_logits(&grounding, cache);
        cache.choose(logits, history, text.sep_token_id, STEPS + 2)
    };
    let now = || js_sys::Date::now();

    let (mut cache, mut history) = start();
    let begun = now();
    for _ in 0..STEPS {
        history = step(&mut cache, history);
    }
    let launched = (now() - begun) / STEPS as f64;
    let expected = open.start_reading(history).await.unwrap();

    let (mut cache, mut history) = start();
    let client = cache.state().try_into_primitive::<burn::backend::Cube>().unwrap().client;
    client.graph_prepare().unwrap();
    for _ in 0..2 {
        history = step(&mut cache, history);
    }
    client.start_capture().unwrap();
    history = step(&mut cache, history);
    let graph = client.stop_capture().unwrap();
    let begun = now();
    for _ in 2..STEPS {
        #[allow(unsafe_code, reason = "cubecl's replay of a recorded graph is an unsafe function")]
        // SAFETY: `cache` and `history` hold what outlives a step, the graph holds the rest, and all of it
        // is used on this thread's stream only.
        unsafe {
            graph.replay().unwrap();
        }
    }
    let replayed = (now() - begun) / (STEPS - 2) as f64;
    assert_eq!(open.start_reading(history).await.unwrap(), expected);
    web_sys::console::log_1(&format!("a step: launched {launched:.2} ms, replayed {replayed:.2} ms").into());
}

async fn generation_agrees(kind: DeviceKind, names: &[&str]) {
    let fixture = Fixture::open(kind, &CAPTION).await;
    let text = &fixture.config.text_config;
    let cases = CAPTION.cases();
    for wanted in names {
        let case = cases["generation"].as_array().unwrap().iter().find(|case| name(case) == *wanted).unwrap();
        let image = &case["images"][0];
        let grounding = fixture.grounding(&[image["image"].as_u64().unwrap() as usize]);
        let mut decoder = ModelDecoder::new(&fixture.model, &fixture.open, grounding, text);
        let start = numbers(&case["decoder_ids"]);
        let config = options(&case["options"]);
        let found =
            generate(&mut decoder, &start, text.sep_token_id, &config, &mut |_| Control::Continue).await;
        let found = found.unwrap_or_else(|error| panic!("{wanted}: {error}"));
        let expected: Vec<Vec<u32>> = image["sequences"].as_array().unwrap().iter().map(numbers).collect();
        assert_eq!(found.len(), expected.len(), "{wanted}");
        for (found, expected) in found.iter().zip(expected) {
            let mut sequence = [start.as_slice(), &found.ids].concat();
            sequence.extend(found.finished.then_some(text.sep_token_id));
            assert_eq!(sequence, expected, "{wanted}");
        }
    }
}

/// Options in the reference's words.
fn options(options: &Value) -> GenerateConfig {
    let number =
        |name: &str, default: f64| options.get(name).map_or(default, |value| value.as_f64().unwrap());
    GenerateConfig {
        max_length: number("max_length", 0.0) as usize,
        min_length: number("min_length", 0.0) as usize,
        num_beams: number("num_beams", 1.0) as usize,
        repetition_penalty: number("repetition_penalty", 1.0),
        length_penalty: number("length_penalty", 1.0),
        num_captions: number("num_return_sequences", 1.0) as usize,
        ..GenerateConfig::default()
    }
}

/// A model of the corpus on a device.
struct Fixture {
    open: OpenDevice,
    config: BlipConfig,
    model: Blip,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Fixture {
    async fn open(kind: DeviceKind, files: &Files) -> Self {
        let open = open(kind).await;
        let config = BlipConfig::from_json(files.config).unwrap();
        let checkpoint = Checkpoint::from_safetensors(files.weights.to_vec()).unwrap();
        let (model, _) = weights::load(&config, &checkpoint, &open.device).unwrap();
        let tensors = SafeTensors::deserialize(files.expected).unwrap();
        let floats =
            |data: &[u8]| data.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
        let tensors = tensors
            .iter()
            .map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), floats(view.data()))))
            .collect();
        Self { open, config, model, tensors }
    }

    /// What the decoder sees of those images.
    fn grounding(&self, images: &[usize]) -> Grounding {
        Grounding::new(self.model.decoder().unwrap().cross_kv(self.image_tokens(images)))
    }

    /// The vision encoder's output for those images.
    fn image_tokens(&self, images: &[usize]) -> Tensor<3> {
        let (shape, pixels) = &self.tensors["pixels"];
        let pool = Tensor::<4>::from_data(TensorData::new(pixels.clone(), shape.clone()), &self.open.device);
        let images = images.iter().map(|index| pool.clone().narrow(0, *index, 1)).collect();
        self.model.vision.forward(Tensor::cat(images, 0))
    }
}

async fn open(kind: DeviceKind) -> OpenDevice {
    run_constructors();
    OpenDevice::open(kind).await.unwrap()
}

/// The test harness does not run the module's start function, which does this in the product.
fn run_constructors() {
    #[allow(unsafe_code, reason = "the linker's symbol for the static constructors of the module")]
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    static ONCE: Once = Once::new();
    #[allow(unsafe_code, reason = "called exactly once")]
    ONCE.call_once(|| unsafe { __wasm_call_ctors() });
}

impl Files {
    fn cases(&self) -> Value {
        serde_json::from_str(self.cases).unwrap()
    }
}

fn name(case: &Value) -> String {
    case["name"].as_str().unwrap().to_owned()
}

fn numbers(list: &Value) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as u32).collect()
}

fn ids(rows: &[Vec<u32>], open: &OpenDevice) -> Tensor<2, Int> {
    let flat: Vec<i32> = rows.iter().flatten().map(|id| *id as i32).collect();
    integers(flat, [rows.len(), rows[0].len()], &open.device)
}

/// 1 at padding.
fn pads(kept: &[bool], rows: usize, open: &OpenDevice) -> Tensor<2, Int> {
    let flat: Vec<i32> = kept.iter().map(|kept| i32::from(!kept)).collect();
    let seq = flat.len() / rows;
    integers(flat, [rows, seq], &open.device)
}
