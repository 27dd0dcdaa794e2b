//! What a model needs: its parameters in the order it asks for them, and the stored tensors that each
//! is made of.
//!
//! The list is not written down anywhere: it is what [`Blip::build`] asks a source for.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Shape, Tensor};

use crate::config::BlipConfig;
use crate::model::{Blip, Networks};
use crate::nn::{Matrix, Source};

/// What a parameter is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[outputs, inputs]`, of whatever precision.
    Matrix,
    /// `[rows, width]`, always float.
    Table,
    /// `[len]`, always float.
    Vector,
    /// `[2, width]`: scale, then shift; always float.
    Norm,
}

/// A parameter of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its path, such as `text_decoder.layers.3.attention.qkv.weight`.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Its shape in the model.
    pub shape: Vec<usize>,
    /// The stored tensors whose rows, under each other, it is made of.
    pub parts: Vec<Part>,
}

/// A stored tensor that is a parameter, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in our words, such as `text_decoder.layers.3.attention.query.weight`.
    pub path: String,
    /// Its shape in a file of floats.
    pub shape: Vec<usize>,
    /// Its rows in the parameter.
    pub rows: usize,
    /// Its columns in the parameter; 1 for vectors.
    pub columns: usize,
}

/// The parameters of such a model, in the order in which it is built, and files are written.
pub fn schema(config: &BlipConfig, networks: &Networks, device: &Device) -> Vec<Parameter> {
    let mut census = Census { device: device.clone(), patch: config.vision_config.patch_size, asked: vec![] };
    Blip::build(&mut census, config, networks);
    census.asked.retain(|parameter| networks.vision || !parameter.path.starts_with("vision."));
    census.asked
}

/// A source that only writes down what it is asked for.
struct Census {
    device: Device,
    patch: usize,
    asked: Vec<Parameter>,
}

impl Census {
    fn note(&mut self, path: &str, kind: Kind, shape: &[usize]) {
        let parts = parts(path, kind, shape, self.patch);
        self.asked.push(Parameter { path: path.to_owned(), kind, shape: shape.to_vec(), parts });
    }

    /// A parameter that has a shape and never a value.
    fn empty<const D: usize>(&self, shape: [usize; D]) -> Param<Tensor<D>> {
        let never = |_: &Device, _: bool| unreachable!("a census has no values");
        Param::uninitialized(ParamId::new(), never, self.device.clone(), false, Shape::new(shape))
    }
}

impl Source for Census {
    fn device(&self) -> &Device {
        &self.device
    }

    fn matrix(&mut self, path: &str, shape: [usize; 2]) -> Matrix {
        self.note(path, Kind::Matrix, &shape);
        Matrix::from_parameter(self.empty(shape))
    }

    fn table(&mut self, path: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
        self.note(path, Kind::Table, &shape);
        self.empty(shape)
    }

    fn vector(&mut self, path: &str, len: usize) -> Param<Tensor<1>> {
        self.note(path, Kind::Vector, &[len]);
        self.empty([len])
    }

    fn norm(&mut self, path: &str, width: usize) -> Param<Tensor<2>> {
        self.note(path, Kind::Norm, &[2, width]);
        self.empty([2, width])
    }
}

/// The stored tensors that a parameter is made of; `patch` is the side of a patch.
pub(super) fn parts(path: &str, kind: Kind, shape: &[usize], patch: usize) -> Vec<Part> {
    let names = part_paths(path, kind);
    let count = names.len();
    let parts = names.into_iter().map(|path| {
        let (rows, columns) = match (kind, shape) {
            (Kind::Vector, [len]) => (*len / count, 1),
            (Kind::Norm, [_, width]) => (*width, 1),
            (_, shape) => (shape[0] / count, shape[1]),
        };
        let shape = match (&*path, kind) {
            ("vision.class_embedding", _) => vec![1, 1, rows],
            ("vision.position_embedding", _) => vec![1, rows, columns],
            ("vision.patch_embedding.weight", _) => vec![rows, 3, patch, patch],
            (_, Kind::Vector | Kind::Norm) => vec![rows],
            (_, Kind::Matrix | Kind::Table) => vec![rows, columns],
        };
        Part { path, shape, rows, columns }
    });
    parts.collect()
}

/// The names of the stored tensors that a parameter is made of.
///
/// A norm is its scale and its shift; the projections of a text network that read the same input are
/// one matrix here and several in files.
fn part_paths(path: &str, kind: Kind) -> Vec<String> {
    if kind == Kind::Norm {
        return ["weight", "bias"].map(|leaf| format!("{path}.{leaf}")).to_vec();
    }
    const FUSED: [(&str, &[&str]); 2] = [(".qkv.", &["query", "key", "value"]), (".kv.", &["key", "value"])];
    for (fused, names) in FUSED {
        if let Some((stem, leaf)) = path.split_once(fused)
            && path.starts_with("text_")
        {
            return names.iter().map(|name| format!("{stem}.{name}.{leaf}")).collect();
        }
    }
    vec![path.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::keymap::{Meaning, hugging_face, meaning};

    fn caption() -> Vec<Parameter> {
        let config = BlipConfig::base();
        schema(&config, &Networks::caption(config.vision_config.hidden_size), &Device::flex())
    }

    #[test]
    fn base_has_as_many_parameters_as_the_reference() {
        let count: usize = caption().iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum();
        let tied_head = 30_524 * 768;
        assert_eq!(count, 247_414_076 - tied_head, "the reference counts the head's matrix again");
    }

    #[test]
    fn parts_fill_their_parameter_and_have_a_name_in_files() {
        for parameter in caption() {
            let elements: usize = parameter.parts.iter().map(|part| part.rows * part.columns).sum();
            assert_eq!(elements, parameter.shape.iter().product::<usize>(), "{}", parameter.path);
            for part in parameter.parts {
                assert_eq!(part.shape.iter().product::<usize>(), part.rows * part.columns, "{}", part.path);
                let name = hugging_face(&part.path).unwrap();
                assert_eq!(meaning(&name), Meaning::Parameter(part.path));
            }
        }
    }

    #[test]
    fn what_reads_the_same_input_is_one_matrix() {
        let parameters = caption();
        let parts = |path: &str| -> Vec<&str> {
            let found = parameters.iter().find(|parameter| parameter.path == path).unwrap();
            found.parts.iter().map(|part| part.path.rsplit('.').nth(1).unwrap()).collect()
        };
        assert_eq!(parts("text_decoder.layers.3.attention.qkv.weight"), ["query", "key", "value"]);
        assert_eq!(parts("text_decoder.layers.3.crossattention.kv.bias"), ["key", "value"]);
        assert_eq!(parts("text_decoder.layers.3.crossattention.query.weight"), ["query"]);
        assert_eq!(parts("vision.layers.3.attention.qkv.weight"), ["qkv"]);
        assert_eq!(parts("lm.layer_norm").len(), 2);
    }
}
