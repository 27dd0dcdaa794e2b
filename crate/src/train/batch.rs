//! Batches of images and captions, composed on a thread of their own while the model trains.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::scenes::{SceneWorld, Split};
use crate::Result;
use crate::image::preprocess;
use crate::tokenizer::Tokenizer;

/// Images and right-padded token ids, still on the host.
#[derive(Clone, Debug)]
pub struct HostBatch {
    /// `[batch, 3, size, size]`, normalised.
    pub pixels: Vec<f32>,
    /// Side of the images in pixels.
    pub size: usize,
    /// `[batch, seq]`, `[DEC]` first, `[SEP]` last.
    pub ids: Vec<i64>,
    /// `[batch, seq]`, true at padding.
    pub pads: Vec<bool>,
    /// Length of the padded rows.
    pub seq: usize,
}

/// A batch on a device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch, 3, size, size]`
    pub pixels: Tensor<4>,
    /// `[batch, seq]`
    pub ids: Tensor<2, Int>,
    /// `[batch, seq]`, true at padding
    pub pads: Tensor<2, Bool>,
}

impl HostBatch {
    /// Stacks images (CHW, `size × size`) and rows of ids, padding the rows with `pad`.
    pub fn stack(images: Vec<Vec<f32>>, size: usize, rows: &[Vec<u32>], pad: u32) -> Self {
        let seq = rows.iter().map(Vec::len).max().unwrap_or(0);
        let padded = |row: &Vec<u32>, index| row.get(index).copied().unwrap_or(pad);
        Self {
            pixels: images.concat(),
            size,
            ids: rows.iter().flat_map(|row| (0..seq).map(|i| i64::from(padded(row, i)))).collect(),
            pads: rows.iter().flat_map(|row| (0..seq).map(|i| i >= row.len())).collect(),
            seq,
        }
    }

    /// The batch in `parts` pieces of nearly equal size, in order; fewer when there are fewer rows.
    pub fn split(self, parts: usize) -> Vec<Self> {
        let rows = self.ids.len() / self.seq.max(1);
        let image = 3 * self.size * self.size;
        let share = rows.div_ceil(parts.max(1)).max(1);
        (0..rows)
            .step_by(share)
            .map(|start| {
                let end = (start + share).min(rows);
                let text = start * self.seq..end * self.seq;
                Self {
                    pixels: self.pixels[start * image..end * image].to_vec(),
                    size: self.size,
                    ids: self.ids[text.clone()].to_vec(),
                    pads: self.pads[text].to_vec(),
                    seq: self.seq,
                }
            })
            .collect()
    }

    /// Uploads the batch.
    pub fn on(self, device: &Device) -> Batch {
        let rows = self.ids.len() / self.seq.max(1);
        let pixels = TensorData::new(self.pixels, [rows, 3, self.size, self.size]);
        Batch {
            pixels: Tensor::from_data(pixels, device),
            ids: Tensor::from_data(TensorData::new(self.ids, [rows, self.seq]), device),
            pads: Tensor::from_data(TensorData::new(self.pads, [rows, self.seq]), device),
        }
    }
}

/// Training batches of scenes from `start` on, in order; scene `index` is the same in every run.
pub fn scene_batches(
    world: Arc<SceneWorld>,
    tokenizer: Arc<Tokenizer>,
    size: usize,
    batch: usize,
    seed: u64,
    start: u64,
) -> Receiver<Result<HostBatch>> {
    let (sender, receiver) = sync_channel(4);
    thread::spawn(move || {
        let mut next = start;
        loop {
            let indices = next..next + batch as u64;
            next += batch as u64;
            // The receiver hangs up when training ends.
            if sender.send(compose(&world, &tokenizer, size, seed, indices)).is_err() {
                return;
            }
        }
    });
    receiver
}

fn compose(
    world: &SceneWorld,
    tokenizer: &Tokenizer,
    size: usize,
    seed: u64,
    indices: std::ops::Range<u64>,
) -> Result<HostBatch> {
    let (mut images, mut rows) = (Vec::new(), Vec::new());
    for index in indices {
        let scene = world.scene(Split::Train, seed, index);
        images.push(preprocess(&scene.image, size));
        rows.push(target_ids(tokenizer, &scene.caption)?);
    }
    Ok(HostBatch::stack(images, size, &rows, tokenizer.pad()))
}

/// The ids a caption is trained on: `[DEC]` in place of `[CLS]`, the words, `[SEP]`.
///
/// # Errors
/// As [`Tokenizer::encode`].
pub fn target_ids(tokenizer: &Tokenizer, caption: &str) -> Result<Vec<u32>> {
    let mut ids = tokenizer.encode(caption)?;
    if let Some(first) = ids.first_mut() {
        *first = tokenizer.dec();
    }
    Ok(ids)
}
