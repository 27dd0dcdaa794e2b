//! The twin of `fixtures/training`: models with the formula's numbers, and short accounts of tensors.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use blip_web::config::BlipConfig;
use blip_web::model::{Blip, Networks};
use blip_web::nn::{Matrix, Source};
use blip_web::train::objectives::Learner;
use blip_web::weights::keymap::hugging_face;
use blip_web::weights::{Checkpoint, NamedTensors, Parameter, named_tensors, schema};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

use crate::formula;

/// The fixture: `cases.json`, its tensors, and the dimensions of its models.
#[derive(Debug)]
pub struct Fixture {
    /// `cases.json`.
    pub cases: Value,
    /// The dimensions.
    pub config: BlipConfig,
    tensors: Checkpoint,
}

impl Fixture {
    /// Reads it.
    pub fn load() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/training");
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).expect("the fixture is there");
        Self {
            cases: serde_json::from_str(&text("cases.json")).expect("JSON"),
            config: BlipConfig::from_json(&text("config.json")).expect("a configuration"),
            tensors: Checkpoint::open(&folder.join("tensors.safetensors")).expect("safetensors"),
        }
    }

    /// A case.
    pub fn case(&self, name: &str) -> &Value {
        &self.cases["cases"][name]
    }

    /// The values of a tensor.
    pub fn values(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensors.tensors.get(name).unwrap_or_else(|| panic!("a tensor `{name}`"));
        tensor.to_f32().expect("floats")
    }

    /// A tensor of rank two, on a device without a graph.
    pub fn tensor(&self, name: &str) -> Tensor<2> {
        let shape = &self.tensors.tensors[name].shape;
        Tensor::from_data(TensorData::new(self.values(name), [shape[0], shape[1]]), &Device::flex())
    }

    /// The parameters that summaries of these networks are about.
    pub fn names(&self, networks: &str) -> Vec<String> {
        strings(&self.cases["parameters"][networks])
    }

    /// Normalised pixels of the first pictures of a step.
    pub fn pixels(&self, step: usize, count: usize) -> Vec<f32> {
        (0..count).flat_map(|index| formula::image(&format!("training.{step}.{index}"), 32, 8)).collect()
    }

    /// A model with the formula's numbers; those of the momentum copies with `momentum.` as prefix.
    pub fn model(&self, networks: &Networks, prefix: &str, device: &Device) -> Blip {
        let parameters = schema(&self.config, networks, device);
        let wanted = parameters.into_iter().map(|about| (about.path.clone(), about)).collect();
        let mut source = FormulaSource { wanted, prefix: prefix.to_owned(), device: device.clone() };
        Blip::build(&mut source, &self.config, networks)
    }
}

/// Strings of a JSON list.
pub fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).expect("strings")
}

struct FormulaSource {
    wanted: HashMap<String, Parameter>,
    prefix: String,
    device: Device,
}

impl FormulaSource {
    fn values(&self, path: &str) -> Vec<f32> {
        let of_part = |part: &blip_web::weights::Part| {
            // The decoder's self-attention has a name of its own in files.
            let path = match part.path.contains(".causal_attention.") {
                true => part
                    .path
                    .replace("text_encoder", "text_decoder")
                    .replace(".causal_attention.", ".attention."),
                false => part.path.clone(),
            };
            let name = hugging_face(&path).expect("a name in files");
            let matrix =
                part.shape.len() >= 2 && name.ends_with(".weight") && !name.ends_with("_embeddings.weight");
            let gain = if matrix { 4.0 } else { 1.0 };
            formula::weight(&format!("{}{name}", self.prefix), &part.shape).into_iter().map(move |x| gain * x)
        };
        self.wanted[path].parts.iter().flat_map(of_part).collect()
    }

    fn tensor<const D: usize>(&self, path: &str, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_tensor(Tensor::from_data(TensorData::new(self.values(path), shape), &self.device))
    }
}

impl Source for FormulaSource {
    fn device(&self) -> &Device {
        &self.device
    }

    fn matrix(&mut self, path: &str, shape: [usize; 2]) -> Matrix {
        Matrix::from_parameter(self.tensor(path, shape))
    }

    fn table(&mut self, path: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
        self.tensor(path, shape)
    }

    fn vector(&mut self, path: &str, len: usize) -> Param<Tensor<1>> {
        self.tensor(path, [len])
    }

    fn norm(&mut self, path: &str, width: usize) -> Param<Tensor<2>> {
        self.tensor(path, [2, width])
    }
}

/// A module with the values of another of the same fields, each parameter still itself.
pub fn with_values<M: Module>(module: M, values: &impl Module) -> M {
    let mut paths = Paths::default();
    values.visit(&mut paths);
    paths.path.clear();
    module.map(&mut paths)
}

#[derive(Default)]
struct Paths {
    path: Vec<String>,
    values: HashMap<String, TensorData>,
}

impl ModuleVisitor for Paths {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values.insert(self.path.join("."), param.val().inner().into_data());
    }
}

impl ModuleMapper for Paths {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.values.remove(&self.path.join(".")) {
            Some(value) => param.map(|old| Tensor::from_data(value, &old.device())),
            None => param,
        }
    }
}

/// Gradients under the names of files; zeros where there are none, `temp` for the temperature.
pub fn named_gradients(learner: &Learner, gradients: GradientsParams) -> NamedTensors {
    let mut filled = Gradients(gradients);
    let learner = learner.valid().map(&mut filled);
    named(&learner)
}

/// The parameters of a learner under the names of files.
pub fn named(learner: &Learner) -> NamedTensors {
    let mut named = named_tensors(&learner.blip).expect("plain parameters");
    if let Some(contrast) = &learner.contrast {
        let value = contrast.temperature().inner().into_data().iter::<f32>().collect();
        named.insert("temp".to_owned(), (vec![], value));
    }
    named
}

struct Gradients(GradientsParams);

impl ModuleMapper for Gradients {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let gradient = self.0.remove::<D>(param.id);
        param.map(|value| gradient.unwrap_or_else(|| value.zeros_like()))
    }
}

/// `after − before`, tensor by tensor.
pub fn changes(before: &NamedTensors, after: &NamedTensors) -> NamedTensors {
    let change = |(name, (shape, after)): (&String, &(Vec<usize>, Vec<f32>))| {
        let values = after.iter().zip(&before[name].1).map(|(after, before)| after - before).collect();
        (name.clone(), (shape.clone(), values))
    };
    after.iter().map(change).collect()
}

const COLUMNS: usize = 13;

/// Length, four projections and eight elements of each tensor, as the fixture accounts for them.
pub fn summary(names: &[String], tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> Vec<f64> {
    let row = |name: &String| {
        let mut values: Vec<f64> = tensors
            .get(name)
            .map(|(_, values)| values.iter().map(|x| f64::from(*x)).collect())
            .unwrap_or_default();
        if values.is_empty() {
            return vec![0.0; COLUMNS];
        }
        without_key_bias(name, &mut values);
        let mut row = vec![values.iter().map(|x| x * x).sum::<f64>().sqrt()];
        for projection in 0..4 {
            let seed = formula::fnv1a(&format!("projection.{projection}.{name}"));
            let terms = values.iter().enumerate();
            row.push(terms.map(|(index, x)| x * f64::from(formula::uniform(seed, index as u64))).sum());
        }
        let seed = formula::fnv1a(&format!("probe.{name}"));
        row.extend((0..8).map(|probe| values[(formula::bits(seed, probe) % values.len() as u64) as usize]));
        row
    };
    names.iter().flat_map(row).collect()
}

/// A key's bias moves all scores of a row alike: its gradient is zero but for rounding.
fn without_key_bias(name: &str, values: &mut [f64]) {
    let all = values.len();
    let place = match name {
        name if name.ends_with(".self_attn.qkv.bias") => all / 3..all - all / 3,
        name if name.ends_with(".key.bias") => 0..all,
        _ => 0..0,
    };
    values[place].fill(0.0);
}

/// The largest difference of two summaries, each row over the length of its tensor; of the very short
/// ones over a thousandth of the longest.
pub fn difference(names: &[String], got: &[f64], expected: &[f32]) -> (f64, String) {
    assert_eq!(got.len(), expected.len(), "{} tensors", names.len());
    let lengths = expected.iter().step_by(COLUMNS);
    let floor = 1e-3 * f64::from(lengths.fold(0.0f32, |longest, length| longest.max(*length)));
    let mut worst = (0.0, String::new());
    for ((name, got), expected) in names.iter().zip(got.chunks(COLUMNS)).zip(expected.chunks(COLUMNS)) {
        let length = f64::from(expected[0]).max(floor);
        for (got, expected) in got.iter().zip(expected) {
            let off = (got - f64::from(*expected)).abs() / length;
            if off.is_nan() || off > worst.0 {
                worst = (if off.is_nan() { f64::INFINITY } else { off }, name.clone());
            }
        }
    }
    worst
}
