//! Checkpoints: every public layout is understood, every container is read, and everything else is refused by name.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod containers;
mod shared;
mod streams;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use blip_tests::compare::{Report, values};
use blip_tests::corpus::Corpus;
use blip_tests::formula;
use blip_tests::layouts::{Layout, layouts};
use blip_web::ErrorKind;
use blip_web::config::{BlipConfig, TextConfig, VisionConfig};
use blip_web::model::{DecoderNetwork, Grounding, Networks};
use blip_web::weights::keymap::{Meaning, meaning};
use blip_web::weights::{self, Checkpoint, Dtype, Precision, Quantisation, StoredTensor};
use burn::tensor::Device;

#[test]
fn every_name_in_a_public_checkpoint_has_a_meaning_of_its_own() {
    for (layout, table) in layouts() {
        let names = table.names();
        assert_eq!(names.len(), table.total, "{layout}");
        let mut parameters = BTreeMap::new();
        for (name, _) in names {
            match meaning(&name) {
                Meaning::Parameter(ours) => {
                    let other = parameters.insert(ours.clone(), name.clone());
                    // The one alias that files have: the head's bias under two names.
                    assert!(other.is_none() || ours == "lm.bias", "{layout}: `{name}` is `{ours}` too");
                }
                Meaning::Ignored => {}
                Meaning::Unknown => panic!("{layout}: `{name}` is unknown"),
            }
        }
    }
}

#[test]
fn every_public_layout_loads_completely() {
    let vqa_decoder = Some(DecoderNetwork::Own { grounding_width: NARROW });
    let caption = |width| Networks::caption(width);
    let matching = Networks {
        vision: true,
        text_encoder: true,
        decoder: None,
        tied_lm: true,
        itc: true,
        itm: true,
        nlvr2: false,
    };
    let vqa = Networks {
        vision: true,
        text_encoder: true,
        decoder: vqa_decoder,
        tied_lm: true,
        itc: false,
        itm: false,
        nlvr2: false,
    };
    let pretrain = Networks { decoder: Some(DecoderNetwork::Shared), ..matching.clone() };
    let nlvr2 = Networks { itc: false, itm: false, nlvr2: true, ..matching.clone() };
    let expected = BTreeMap::from([
        ("hf caption base", caption(NARROW)),
        ("hf caption large", caption(NARROW_LARGE)),
        ("hf itm base", matching.clone()),
        ("hf itm large", matching.clone()),
        ("hf vqa base", vqa.clone()),
        ("pth caption base", caption(NARROW)),
        ("pth nlvr base", nlvr2),
        ("pth pretrain base", pretrain),
        ("pth retrieval base", matching),
        ("pth vqa base", vqa),
    ]);
    let layouts = layouts();
    assert_eq!(layouts.len(), expected.len());
    for (layout, table) in layouts {
        let large = layout.ends_with("large");
        let checkpoint = narrowed(&table, large, layout.contains("pretrain"));
        let (_, networks) = weights::load(&narrow_config(large), &checkpoint, &Device::flex())
            .unwrap_or_else(|error| panic!("{layout}: {error}"));
        assert_eq!(networks, expected[&*layout], "{layout}");
    }
}

const NARROW: usize = 24;
const NARROW_LARGE: usize = 32;

/// Base or large with all layers and heads, but thin: what is tested is names, not widths.
fn narrow_config(large: bool) -> BlipConfig {
    let full = if large { BlipConfig::large() } else { BlipConfig::base() };
    BlipConfig {
        vision_config: VisionConfig {
            hidden_size: if large { NARROW_LARGE } else { NARROW },
            intermediate_size: 40,
            image_size: 4,
            patch_size: 2,
            ..full.vision_config
        },
        text_config: TextConfig {
            vocab_size: 50,
            hidden_size: NARROW,
            intermediate_size: 40,
            max_position_embeddings: 20,
            bos_token_id: 48,
            sep_token_id: 3,
            ..full.text_config
        },
        image_text_hidden_size: 8,
    }
}

/// The layout with the widths of [`narrow_config`]; what the original training tied has equal values.
fn narrowed(table: &Layout, large: bool, shared: bool) -> Checkpoint {
    let size = |dim: usize, vision: bool| match dim {
        768 => NARROW,
        1024 => NARROW_LARGE,
        1536 => 2 * NARROW,
        2304 => 3 * NARROW,
        3072 if vision && large => 3 * NARROW_LARGE,
        3072 | 4096 => 40,
        197 | 577 | 901 => 5,
        30_524 => 50,
        512 => 20,
        256 => 8,
        16 => 2,
        57_600 => 6,
        small => small,
    };
    let mut tensors = BTreeMap::new();
    for (name, shape) in table.names() {
        let vision = name.starts_with("vis");
        let shape: Vec<usize> = shape.into_iter().map(|dim| size(dim, vision)).collect();
        let mut source =
            name.replace("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight");
        source = source.replace("cls.predictions.decoder.bias", "cls.predictions.bias");
        if shared && !name.contains(".attention.") {
            source = source.replace("text_decoder.bert.", "text_encoder.");
        }
        let floats = formula::weight(&source, &shape);
        tensors.insert(name, stored(shape, floats));
    }
    Checkpoint { tensors }
}

fn stored(shape: Vec<usize>, floats: Vec<f32>) -> StoredTensor {
    StoredTensor::new(shape, Dtype::F32, move || Ok(floats.iter().flat_map(|x| x.to_le_bytes()).collect()))
}

#[test]
fn a_torch_file_of_an_older_transformers_gives_the_same_weights() {
    let corpus = Corpus::open("caption_untied");
    let file = Checkpoint::open(&corpus.folder.join("pytorch_model.bin")).unwrap();
    assert!(file.tensors.contains_key("text_decoder.bert.embeddings.position_ids"));
    same_parameters(&file, &corpus.checkpoint());
    weights::load(&corpus.config, &file, &Device::flex()).unwrap();
}

#[test]
fn a_retrieval_file_of_the_original_code_gives_the_same_weights() {
    let corpus = Corpus::open("itm");
    let file = Checkpoint::open(&corpus.folder.join("retrieval.pth")).unwrap();
    for left_over in ["temp", "image_queue", "idx_queue", "ptr_queue", "visual_encoder_m.norm.weight"] {
        assert!(file.tensors.contains_key(left_over), "{left_over}");
    }
    same_parameters(&file, &corpus.checkpoint());
    weights::load(&corpus.config, &file, &Device::flex()).unwrap();
}

#[test]
fn a_caption_file_of_the_original_code_captions_like_the_reference() {
    let device = Device::flex();
    let corpus = Corpus::open("original");
    let file = Checkpoint::open(&corpus.folder.join("model.pth")).unwrap();
    assert!(file.tensors.contains_key("visual_encoder.blocks.0.attn.qkv.weight"));
    let (model, networks) = weights::load(&corpus.config, &file, &device).unwrap();
    assert!(networks.tied_lm, "the matrix is stored under two names");
    let mut report = Report::default();
    for case in &corpus.cases.decoder {
        let tokens = model.vision.forward(corpus.images(&case.images, &device));
        let grounding = Grounding::new(model.decoder().unwrap().cross_kv(tokens));
        let logits = values(model.lm_logits(case.ids(&device), case.pads(&device), &grounding));
        let expected = case.without_padding(corpus.expected(&format!("{}.output", case.name)));
        report.close(&case.name, &case.without_padding(&logits), &expected, 1e-4);
    }
    report.finish();
}

/// Both files mean the same parameters with the same values.
fn same_parameters(a: &Checkpoint, b: &Checkpoint) {
    let parameters = |checkpoint: &Checkpoint| -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
        let tensors = checkpoint.tensors.iter();
        tensors
            .filter_map(|(name, tensor)| match meaning(name) {
                Meaning::Parameter(ours) => Some((ours, (tensor.shape.clone(), tensor.to_f32().unwrap()))),
                _ => None,
            })
            .collect()
    };
    let (a, b) = (parameters(a), parameters(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, tensor) in a {
        assert!(tensor == b[&name], "`{name}` differs");
    }
}

#[test]
fn a_model_that_is_written_and_read_again_is_unchanged() {
    for name in ["caption", "caption_untied", "itm", "vqa"] {
        let corpus = Corpus::open(name);
        let (model, _) = corpus.load(&Device::flex());
        let saved: Checkpoint = weights::named_tensors(&model).unwrap().into();
        same_parameters(&saved, &corpus.checkpoint());
        let plain = containers::written(&corpus.config, &saved, Quantisation::uniform(Precision::F32));
        same_parameters(&Checkpoint::from_safetensors(plain).unwrap(), &corpus.checkpoint());
        let half = containers::written(&corpus.config, &saved, Quantisation::uniform(Precision::F16));
        let half = Checkpoint::from_safetensors(half).unwrap();
        weights::load(&corpus.config, &half, &Device::flex()).unwrap();
        for (name, tensor) in half.tensors {
            let is_matrix =
                tensor.shape.len() > 1 && !name.contains("position_emb") && !name.contains("class_emb");
            assert_eq!(tensor.dtype, if is_matrix { Dtype::F16 } else { Dtype::F32 }, "{name}");
            let exact = corpus.checkpoint().tensors[&name].to_f32().unwrap();
            for (half, exact) in tensor.to_f32().unwrap().into_iter().zip(exact) {
                assert!((half - exact).abs() <= exact.abs() * 5e-4 + 1e-7, "{name}: {half} {exact}");
            }
        }
    }
}

/// Loads the caption model after `edit`; the error must be of `kind` and mention every word.
#[track_caller]
fn refused(edit: impl FnOnce(&mut BTreeMap<String, StoredTensor>), kind: ErrorKind, words: &[&str]) {
    let corpus = Corpus::open("caption");
    let mut checkpoint = corpus.checkpoint();
    edit(&mut checkpoint.tensors);
    let error = weights::load(&corpus.config, &checkpoint, &Device::flex()).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "`{error}` does not say `{word}`");
    }
}

const FC1: &str = "vision_model.encoder.layers.1.mlp.fc1.weight";
const CROSS_BIAS: &str = "text_decoder.bert.encoder.layer.0.crossattention.self.key.bias";

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let reshape = |shape: Vec<usize>| {
        move |tensors: &mut BTreeMap<String, StoredTensor>| {
            let floats = vec![0.5; shape.iter().product()];
            tensors.insert(FC1.to_owned(), stored(shape, floats));
        }
    };
    refused(reshape(vec![80, 41]), ErrorKind::WeightsShape, &["layers.1.mlp.fc1.weight", "80", "41", "40"]);
    // As many elements, but transposed, or flat.
    refused(reshape(vec![40, 80]), ErrorKind::WeightsShape, &["layers.1.mlp.fc1.weight"]);
    refused(reshape(vec![3200]), ErrorKind::WeightsShape, &["layers.1.mlp.fc1.weight"]);
}

#[test]
fn a_position_table_of_another_image_size_is_refused() {
    let corpus = Corpus::open("caption");
    let mut config = corpus.config.clone();
    config.vision_config.image_size = 40;
    let error = weights::load(&config, &corpus.checkpoint(), &Device::flex()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WeightsShape, "{error}");
    assert!(error.to_string().contains("position_embedding"), "{error}");
}

#[test]
fn missing_tensors_are_named() {
    refused(
        |tensors| {
            tensors.remove(FC1).unwrap();
            tensors.remove(CROSS_BIAS).unwrap();
        },
        ErrorKind::WeightsMissing,
        &["layers.1.mlp.fc1.weight", "layers.0.crossattention.key.bias"],
    );
    refused(
        |tensors| {
            tensors.remove("text_decoder.bert.encoder.layer.0.crossattention.self.key.weight").unwrap();
        },
        ErrorKind::WeightsMissing,
        &["crossattention.key.weight"],
    );
    refused(|tensors| tensors.clear(), ErrorKind::WeightsMissing, &["image encoder"]);
}

#[test]
fn unknown_tensors_are_named() {
    for name in [
        "text_decoder.bert.pooler.dense.weight",
        "logit_scale",
        "vision_model.encoder.layers.1.mlp.fc3.bias",
        "",
    ] {
        let add = |tensors: &mut BTreeMap<String, StoredTensor>| {
            tensors.insert(name.to_owned(), stored(vec![1], vec![0.0]));
        };
        refused(add, ErrorKind::WeightsUnknown, &[name]);
    }
}

#[test]
fn a_layer_more_than_the_configuration_has_is_refused() {
    let add = |tensors: &mut BTreeMap<String, StoredTensor>| {
        let copy = tensors[FC1].clone();
        tensors.insert(FC1.replace("layers.1", "layers.3"), copy);
    };
    refused(add, ErrorKind::WeightsUnknown, &["layers.3.mlp.fc1"]);
}

#[test]
fn values_that_are_not_finite_are_refused() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let poison = |tensors: &mut BTreeMap<String, StoredTensor>| {
            let mut floats = tensors[FC1].to_f32().unwrap();
            floats[1234] = value;
            tensors.insert(FC1.to_owned(), stored(vec![80, 40], floats));
        };
        refused(poison, ErrorKind::WeightsNotFinite, &["layers.1.mlp.fc1.weight", "1234"]);
    }
}

#[test]
fn weights_that_are_not_floats_are_refused() {
    let integers = |tensors: &mut BTreeMap<String, StoredTensor>| {
        let zeros = StoredTensor::new(vec![80, 40], Dtype::Other, || Ok(vec![0; 80 * 40 * 8]));
        tensors.insert(FC1.to_owned(), zeros);
    };
    refused(integers, ErrorKind::WeightsShape, &["float"]);
}

#[test]
fn a_file_that_was_cut_short_is_refused_wherever_the_cut_is() {
    let bytes = std::fs::read(Corpus::open("caption").folder.join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for length in
        [0, 1, 7, 8, 9, header / 2, header - 1, header, header + 1, bytes.len() / 2, bytes.len() - 1]
    {
        let error = Checkpoint::from_safetensors(bytes[..length].to_vec()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WeightsFormat, "{length}: {error}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(Checkpoint::from_safetensors(longer).unwrap_err().kind(), ErrorKind::WeightsFormat);
}

#[test]
fn files_that_are_no_checkpoints_are_refused() {
    for text in ["not weights at all, but a page of text that is long enough", "{}", "\u{0}\u{0}\u{0}"] {
        let error = Checkpoint::from_safetensors(text.as_bytes().to_vec()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WeightsFormat, "{error}");
    }
    // A header length beyond any file must not be believed.
    let huge = [u64::MAX.to_le_bytes().to_vec(), vec![b'{'; 100]].concat();
    assert_eq!(Checkpoint::from_safetensors(huge).unwrap_err().kind(), ErrorKind::WeightsFormat);
    let error = Checkpoint::open(Path::new("no-such-file.safetensors")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[test]
fn torch_files_that_are_cut_short_or_none_are_refused() {
    let bytes = std::fs::read(Corpus::open("caption_untied").folder.join("pytorch_model.bin")).unwrap();
    let scratch = Scratch::new("torch-files");
    for (index, content) in
        [&bytes[..0], &bytes[..3], &bytes[..bytes.len() / 2], &bytes[..bytes.len() - 30], b"plain text"]
            .into_iter()
            .enumerate()
    {
        let path = scratch.write(&format!("{index}.pth"), content);
        let error = Checkpoint::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WeightsFormat, "{index}: {error}");
        assert!(error.to_string().contains(&format!("{index}.pth")), "{error}");
    }
    let error = Checkpoint::open(&scratch.0.join("none.pth")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

/// A folder that is removed at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("blip-tests-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: a left-over in the system's temporary folder is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
#[test]
fn a_tensor_stored_under_both_of_its_names_is_refused_unless_equal() {
    let twice = |change: f32| {
        move |tensors: &mut BTreeMap<String, StoredTensor>| {
            let table = &tensors["vision_model.embeddings.class_embedding"];
            let (shape, mut floats) = (table.shape.clone(), table.to_f32().unwrap());
            floats[0] += change;
            tensors.insert("visual_encoder.cls_token".to_owned(), stored(shape, floats));
        }
    };
    refused(twice(1.0), ErrorKind::WeightsFormat, &["visual_encoder.cls_token", "class_embedding"]);
    let corpus = Corpus::open("caption");
    let mut checkpoint = corpus.checkpoint();
    twice(0.0)(&mut checkpoint.tensors);
    weights::load(&corpus.config, &checkpoint, &Device::flex()).unwrap();
}

#[test]
fn an_original_file_without_a_configuration_tells_its_own() {
    for (name, table) in layouts() {
        let tensors = table.names().into_iter().map(|(name, shape)| (name, unread(shape))).collect();
        let config = blip_web::convert::infer_config(&Checkpoint { tensors }).unwrap();
        let expected = if name.ends_with("large") { BlipConfig::large() } else { BlipConfig::base() };
        assert_eq!(config.vision_config.hidden_size, expected.vision_config.hidden_size, "{name}");
        let size = match &*name {
            "pth vqa base" => 480,
            "pth pretrain base" => 224,
            _ => 384,
        };
        assert_eq!(config.vision_config.image_size, size, "{name}");
        assert_eq!(config.text_config, expected.text_config, "{name}");
    }
    let tensors = BTreeMap::from([("visual_encoder.pos_embed".to_owned(), unread(vec![1, 50, 640]))]);
    let error = blip_web::convert::infer_config(&Checkpoint { tensors }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WeightsShape);
}

/// A tensor of which only the shape matters.
fn unread(shape: Vec<usize>) -> StoredTensor {
    StoredTensor::new(shape, Dtype::F32, || panic!("nobody needs the values"))
}
