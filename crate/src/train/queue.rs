//! Queues of momentum features: what earlier batches leave behind as candidates of contrast
//! (spec §7.1).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::draw::{Draw, Purpose};
use crate::kernels;

/// The most recent image and text features, and the images they belong to.
///
/// A ring: new features take the place of the oldest ones. Any number can be added; where the
/// reference insists on a divisor of the size, ours wraps.
#[derive(Module, Debug)]
pub struct Queues {
    /// `[size, width]`
    images: Param<Tensor<2>>,
    /// `[size, width]`
    texts: Param<Tensor<2>>,
    #[module(skip)]
    place: Place,
}

/// Where a ring stands, and whose features are where: what a checkpoint keeps beside the tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where the next features go.
    pub next: usize,
    /// The image of every place; none where there are still random features.
    pub ids: Vec<Option<u64>>,
}

/// Features of a batch on their way into the queues.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// `[batch, width]`, of unit length, outside any graph.
    pub images: Tensor<2>,
    /// `[batch, width]`, of unit length, outside any graph.
    pub texts: Tensor<2>,
    /// The images they belong to.
    pub ids: Vec<u64>,
}

impl Queues {
    /// Queues of random directions.
    pub fn new(size: usize, width: usize, seed: u64, device: &Device) -> Self {
        let fresh = |part: u64| {
            let values = Draw::new(seed, Purpose::Queues, 0, part).normals(size * width);
            let values = Tensor::from_data(TensorData::new(values, [size, width]), device);
            Param::from_tensor(kernels::normalise(values))
        };
        let place = Place { next: 0, ids: vec![None; size] };
        Self { images: fresh(0), texts: fresh(1), place }
    }

    /// Features they hold.
    pub fn size(&self) -> usize {
        self.place.ids.len()
    }

    /// Image features, `[size, width]`.
    pub fn images(&self) -> Tensor<2> {
        self.images.val()
    }

    /// Text features, `[size, width]`.
    pub fn texts(&self) -> Tensor<2> {
        self.texts.val()
    }

    /// Where they stand.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The same features at another place of the ring.
    ///
    /// # Panics
    /// When the place is one of queues of another size.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        assert_eq!(place.ids.len(), self.size(), "a place in queues of this size");
        Self { place, ..self }
    }

    /// Puts features in the place of the oldest ones; of more than there is room for, the last.
    pub fn push(&mut self, fresh: &Fresh) {
        let (size, count) = (self.size(), fresh.ids.len());
        let skipped = count.saturating_sub(size);
        let mut taken = skipped;
        self.place.next = (self.place.next + skipped) % size;
        while taken < count {
            let next = self.place.next;
            let run = (count - taken).min(size - next);
            let put = |queue: &Param<Tensor<2>>, features: &Tensor<2>| {
                let [_, width] = features.dims();
                let part = features.clone().narrow(0, taken, run);
                queue.clone().map(|queue| queue.slice_assign([next..next + run, 0..width], part))
            };
            self.images = put(&self.images, &fresh.images);
            self.texts = put(&self.texts, &fresh.texts);
            for (place, id) in self.place.ids[next..next + run].iter_mut().zip(&fresh.ids[taken..]) {
                *place = Some(*id);
            }
            self.place.next = (next + run) % size;
            taken += run;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::block_on;
    use crate::kernels::read_floats;

    fn fresh(first: u64, count: usize) -> Fresh {
        let values: Vec<f32> = (0..count).flat_map(|i| [first as f32 + i as f32, 0.5]).collect();
        let features = |sign: f32| {
            let values: Vec<f32> = values.iter().map(|value| sign * value).collect();
            Tensor::from_data(TensorData::new(values, [count, 2]), &Device::flex())
        };
        let ids = (first..first + count as u64).collect();
        Fresh { images: features(1.0), texts: features(-1.0), ids }
    }

    fn firsts(queue: Tensor<2>) -> Vec<f32> {
        block_on(read_floats(queue)).unwrap().chunks_exact(2).map(|row| row[0]).collect()
    }

    #[test]
    fn features_wrap_around_whatever_their_number() {
        let mut queues = Queues::new(5, 2, 1, &Device::flex());
        let random = firsts(queues.images());
        queues.push(&fresh(10, 3));
        assert_eq!(firsts(queues.images()), [10.0, 11.0, 12.0, random[3], random[4]]);
        assert_eq!(queues.place().next, 3);
        assert_eq!(queues.place().ids, [Some(10), Some(11), Some(12), None, None]);
        queues.push(&fresh(20, 4));
        assert_eq!(firsts(queues.images()), [22.0, 23.0, 12.0, 20.0, 21.0]);
        assert_eq!(firsts(queues.texts()), [-22.0, -23.0, -12.0, -20.0, -21.0]);
        assert_eq!(queues.place().ids, [22, 23, 12, 20, 21].map(Some));
        assert_eq!(queues.place().next, 2);
    }

    #[test]
    fn of_more_than_there_is_room_for_the_last_stay() {
        let mut queues = Queues::new(3, 2, 1, &Device::flex());
        queues.push(&fresh(1, 1));
        queues.push(&fresh(10, 7));
        let mut held = firsts(queues.images());
        held.sort_by(f32::total_cmp);
        assert_eq!(held, [14.0, 15.0, 16.0]);
        // As if they had come one by one.
        let mut single = Queues::new(3, 2, 1, &Device::flex());
        single.push(&fresh(1, 1));
        (10..17).for_each(|id| single.push(&fresh(id, 1)));
        assert_eq!(firsts(queues.images()), firsts(single.images()));
        assert_eq!(queues.place(), single.place());
    }

    #[test]
    fn they_start_as_random_directions() {
        let queues = Queues::new(64, 16, 1, &Device::flex());
        let values = block_on(read_floats(queues.images())).unwrap();
        for row in values.chunks_exact(16) {
            assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        }
        let mean: f32 = values.iter().sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.03, "{mean}");
        assert_ne!(values, block_on(read_floats(queues.texts())).unwrap());
    }
}
