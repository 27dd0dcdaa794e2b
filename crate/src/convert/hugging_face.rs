//! The way back: a checkpoint as a folder that Hugging Face's `transformers` loads.
//!
//! One folder is one class of theirs, which holds one task's networks: a checkpoint of several tasks
//! becomes several folders. Every number is written as a float; what was quantised is written as the
//! numbers that it stands for, which f32 holds exactly. `transformers` then has the weights that this
//! project has, though not its results to the last digit: products with quantised matrices round the
//! other factor as well.
//! The image size is the configuration's, in `config.json` and in `preprocessor_config.json`.

use std::io::Write;

use serde_json::{Value, json};

use super::{VOCAB, WEIGHTS};
use crate::config::BlipConfig;
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Container, Precision, TensorReport, complete_vocabulary};
use crate::{Error, ErrorKind, Result};

/// [`CLIP_MEAN`](crate::image::CLIP_MEAN) in the digits that CLIP publishes, more than an f32 has.
const MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
/// [`CLIP_STD`](crate::image::CLIP_STD) likewise.
const STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// A class of `transformers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// `BlipForConditionalGeneration`: captions.
    ConditionalGeneration,
    /// `BlipForQuestionAnswering`: answers.
    QuestionAnswering,
    /// `BlipForImageTextRetrieval`: matching and contrast.
    ImageTextRetrieval,
}

impl Class {
    /// The class for a task, in the words of a manifest; `nlvr2` has none.
    pub fn of(task: &str) -> Option<Self> {
        match task {
            "caption" => Some(Self::ConditionalGeneration),
            "vqa" => Some(Self::QuestionAnswering),
            "itm" | "itc" => Some(Self::ImageTextRetrieval),
            _ => None,
        }
    }

    /// Its name in Python.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConditionalGeneration => "BlipForConditionalGeneration",
            Self::QuestionAnswering => "BlipForQuestionAnswering",
            Self::ImageTextRetrieval => "BlipForImageTextRetrieval",
        }
    }

    /// The name of its folder, where there are several.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::ConditionalGeneration => "caption",
            Self::QuestionAnswering => "vqa",
            Self::ImageTextRetrieval => "retrieval",
        }
    }

    /// Whether it has a parameter, by its name in our words.
    fn has(self, path: &str) -> bool {
        let (heads, networks): (&[&str], &[&str]) = match self {
            Self::ConditionalGeneration => (&["lm."], &["text_decoder."]),
            Self::QuestionAnswering => (&["lm."], &["text_encoder.", "text_decoder."]),
            Self::ImageTextRetrieval => (&["itc.", "itm."], &["text_encoder."]),
        };
        path.starts_with("vision.") || heads.iter().chain(networks).any(|start| path.starts_with(start))
    }
}

/// A folder for one class, about to be written.
#[derive(Debug)]
pub struct HuggingFaceFolder<'a> {
    class: Class,
    config: BlipConfig,
    precision: Precision,
    container: Container<'a>,
}

impl<'a> HuggingFaceFolder<'a> {
    /// The folder of a checkpoint's networks for a class, as f32 or f16.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] when the checkpoint lacks what the class has, or the class could not
    /// hold it; [`ErrorKind::BadOption`] for another precision; and what [`crate::weights::load`] would find
    /// wrong with names, shapes and copies.
    pub fn new(
        class: Class,
        config: &BlipConfig,
        checkpoint: &'a Checkpoint,
        precision: Precision,
    ) -> Result<Self> {
        let container = Container::plain(config, checkpoint, precision)?;
        let networks = container.networks();
        let refused = |why: String| {
            Err(Error::new(ErrorKind::TaskUnsupported, format!("{} needs {why}", class.name())))
        };
        let retrieval = class == Class::ImageTextRetrieval;
        let missing = [
            ("an image encoder", networks.vision, true),
            ("a text encoder", networks.text_encoder, class != Class::ConditionalGeneration),
            ("a text decoder", networks.decoder.is_some(), !retrieval),
            ("the projections of ITC", networks.itc, retrieval),
            ("the head of ITM", networks.itm, retrieval),
        ];
        if let Some((what, ..)) = missing.into_iter().find(|(_, is_there, is_needed)| *is_needed && !is_there)
        {
            return refused(format!("{what}, which the checkpoint has not"));
        }
        let (vision, text) = (config.vision_config.hidden_size, config.text_config.hidden_size);
        if class == Class::QuestionAnswering && vision != text {
            return refused(format!(
                "text states as wide as image tokens, because it builds both of its text networks alike; this \
                 model has {text} and {vision}"
            ));
        }
        let container = container.limited_to(|path| class.has(path));
        Ok(Self { class, config: config.clone(), precision, container })
    }

    /// Its class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether matrices of the checkpoint are quantised, and written as what they stand for.
    pub fn is_dequantised(&self) -> bool {
        self.container.is_quantised_source()
    }

    /// Writes [`WEIGHTS`], one tensor in memory at a time. `progress` hears of each, with the number of all.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsNotFinite`] for values that are no numbers or too large for f16,
    /// [`ErrorKind::Io`] when `out` fails, and what reading the checkpoint fails with.
    pub fn write_weights(
        &self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(&TensorReport, usize),
    ) -> Result<()> {
        let all = self.container.len();
        self.container.write(WEIGHTS, out, &mut |line| progress(&line, all)).map(drop)
    }

    /// The other files, by name: configuration, tokenizer, preprocessing, and a page about where the
    /// weights are from.
    ///
    /// # Errors
    /// [`ErrorKind::BadVocabulary`] for a vocabulary that is not the model's.
    pub fn files(&self, vocab: &[u8], id: &str, licence: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let vocab = complete_vocabulary(vocab, &self.config)?;
        let tokenizer = Tokenizer::from_vocab(&vocab)?;
        let lines = String::from_utf8_lossy(&vocab);
        let has_mask = lines.lines().any(|line| line.trim_end() == "[MASK]");
        let json = |value: Value| (format!("{value:#}") + "\n").into_bytes();
        Ok(vec![
            ("config.json", json(self.config_json())),
            ("preprocessor_config.json", json(self.preprocessor_json())),
            ("tokenizer_config.json", json(self.tokenizer_config(has_mask))),
            ("tokenizer.json", json(tokenizer_json(&lines, &tokenizer, has_mask))),
            ("README.md", self.page(id, licence).into_bytes()),
            (VOCAB, vocab),
        ])
    }

    /// The configuration, with what their classes have beside our dimensions: no dropout, as in every
    /// published file. Only cross-attention depends on `is_decoder`, whatever its name says.
    fn config_json(&self) -> Value {
        let BlipConfig { vision_config, text_config, image_text_hidden_size } = &self.config;
        let tied = self.container.networks().tied_lm;
        let mut vision = json!(vision_config);
        extend(&mut vision, json!({"model_type": "blip_vision_model", "attention_dropout": 0.0}));
        let mut text = json!(text_config);
        let further = json!({
            "model_type": "blip_text_model",
            "encoder_hidden_size": vision_config.hidden_size,
            // Generation ends there; the published files have a 2 that nothing reads.
            "eos_token_id": text_config.sep_token_id,
            "is_decoder": true,
            "use_cache": true,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "label_smoothing": 0.0,
            "tie_word_embeddings": tied,
        });
        extend(&mut text, further);
        json!({
            "architectures": [self.class.name()],
            "model_type": "blip",
            "dtype": if self.precision == Precision::F16 { "float16" } else { "float32" },
            "image_text_hidden_size": image_text_hidden_size,
            "label_smoothing": 0.0,
            "tie_word_embeddings": tied,
            "text_config": text,
            "vision_config": vision,
        })
    }

    /// What makes pixels of pictures: Pillow's bicubic to the model's square, CLIP's mean and deviation.
    fn preprocessor_json(&self) -> Value {
        let side = self.config.vision_config.image_size;
        json!({
            "image_processor_type": "BlipImageProcessor",
            "processor_class": "BlipProcessor",
            "do_convert_rgb": true,
            "do_resize": true,
            "size": {"height": side, "width": side},
            "resample": 3,
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": MEAN,
            "image_std": STD,
        })
    }

    fn tokenizer_config(&self, has_mask: bool) -> Value {
        json!({
            "tokenizer_class": "BertTokenizer",
            "processor_class": "BlipProcessor",
            "do_lower_case": true,
            "model_max_length": self.config.text_config.max_position_embeddings,
            "model_input_names": ["input_ids", "attention_mask"],
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": has_mask.then_some("[MASK]"),
            "bos_token": "[DEC]",
            "additional_special_tokens": ["[ENC]"],
        })
    }

    fn page(&self, id: &str, licence: &str) -> String {
        let (class, size) = (self.class.name(), self.config.vision_config.image_size);
        let kind = if self.precision == Precision::F16 { "f16" } else { "f32" };
        format!(
            "---\nlibrary_name: transformers\nlicense: other\nlicense_name: \"{licence}\"\n---\n\n\
             # {id}\n\n\
             `{class}` at {size} px in {kind}, written by `blip convert --to hf`.\n\
             The weights are under {licence}.\n"
        )
    }
}

/// Puts the entries of an object into another.
fn extend(object: &mut Value, with: Value) {
    if let (Value::Object(object), Value::Object(with)) = (object, with) {
        object.extend(with);
    }
}

/// BERT's uncased WordPiece with `[DEC]` and `[ENC]` as special tokens, as the `tokenizers` library reads
/// it.
fn tokenizer_json(lines: &str, tokenizer: &Tokenizer, has_mask: bool) -> Value {
    let vocab: serde_json::Map<String, Value> =
        lines.lines().enumerate().map(|(id, token)| (token.trim_end().to_owned(), id.into())).collect();
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"];
    let mut added: Vec<(&str, u64)> = specials
        .into_iter()
        .filter(|token| has_mask || *token != "[MASK]")
        .filter_map(|token| Some((token, vocab.get(token)?.as_u64()?)))
        .collect();
    added.sort_by_key(|(_, id)| *id);
    let added: Vec<Value> = added
        .into_iter()
        .map(|(content, id)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let sequence = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    let frame = |token: &str, id: u32| json!({"id": token, "ids": [id], "tokens": [token]});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]"), sequence("A", 0), special("[SEP]")],
            "pair": [
                special("[CLS]"), sequence("A", 0), special("[SEP]"), sequence("B", 1), special("[SEP]"),
            ],
            "special_tokens": {
                "[CLS]": frame("[CLS]", tokenizer.cls()), "[SEP]": frame("[SEP]", tokenizer.sep()),
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_but_nlvr2_has_a_class() {
        let classes = ["caption", "vqa", "itm", "itc", "nlvr2"].map(Class::of);
        assert_eq!(classes[0].map(Class::name), Some("BlipForConditionalGeneration"));
        assert_eq!(classes[1].map(Class::folder), Some("vqa"));
        assert!(classes[2] == classes[3] && classes[4].is_none());
    }

    #[test]
    fn a_class_takes_its_own_networks_and_the_image_encoder() {
        let has = |class: Class| {
            ["vision.x", "text_encoder.x", "text_decoder.x", "lm.x", "itc.x", "itm.x", "nlvr2.x"]
                .map(|path| u8::from(class.has(path)))
        };
        assert_eq!(has(Class::ConditionalGeneration), [1, 0, 1, 1, 0, 0, 0]);
        assert_eq!(has(Class::QuestionAnswering), [1, 1, 1, 1, 0, 0, 0]);
        assert_eq!(has(Class::ImageTextRetrieval), [1, 1, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn the_digits_are_those_of_our_own_numbers() {
        assert_eq!(MEAN.map(|value| value as f32), crate::image::CLIP_MEAN);
        assert_eq!(STD.map(|value| value as f32), crate::image::CLIP_STD);
    }
}
