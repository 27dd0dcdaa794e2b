//! The parity corpus: one folder a model, described in `fixtures/README.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use blip_web::config::BlipConfig;
use blip_web::generate::GenerateConfig;
use blip_web::model::{Blip, Networks, integers};
use blip_web::weights::{self, Checkpoint};
use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::SafeTensors;
use serde::Deserialize;

/// The fixtures of this crate.
pub fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// One model of the corpus with its cases and what they must give.
#[derive(Debug)]
pub struct Corpus {
    /// Its folder.
    pub folder: PathBuf,
    /// Its `config.json`.
    pub config: BlipConfig,
    /// Its cases.
    pub cases: Cases,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

/// `cases.json`.
#[derive(Debug, Deserialize)]
pub struct Cases {
    /// Image tokens.
    pub vision: Option<VisionCase>,
    /// Images of other sizes than the position table's.
    #[serde(default)]
    pub interpolation: Vec<InterpolationCase>,
    /// Teacher-forced logits.
    #[serde(default)]
    pub decoder: Vec<TextCase>,
    /// Text states with and without an image.
    #[serde(default)]
    pub retrieval: Vec<TextCase>,
    /// Question states and answer logits.
    pub vqa: Option<VqaCase>,
    /// Generated sequences.
    #[serde(default)]
    pub generation: Vec<GenerationCase>,
}

/// Image tokens of some images.
#[derive(Debug, Deserialize)]
pub struct VisionCase {
    /// Indices into `pixels`.
    pub images: Vec<usize>,
}

/// An image of another size.
#[derive(Debug, Deserialize)]
pub struct InterpolationCase {
    /// Prefix of its tensors.
    pub name: String,
    /// Side in pixels.
    pub size: usize,
    /// Patches along a side.
    pub grid: usize,
}

/// A batch of texts, right-padded.
#[derive(Debug, Deserialize)]
pub struct TextCase {
    /// Prefix of its tensors.
    pub name: String,
    /// Indices into `pixels`, one a row.
    pub images: Vec<usize>,
    /// Token ids.
    pub ids: Vec<Vec<u32>>,
    /// 1 for a token, 0 for padding.
    pub mask: Vec<Vec<u32>>,
    /// Mean next-token loss without label smoothing.
    #[serde(rename = "loss_0.0")]
    pub loss: Option<f32>,
    /// The same with label smoothing 0.1.
    #[serde(rename = "loss_0.1")]
    pub smoothed_loss: Option<f32>,
}

/// Questions and answers that attend to them.
#[derive(Debug, Deserialize)]
pub struct VqaCase {
    /// The questions.
    pub question: TextCase,
    /// The answers, which do not see the padding of the questions.
    pub answer: TextCase,
    /// The same answers where that padding is not hidden from them.
    pub answer_unmasked: TextCase,
}

/// Sequences that `generate` of the reference returns.
#[derive(Debug, Deserialize)]
pub struct GenerationCase {
    /// What the case is about.
    pub name: String,
    /// The question, for VQA.
    pub question_ids: Option<Vec<u32>>,
    /// What the decoder starts from.
    pub decoder_ids: Vec<u32>,
    /// Options in the reference's words.
    pub options: ReferenceOptions,
    /// The images, and what comes out for each.
    pub images: Vec<Generated>,
}

/// What comes out for one image.
#[derive(Debug, Deserialize)]
pub struct Generated {
    /// Index into `pixels`.
    pub image: usize,
    /// Whole sequences: what the decoder started from, and the end token where it was reached.
    pub sequences: Vec<Vec<u32>>,
    /// Sums of the model's log-probabilities.
    pub log_probs: Vec<f32>,
    /// Scores of beam search.
    pub scores: Option<Vec<f32>>,
}

/// Options of the reference's `generate`; one that is not listed here is an error, not ignored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceOptions {
    max_length: usize,
    #[serde(default)]
    min_length: usize,
    num_beams: Option<usize>,
    repetition_penalty: Option<f64>,
    length_penalty: Option<f64>,
    num_return_sequences: Option<usize>,
}

impl ReferenceOptions {
    /// The same in this library's words.
    pub fn config(&self) -> GenerateConfig {
        GenerateConfig {
            max_length: self.max_length,
            min_length: self.min_length,
            num_beams: self.num_beams.unwrap_or(1),
            repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
            length_penalty: self.length_penalty.unwrap_or(1.0),
            num_captions: self.num_return_sequences.unwrap_or(1),
            ..GenerateConfig::default()
        }
    }
}

impl Corpus {
    /// The model in `fixtures/parity/<name>`.
    ///
    /// # Panics
    /// When the fixture is damaged.
    pub fn open(name: &str) -> Self {
        Self::read(name).unwrap_or_else(|error| panic!("fixture `{name}`: {error:#}"))
    }

    fn read(name: &str) -> Result<Self> {
        let folder = fixtures().join("parity").join(name);
        let text = |file: &str| std::fs::read_to_string(folder.join(file)).context(file.to_owned());
        let config = BlipConfig::from_json(&text("config.json")?)?;
        let cases = serde_json::from_str(&text("cases.json")?)?;
        let bytes = std::fs::read(folder.join("expected.safetensors"))?;
        let tensors = SafeTensors::deserialize(&bytes)?
            .iter()
            .map(|(name, view)| {
                let floats = view.data().as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk));
                (name.to_owned(), (view.shape().to_vec(), floats.collect()))
            })
            .collect();
        Ok(Self { folder, config, cases, tensors })
    }

    /// Its `model.safetensors`.
    ///
    /// # Panics
    /// When the file cannot be read.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::open(&self.folder.join("model.safetensors")).expect("the fixture has weights")
    }

    /// The model on `device`, through the library's own loader.
    ///
    /// # Panics
    /// When the library refuses the weights.
    pub fn load(&self, device: &Device) -> (Blip, Networks) {
        weights::load(&self.config, &self.checkpoint(), device).expect("the fixture has complete weights")
    }

    /// The expected tensor of that name, row-major.
    ///
    /// # Panics
    /// When there is none.
    pub fn expected(&self, name: &str) -> &[f32] {
        &self.tensor_of(name).1
    }

    /// An input tensor of the fixture on `device`.
    ///
    /// # Panics
    /// When there is none.
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (shape, floats) = self.tensor_of(name);
        Tensor::from_data(TensorData::new(floats.clone(), shape.clone()), device)
    }

    /// Those images of the pool: `[images, 3, size, size]`.
    pub fn images(&self, indices: &[usize], device: &Device) -> Tensor<4> {
        let pool = self.tensor::<4>("pixels", device);
        Tensor::cat(indices.iter().map(|index| pool.clone().narrow(0, *index, 1)).collect(), 0)
    }

    fn tensor_of(&self, name: &str) -> &(Vec<usize>, Vec<f32>) {
        self.tensors.get(name).unwrap_or_else(|| panic!("the fixture has no tensor `{name}`"))
    }
}

impl TextCase {
    /// Token ids `[batch, seq]`.
    pub fn ids(&self, device: &Device) -> Tensor<2, Int> {
        ids(&self.ids, device)
    }

    /// `[batch, seq]`, 1 at padding; `None` without any.
    pub fn pads(&self, device: &Device) -> Option<Tensor<2, Int>> {
        let pads: Vec<i32> = self.mask.iter().flatten().map(|kept| i32::from(*kept == 0)).collect();
        let shape = [self.mask.len(), self.mask[0].len()];
        pads.contains(&1).then(|| integers(pads, shape, device))
    }

    /// Tokens of each row, without padding.
    pub fn lengths(&self) -> Vec<usize> {
        self.mask.iter().map(|row| row.iter().sum::<u32>() as usize).collect()
    }

    /// Of `values`, `[batch, seq, dim]` row-major, those that belong to tokens and not to padding.
    pub fn without_padding(&self, values: &[f32]) -> Vec<f32> {
        let kept: Vec<bool> = self.mask.iter().flatten().map(|kept| *kept == 1).collect();
        let rows = values.chunks(values.len() / kept.len());
        rows.zip(kept).filter(|(_, kept)| *kept).flat_map(|(row, _)| row.to_vec()).collect()
    }
}

/// Token ids `[batch, seq]` of equally long rows.
pub fn ids(rows: &[Vec<u32>], device: &Device) -> Tensor<2, Int> {
    let flat: Vec<i32> = rows.iter().flatten().map(|id| *id as i32).collect();
    integers(flat, [rows.len(), rows[0].len()], device)
}
