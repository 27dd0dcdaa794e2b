//! What a conversion did, tensor by tensor.

use serde::Serialize;

use crate::weights::{Quantisation, TensorReport};

/// What a conversion did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConvertReport {
    /// How the matrices are stored.
    pub quantisation: Quantisation,
    /// Every tensor, in the order of the file.
    pub tensors: Vec<TensorReport>,
    /// What was in the checkpoint and is not in the container: copies and left-overs of training.
    pub dropped: Vec<String>,
    /// Numbers in all tensors.
    pub parameters: usize,
    /// Bytes of the weights file.
    pub bytes: u64,
    /// Root mean squared error of all numbers by their root mean square.
    pub relative_rms: f64,
    /// The same of the further networks, each of which has a file of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkReport>,
}

/// What became of a further network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkReport {
    /// Its file.
    pub path: String,
    /// What it was trained for.
    pub tasks: Vec<String>,
    /// Whether it has an image encoder of its own.
    pub vision: bool,
    /// What is in its file.
    #[serde(flatten)]
    pub file: ConvertReport,
}

impl ConvertReport {
    /// Of one file of so many bytes.
    pub(super) fn new(
        quantisation: Quantisation,
        tensors: Vec<TensorReport>,
        dropped: Vec<String>,
        bytes: u64,
    ) -> Self {
        let (mut parameters, mut off, mut size) = (0, 0.0, 0.0);
        for tensor in &tensors {
            parameters += tensor.shape.iter().product::<usize>();
            off += tensor.squared_error;
            size += tensor.squares;
        }
        Self {
            quantisation,
            tensors,
            dropped,
            parameters,
            bytes,
            relative_rms: if size > 0.0 { (off / size).sqrt() } else { 0.0 },
            networks: Vec::new(),
        }
    }
}
