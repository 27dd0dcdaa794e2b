//! What is written in a precision: its size, its numbers, and what is refused when it is damaged.

use std::collections::BTreeMap;

use blip_tests::captioner;
use blip_tests::corpus::Corpus;
use blip_tests::layouts::layouts;
use blip_web::ErrorKind;
use blip_web::config::BlipConfig;
use blip_web::weights::{
    self, Checkpoint, Container, Dtype, Manifest, Precision, Quantisation, StoredTensor, random_checkpoint,
};
use burn::tensor::Device;

/// The bytes of a container.
pub fn written(config: &BlipConfig, checkpoint: &Checkpoint, quantisation: Quantisation) -> Vec<u8> {
    let mut bytes = Vec::new();
    let container = Container::new(config, checkpoint, quantisation).unwrap();
    container.write("model.safetensors", &mut bytes, &mut |_| {}).unwrap();
    bytes
}

const Q8: Quantisation = Quantisation::uniform(Precision::Q8);
const Q4: Quantisation = Quantisation::uniform(Precision::Q4);
const MIXED: Quantisation = Quantisation { vision: Precision::Q8, text: Precision::Q4 };

fn trained() -> (BlipConfig, Checkpoint) {
    (captioner::manifest().config, captioner::checkpoint())
}

#[test]
fn every_precision_has_its_size_and_loads() {
    let (config, checkpoint) = trained();
    let sizes = [Q8, MIXED, Q4].map(|quantisation| {
        let bytes = written(&config, &checkpoint, quantisation);
        let container = Checkpoint::from_safetensors(bytes.clone()).unwrap();
        let (_, networks) = weights::load(&config, &container, &Device::flex()).unwrap();
        assert_eq!(networks.tasks(), ["caption"], "{quantisation}");
        bytes.len()
    });
    // 2.2 million parameters: 8.5 bits each in groups of 32, or 4.5.
    assert!(sizes[0] < 2_500_000 && sizes[1] < 2_150_000 && sizes[2] < 1_500_000, "{sizes:?}");
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
}

#[test]
fn random_weights_have_the_names_and_shapes_of_the_published_ones() {
    for (layout, config) in
        [("hf caption base", BlipConfig::base()), ("hf caption large", BlipConfig::large())]
    {
        let random = random_checkpoint(&config, 1);
        // Published files say the head's matrix and bias twice.
        let is_copy = |name: &str| name.contains("predictions.decoder") || name.ends_with("position_ids");
        let mut published = layouts()[layout].names();
        published.retain(|(name, _)| !is_copy(name));
        assert_eq!(random.tensors.len(), published.len(), "{layout}");
        for (name, shape) in published {
            assert_eq!(random.tensors[&name].shape, shape, "{layout}: {name}");
        }
    }
}

#[test]
fn the_report_tells_the_error_of_every_tensor() {
    let (config, checkpoint) = trained();
    let mut lines = Vec::new();
    let container = Container::new(&config, &checkpoint, MIXED).unwrap();
    container.write("weights", &mut std::io::sink(), &mut |line| lines.push(line)).unwrap();
    assert_eq!(lines.len(), container.len());
    for line in &lines {
        let (least, most) = match line.format {
            Precision::F32 => (0.0, 0.0),
            Precision::Q8 => (1e-3, 0.012),
            Precision::Q4 => (0.02, 0.12),
            Precision::F16 => panic!("nobody asked for f16: {line:?}"),
        };
        assert!((least..=most).contains(&line.relative_rms), "{line:?}");
        let stays_float =
            line.shape.len() == 1 || line.name.contains("position") || line.name.contains("class");
        assert_eq!(line.format == Precision::F32, stays_float, "{line:?}");
        let vision = line.name.starts_with("vision_model");
        assert!(line.format != Precision::Q4 || !vision, "{line:?}");
    }
}

#[test]
fn a_container_converted_again_is_the_same_file() {
    let (config, checkpoint) = trained();
    for quantisation in [Q8, Q4, MIXED] {
        let once = written(&config, &checkpoint, quantisation);
        let again = written(&config, &Checkpoint::from_safetensors(once.clone()).unwrap(), quantisation);
        assert!(once == again, "{quantisation}");
    }
}

#[test]
fn tensors_lie_aligned_and_in_the_order_they_are_needed() {
    let bytes =
        written(&BlipConfig::tiny(210, 208, 3), &random_checkpoint(&BlipConfig::tiny(210, 208, 3), 1), MIXED);
    let header_end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(header_end % 16, 0);
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..header_end]).unwrap();
    assert_eq!(header["__metadata__"]["blip.format"], "2");
    assert_eq!(header["__metadata__"]["blip.vision"], "q8");
    assert_eq!(header["__metadata__"]["blip.text"], "q4");
    let mut places: Vec<(u64, u64, String)> = Vec::new();
    for (name, info) in header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__") {
        let offset = |index: usize| info["data_offsets"][index].as_u64().unwrap();
        let element = match info["dtype"].as_str().unwrap() {
            "F32" => 4,
            "F16" => 2,
            _ => 1,
        };
        assert_eq!(offset(0) % element, 0, "{name}");
        places.push((offset(0), offset(1), name.clone()));
    }
    places.sort();
    let odd = places.iter().position(|(start, end, _)| (end - start) % 16 != 0).unwrap();
    assert!(places.len() - odd <= 4, "few come last: {:?}", &places[odd..]);
    assert!(places[..odd].iter().all(|(start, ..)| start % 16 == 0));
    for pair in places[..odd].windows(2) {
        if let Some(matrix) = pair[0].2.strip_suffix(".scales") {
            assert_eq!(pair[1].2, matrix, "codes follow their scales");
        }
    }
    let at = |part: &str| places.iter().position(|(.., name)| name.contains(part)).unwrap();
    assert!(at("vision_model.embeddings") < at("vision_model.encoder.layers.3"));
    assert!(at("vision_model.encoder.layers.3") < at("text_decoder.bert.encoder.layer.0"));
}

/// Loads a quantised caption model after `edit`; the error must be of `kind` and mention every word.
#[track_caller]
fn refused(edit: impl FnOnce(&mut BTreeMap<String, StoredTensor>), kind: ErrorKind, words: &[&str]) {
    let corpus = Corpus::open("caption");
    let mut container =
        Checkpoint::from_safetensors(written(&corpus.config, &corpus.checkpoint(), MIXED)).unwrap();
    edit(&mut container.tensors);
    let error = weights::load(&corpus.config, &container, &Device::flex()).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "`{error}` does not say `{word}`");
    }
}

const FC1: &str = "vision_model.encoder.layers.1.mlp.fc1.weight";
const FC1_SCALES: &str = "vision_model.encoder.layers.1.mlp.fc1.weight.scales";
const QUERY: &str = "text_decoder.bert.encoder.layer.0.attention.self.query.weight";

/// The same tensor with other bytes, of another shape or type.
fn with(tensor: &StoredTensor, edit: impl FnOnce(&mut Vec<usize>, &mut Dtype, &mut Vec<u8>)) -> StoredTensor {
    let (mut shape, mut dtype, mut bytes) = (tensor.shape.clone(), tensor.dtype, tensor.bytes().unwrap());
    edit(&mut shape, &mut dtype, &mut bytes);
    StoredTensor::new(shape, dtype, move || Ok(bytes.clone()))
}

#[test]
fn a_quantised_matrix_without_scales_is_refused_and_so_are_scales_without_one() {
    refused(
        |tensors| drop(tensors.remove(FC1_SCALES).unwrap()),
        ErrorKind::WeightsMissing,
        &["layers.1.mlp.fc1.weight.scales"],
    );
    refused(
        |tensors| drop(tensors.remove(FC1).unwrap()),
        ErrorKind::WeightsMissing,
        &["layers.1.mlp.fc1.weight"],
    );
    let plain = Corpus::open("caption").checkpoint().tensors[FC1].clone();
    refused(
        |tensors| drop(tensors.insert(FC1.to_owned(), plain)),
        ErrorKind::WeightsUnknown,
        &["layers.1.mlp.fc1.weight.scales"],
    );
}

#[test]
fn scales_that_are_negative_or_no_numbers_are_refused() {
    for (bits, kind, word) in [
        (0x7E00u16, ErrorKind::WeightsNotFinite, "NaN"),
        (0x7C00, ErrorKind::WeightsNotFinite, "inf"),
        (0x9C00, ErrorKind::WeightsFormat, "negative"),
    ] {
        let poison = |tensors: &mut BTreeMap<String, StoredTensor>| {
            let scales = with(&tensors[FC1_SCALES], |_, _, bytes| {
                bytes[6..8].copy_from_slice(&bits.to_le_bytes());
            });
            tensors.insert(FC1_SCALES.to_owned(), scales);
        };
        refused(poison, kind, &["layers.1.mlp.fc1.weight.scales", "element 3", word]);
    }
}

#[test]
fn scales_of_another_type_or_shape_are_refused() {
    let f32s = |tensors: &mut BTreeMap<String, StoredTensor>| {
        let scales = with(&tensors[FC1_SCALES], |_, dtype, bytes| {
            (*dtype, *bytes) = (Dtype::F32, vec![0; bytes.len() * 2]);
        });
        tensors.insert(FC1_SCALES.to_owned(), scales);
    };
    refused(f32s, ErrorKind::WeightsShape, &["fc1.weight.scales", "f16"]);
    let turned = |tensors: &mut BTreeMap<String, StoredTensor>| {
        let scales = with(&tensors[FC1_SCALES], |shape, _, _| shape.reverse());
        tensors.insert(FC1_SCALES.to_owned(), scales);
    };
    refused(turned, ErrorKind::WeightsShape, &["fc1.weight.scales", "[80, 2]"]);
}

#[test]
fn codes_of_another_shape_are_refused() {
    let longer = |tensors: &mut BTreeMap<String, StoredTensor>| {
        let codes = with(&tensors[FC1], |shape, _, bytes| {
            shape[1] += 32;
            bytes.resize(shape[0] * shape[1], 0);
        });
        tensors.insert(FC1.to_owned(), codes);
    };
    refused(longer, ErrorKind::WeightsShape, &["fc1.weight", "[80, 64]"]);
    let unpadded = |tensors: &mut BTreeMap<String, StoredTensor>| {
        let codes = with(&tensors[FC1], |shape, _, bytes| {
            shape[1] = 40;
            bytes.truncate(shape[0] * shape[1]);
        });
        tensors.insert(FC1.to_owned(), codes);
    };
    refused(unpadded, ErrorKind::WeightsShape, &["fc1.weight", "[80, 64]"]);
}

#[test]
fn codes_that_no_matrix_has_are_refused() {
    let change = |name: &'static str, place: usize, code: u8| {
        move |tensors: &mut BTreeMap<String, StoredTensor>| {
            let codes = with(&tensors[name], |_, _, bytes| bytes[place] = code);
            tensors.insert(name.to_owned(), codes);
        }
    };
    // Rows of 40 columns take 64 bytes as q8 and 32 as q4.
    refused(change(FC1, 3 * 64 + 5, 0x80), ErrorKind::WeightsFormat, &["fc1.weight", "-128"]);
    refused(change(FC1, 3 * 64 + 40, 1), ErrorKind::WeightsFormat, &["fc1.weight", "padding", "row 3"]);
}

#[test]
fn parts_of_one_matrix_have_one_format() {
    let plain = Corpus::open("caption").checkpoint().tensors[QUERY].clone();
    let mix = |tensors: &mut BTreeMap<String, StoredTensor>| {
        tensors.remove(&format!("{QUERY}.scales")).unwrap();
        tensors.insert(QUERY.to_owned(), plain);
    };
    refused(mix, ErrorKind::WeightsShape, &["attention.key.weight", "format"]);
}

#[test]
fn what_must_be_float_is_refused_when_it_is_not() {
    let codes = |tensors: &mut BTreeMap<String, StoredTensor>| {
        let name = "text_decoder.bert.embeddings.position_embeddings.weight";
        let table = with(&tensors[name], |shape, dtype, bytes| {
            (*dtype, *bytes) = (Dtype::I8, vec![0; shape.iter().product()]);
        });
        tensors.insert(name.to_owned(), table);
    };
    refused(codes, ErrorKind::WeightsShape, &["position_embeddings", "float"]);
}

#[test]
fn manifests_of_both_versions_are_read_and_others_are_not() {
    let mut json: serde_json::Value = serde_json::from_str(&captioner::manifest_json()).unwrap();
    let mut first = json.clone();
    first["formatVersion"] = 1.into();
    first["dtype"] = "f16".into();
    first.as_object_mut().unwrap().remove("quantisation").unwrap();
    let parsed = Manifest::from_json(&first.to_string()).unwrap();
    assert_eq!(parsed.quantisation, Quantisation::uniform(Precision::F16));
    first.as_object_mut().unwrap().remove("dtype").unwrap();
    assert_eq!(Manifest::from_json(&first.to_string()).unwrap_err().kind(), ErrorKind::BadConfig);
    json["quantisation"] = serde_json::json!({"vision": "q8", "text": "q4"});
    let read = |json: &serde_json::Value| Manifest::from_json(&json.to_string());
    let parsed = read(&json).unwrap();
    assert_eq!((parsed.quantisation, parsed.quantisation.to_string()), (MIXED, "q8/q4".to_owned()));
    assert_eq!(Manifest::from_json(&serde_json::to_string(&parsed).unwrap()).unwrap(), parsed);
    for (pointer, value) in [
        ("/formatVersion", serde_json::json!(4)),
        ("/quantisation", serde_json::json!({"vision": "q8"})),
        ("/quantisation/text", serde_json::json!("q2")),
        ("/files/weights/chunks/size", serde_json::json!(0)),
        ("/files/weights/chunks/size", serde_json::json!(1)),
        ("/files/weights/chunks/sha256", serde_json::json!(["a"])),
        ("/files/weights/chunks/size", serde_json::json!(u64::MAX)),
    ] {
        let mut json = json.clone();
        *json.pointer_mut(pointer).unwrap() = value;
        assert_eq!(read(&json).unwrap_err().kind(), ErrorKind::BadConfig, "{pointer}");
    }
}
