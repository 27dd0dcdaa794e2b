//! Models that begin with the weights of others: a captioner, a filter or a VQA model of a pre-trained
//! one (spec §1.6).

use std::collections::{BTreeMap, HashMap};

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::fresh::FreshParameters;
use crate::config::BlipConfig;
use crate::model::{Blip, Networks, interpolate_positions};
use crate::nn::{Matrix, Source};
use crate::weights::keymap::{Meaning, meaning};
use crate::weights::{Checkpoint, Parameter, Part, StoredTensor, schema};
use crate::{Error, ErrorKind, Result};

/// What of a checkpoint a model begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inheritance {
    /// Everything that it has.
    #[default]
    All,
    /// The image encoder; text networks begin anew, as pre-training in the paper begins with an image
    /// encoder that was trained on labels.
    Vision,
}

/// A model with the weights of a checkpoint, as far as that has them.
#[derive(Debug)]
pub struct Inherited {
    /// The model.
    pub model: Blip,
    /// The parameters that are fresh, because the checkpoint had not their like: heads of another task, or
    /// a decoder's keys and values of states of another width.
    pub fresh: Vec<String>,
}

/// A model of this configuration with the weights of a checkpoint of other networks.
///
/// What a network has by the same name is taken. Both cross-attentions of an NLVR2 model begin as the one
/// of the checkpoint; the decoder in an encoder's network begins as that of a decoder's network, and so does
/// an encoder where there was only a decoder; a position table is interpolated to the pictures' size.
///
/// # Errors
/// [`ErrorKind::WeightsMissing`] and [`ErrorKind::WeightsShape`] for what cannot begin anew: all but heads,
/// the matrices that merge two images, and the decoder's keys and values.
pub fn inherit(
    checkpoint: &Checkpoint,
    config: &BlipConfig,
    networks: &Networks,
    inheritance: Inheritance,
    seed: u64,
    device: &Device,
) -> Result<Inherited> {
    let mut found = BTreeMap::new();
    for (name, tensor) in &checkpoint.tensors {
        if let Meaning::Parameter(path) = meaning(name) {
            found.insert(path, tensor);
        }
    }
    let wanted = schema(config, networks, device).into_iter().map(|about| (about.path.clone(), about));
    let mut source = Heir {
        found,
        wanted: wanted.collect(),
        inheritance,
        begin: FreshParameters::new(seed, device),
        fresh: Vec::new(),
        failed: None,
    };
    let model = Blip::build(&mut source, config, networks);
    match source.failed {
        Some(error) => Err(error),
        None => Ok(Inherited { model, fresh: source.fresh }),
    }
}

/// A source of parameters that has those of a checkpoint, and makes others.
struct Heir<'a> {
    found: BTreeMap<String, &'a StoredTensor>,
    wanted: HashMap<String, Parameter>,
    inheritance: Inheritance,
    begin: FreshParameters,
    fresh: Vec<String>,
    failed: Option<Error>,
}

impl Heir<'_> {
    /// The values of a parameter; none where it begins anew.
    fn values(&mut self, path: &str) -> Option<Vec<f32>> {
        let about = self.wanted.get(path)?.clone();
        let parts: Result<Vec<Option<Vec<f32>>>> = about.parts.iter().map(|part| self.part(part)).collect();
        match parts.map(|parts| parts.into_iter().collect::<Option<Vec<_>>>()) {
            Ok(Some(parts)) => Some(parts.concat()),
            Ok(None) => {
                self.fresh.push(about.path);
                None
            }
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }

    fn part(&self, part: &Part) -> Result<Option<Vec<f32>>> {
        if self.inheritance == Inheritance::Vision && !part.path.starts_with("vision.") {
            return Ok(None);
        }
        let Some(stored) = alike(&part.path).iter().find_map(|path| self.found.get(path)) else {
            if may_begin(&part.path) {
                return Ok(None);
            }
            let message = format!("weights: 1 tensors are missing: `{}`", part.path);
            return Err(Error::new(ErrorKind::WeightsMissing, message));
        };
        if stored.elements() == part.rows * part.columns && shape_fits(&stored.shape, part) {
            return stored.to_f32().map(Some);
        }
        match &stored.shape[..] {
            [1, tokens, width] if part.path == "vision.position_embedding" && *width == part.columns => {
                resized(stored, *tokens, part).map(Some)
            }
            _ if may_begin(&part.path) => Ok(None),
            shape => {
                let message = format!(
                    "weights: `{}` has the shape {shape:?}, expected {:?}: the checkpoint is of another model",
                    part.path, part.shape
                );
                Err(Error::new(ErrorKind::WeightsShape, message))
            }
        }
    }

    fn tensor<const D: usize>(
        &mut self,
        path: &str,
        shape: [usize; D],
        fresh: impl FnOnce(&mut FreshParameters) -> Param<Tensor<D>>,
    ) -> Param<Tensor<D>> {
        match self.values(path) {
            Some(values) => {
                let device = self.begin.device();
                Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
            }
            None => fresh(&mut self.begin),
        }
    }
}

impl Source for Heir<'_> {
    fn device(&self) -> &Device {
        self.begin.device()
    }

    fn matrix(&mut self, path: &str, shape: [usize; 2]) -> Matrix {
        match self.values(path) {
            Some(values) => {
                let values = Tensor::from_data(TensorData::new(values, shape), self.begin.device());
                Matrix::from_parameter(Param::from_tensor(values))
            }
            None => self.begin.matrix(path, shape),
        }
    }

    fn table(&mut self, path: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
        self.tensor(path, shape, |fresh| fresh.table(path, shape))
    }

    fn vector(&mut self, path: &str, len: usize) -> Param<Tensor<1>> {
        self.tensor(path, [len], |fresh| fresh.vector(path, len))
    }

    fn norm(&mut self, path: &str, width: usize) -> Param<Tensor<2>> {
        self.tensor(path, [2, width], |fresh| fresh.norm(path, width))
    }
}

/// The paths whose values may be taken for a parameter, the best first.
fn alike(path: &str) -> Vec<String> {
    let mut paths = vec![path.to_owned()];
    for branch in [".crossattention.first.", ".crossattention.second."] {
        if path.contains(branch) {
            paths.push(path.replace(branch, ".crossattention."));
        }
    }
    if path.starts_with("text_encoder.") {
        paths.push(
            path.replace("text_encoder.", "text_decoder.").replace(".causal_attention.", ".attention."),
        );
    }
    paths
}

/// Whether a parameter can do without the checkpoint.
fn may_begin(path: &str) -> bool {
    let head = ["itc.", "itm.", "nlvr2."].iter().any(|prefix| path.starts_with(prefix));
    let looks = ["key", "value"].iter().any(|name| path.contains(&format!(".crossattention.{name}.")));
    head || path.contains(".crossattention.merge.") || (path.starts_with("text_decoder.") && looks)
}

/// Whether a stored shape is the part's, or its rows.
fn shape_fits(shape: &[usize], part: &Part) -> bool {
    shape == part.shape || shape == [part.rows, part.columns]
}

/// A position table of `tokens` rows for another number of patches.
fn resized(stored: &StoredTensor, tokens: usize, part: &Part) -> Result<Vec<f32>> {
    let device = Device::flex();
    let table = TensorData::new(stored.to_f32()?, [tokens, part.columns]);
    let grid = (part.rows - 1).isqrt();
    let table = interpolate_positions(Tensor::from_data(table, &device), grid, grid);
    let values = crate::device::block_on(crate::kernels::read_floats(table));
    values.map_err(|cause| {
        Error::new(ErrorKind::Internal, "the position table cannot be resized").with_source(cause)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DecoderNetwork;
    use crate::weights::named_tensors;

    fn config() -> BlipConfig {
        let mut config = BlipConfig::tiny(30, 5, 3);
        (config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers) = (1, 2);
        (config.vision_config.image_size, config.vision_config.patch_size) = (24, 12);
        config
    }

    fn networks(decoder: Option<DecoderNetwork>, nlvr2: bool) -> Networks {
        let tied_lm = true;
        Networks { vision: true, text_encoder: true, decoder, tied_lm, itc: !nlvr2, itm: !nlvr2, nlvr2 }
    }

    /// A pre-trained model, its files, and those of a model that inherits from them.
    fn tensors(wanted: &Networks, config_of_heir: &BlipConfig) -> [crate::weights::NamedTensors; 2] {
        let device = Device::flex();
        let shared = networks(Some(DecoderNetwork::Shared), false);
        let parent = Blip::build(&mut FreshParameters::new(1, &device), &config(), &shared);
        let named = named_tensors(&parent).unwrap();
        let heir =
            inherit(&named.clone().into(), config_of_heir, wanted, Inheritance::All, 2, &device).unwrap();
        [named, named_tensors(&heir.model).unwrap()]
    }

    #[test]
    fn a_pretrained_model_comes_back_as_it_was() {
        let shared = networks(Some(DecoderNetwork::Shared), false);
        let [parent, heir] = tensors(&shared, &config());
        assert_eq!(parent, heir);
        let attention = "encoder.layer.1.attention.self.query.weight";
        assert_ne!(
            parent[&format!("text_encoder.{attention}")],
            parent[&format!("text_decoder.bert.{attention}")]
        );
        let ffn = "encoder.layer.1.intermediate.dense.weight";
        assert_eq!(parent[&format!("text_encoder.{ffn}")], parent[&format!("text_decoder.bert.{ffn}")]);
    }

    #[test]
    fn a_captioner_takes_the_decoder_and_a_filter_the_encoder() {
        let config = config();
        let caption = Networks::caption(config.vision_config.hidden_size);
        let [parent, captioner] = tensors(&caption, &config);
        assert!(captioner.keys().all(|name| !name.starts_with("text_encoder.")));
        assert!(captioner.iter().all(|(name, values)| parent[name] == *values));
        let [parent, filter] = tensors(&networks(None, false), &config);
        assert!(filter.iter().all(|(name, values)| parent[name] == *values));
        assert!(
            filter.contains_key("itm_head.weight")
                && !filter.contains_key("text_decoder.cls.predictions.bias")
        );
    }

    #[test]
    fn an_encoder_begins_as_the_decoder_where_there_was_only_that() {
        let (config, device) = (config(), Device::flex());
        let caption = Networks::caption(config.vision_config.hidden_size);
        let parent = Blip::build(&mut FreshParameters::new(1, &device), &config, &caption);
        let named = named_tensors(&parent).unwrap();
        let shared = networks(Some(DecoderNetwork::Shared), false);
        let all = Inheritance::All;
        let heir = inherit(&named.clone().into(), &config, &shared, all, 2, &device).unwrap();
        let after = named_tensors(&heir.model).unwrap();
        for name in ["attention.self.query.weight", "crossattention.self.key.weight"] {
            let name = format!("encoder.layer.1.{name}");
            let before = &named[&format!("text_decoder.bert.{name}")];
            assert_eq!(&after[&format!("text_encoder.{name}")], before);
            assert_eq!(&after[&format!("text_decoder.bert.{name}")], before);
        }
    }

    #[test]
    fn an_image_encoder_alone_leaves_texts_fresh() {
        let (config, device) = (config(), Device::flex());
        let shared = networks(Some(DecoderNetwork::Shared), false);
        let parent = Blip::build(&mut FreshParameters::new(1, &device), &config, &shared);
        let named = named_tensors(&parent).unwrap();
        let mut wider = config.clone();
        wider.text_config.vocab_size += 5;
        let vision = Inheritance::Vision;
        let heir = inherit(&named.clone().into(), &wider, &shared, vision, 2, &device).unwrap();
        let after = named_tensors(&heir.model).unwrap();
        for (name, values) in &after {
            if name.starts_with("vision_model.") {
                assert_eq!(values, &named[name]);
            }
        }
        let name = "text_encoder.encoder.layer.1.intermediate.dense.weight";
        assert_ne!(after[name], named[name]);
    }

    #[test]
    fn a_vqa_model_takes_both_networks() {
        let config = config();
        let grounding_width = config.text_config.hidden_size;
        let vqa = Networks {
            itc: false,
            itm: false,
            ..networks(Some(DecoderNetwork::Own { grounding_width }), false)
        };
        let [parent, heir] = tensors(&vqa, &config);
        assert!(heir.iter().all(|(name, values)| parent[name] == *values));
    }

    #[test]
    fn both_cross_attentions_begin_as_the_one_that_was_trained() {
        let [parent, heir] = tensors(&networks(None, true), &config());
        let layer = "text_encoder.encoder.layer.1.crossattention";
        for branch in 0..2 {
            assert_eq!(
                heir[&format!("{layer}.self{branch}.key.weight")],
                parent[&format!("{layer}.self.key.weight")]
            );
            assert_eq!(
                heir[&format!("{layer}.output.dense{branch}.weight")],
                parent[&format!("{layer}.output.dense.weight")]
            );
        }
        assert_eq!(
            heir["text_encoder.embeddings.word_embeddings.weight"],
            parent["text_encoder.embeddings.word_embeddings.weight"]
        );
    }

    #[test]
    fn positions_are_interpolated_and_other_shapes_refused() {
        let mut larger = config();
        larger.vision_config.image_size = 48;
        let [parent, heir] = tensors(&networks(None, false), &larger);
        let name = "vision_model.embeddings.position_embedding";
        assert_eq!((&parent[name].0[..], &heir[name].0[..]), (&[1, 5, 160][..], &[1, 17, 160][..]));
        assert_eq!(heir[name].1[..160], parent[name].1[..160], "the class token's row is kept");

        let device = Device::flex();
        let shared = networks(Some(DecoderNetwork::Shared), false);
        let parent = Blip::build(&mut FreshParameters::new(1, &device), &config(), &shared);
        let checkpoint: Checkpoint = named_tensors(&parent).unwrap().into();
        let mut other = config();
        other.text_config.vocab_size = 31;
        let all = Inheritance::All;
        let error = inherit(&checkpoint, &other, &networks(None, false), all, 2, &device).unwrap_err();
        assert_eq!(error.code(), "weights-shape");
        let filter = named_tensors(
            &inherit(&checkpoint, &config(), &networks(None, false), all, 2, &device).unwrap().model,
        );
        let error = inherit(&filter.unwrap().into(), &config(), &Networks::caption(160), all, 2, &device)
            .unwrap_err();
        assert_eq!(error.code(), "weights-missing");
    }
}
