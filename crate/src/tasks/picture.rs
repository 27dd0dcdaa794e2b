//! An encoded picture, or the encoded frames of a clip: encode once, ask often.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use image::RgbImage;

use crate::model::Grounding;

/// Image tokens on the device, and what was computed from them. Copies share all of it.
#[derive(Clone, Debug)]
pub struct Picture(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    frames: usize,
    /// By image encoder of the session.
    views: Vec<Mutex<View>>,
    /// Keys and values of cross-attention, by text network of the session.
    groundings: Mutex<Vec<Option<Grounding>>>,
}

/// A picture as one image encoder sees it.
#[derive(Clone, Debug)]
pub(super) enum View {
    /// The session has no such image encoder at this place.
    Absent,
    /// Squares of the encoder's size, one a frame, until somebody asks for the tokens.
    Squares(Arc<Vec<RgbImage>>),
    /// `[frames, tokens, dim]`.
    Tokens(Box<Tensor<3>>),
}

impl Picture {
    pub(super) fn new(frames: usize, views: Vec<View>) -> Self {
        let views = views.into_iter().map(Mutex::new).collect();
        Self(Arc::new(Inner { frames, views, groundings: Mutex::new(Vec::new()) }))
    }

    /// Frames of a clip; 1 for a picture.
    pub fn frames(&self) -> usize {
        self.0.frames
    }

    pub(super) fn view(&self, tower: usize) -> View {
        match self.0.views.get(tower) {
            Some(view) => view.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            None => View::Absent,
        }
    }

    pub(super) fn keep_tokens(&self, tower: usize, tokens: Tensor<3>) {
        if let Some(view) = self.0.views.get(tower) {
            *view.lock().unwrap_or_else(PoisonError::into_inner) = View::Tokens(Box::new(tokens));
        }
    }

    pub(super) fn grounding(&self, network: usize) -> Option<Grounding> {
        let known = self.0.groundings.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(network).cloned().flatten()
    }

    pub(super) fn keep_grounding(&self, network: usize, grounding: Grounding) {
        let mut known = self.0.groundings.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() <= network {
            known.resize_with(network + 1, || None);
        }
        known[network] = Some(grounding);
    }
}
