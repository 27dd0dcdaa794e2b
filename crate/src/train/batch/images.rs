//! Pictures of a batch.

use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;

use crate::image::preprocess;

/// Pictures as the image encoder reads them, still on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostImages {
    /// `[batch, 3, size, size]`, normalised.
    pub pixels: Vec<f32>,
    /// Side in pixels.
    pub size: usize,
}

impl HostImages {
    /// No pictures yet, of this side.
    pub fn new(size: usize) -> Self {
        Self { pixels: Vec::new(), size }
    }

    /// Adds a picture, resized to the square and normalised.
    pub fn push(&mut self, picture: &RgbImage) {
        self.pixels.extend(preprocess(picture, self.size));
    }

    /// Pictures.
    pub fn len(&self) -> usize {
        self.pixels.len() / (3 * self.size * self.size)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// The pictures on a device: `[batch, 3, size, size]`.
    pub fn on(self, device: &Device) -> Tensor<4> {
        let shape = [self.len(), 3, self.size, self.size];
        Tensor::from_data(TensorData::new(self.pixels, shape), device)
    }
}
