//! An encoded picture, or the encoded frames of a clip: encode once, ask often.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use image::RgbImage;

use crate::model::Grounding;
use crate::{Error, ErrorKind, Result};

/// Image tokens on the device, and what was computed from them. Copies share all of it.
#[derive(Clone, Debug)]
pub struct Picture(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    session: Identity,
    frames: usize,
    /// By image encoder of the session.
    views: Vec<Mutex<View>>,
    /// Keys and values of cross-attention, by text network of the session.
    groundings: Mutex<Vec<Option<Grounding>>>,
}

/// Whose a picture is: equal to its copies, and to nothing else.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity(Arc<()>);

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
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
    pub(super) fn new(session: &Identity, frames: usize, views: Vec<View>) -> Self {
        let views = views.into_iter().map(Mutex::new).collect();
        let session = session.clone();
        Self(Arc::new(Inner { session, frames, views, groundings: Mutex::new(Vec::new()) }))
    }

    /// Places of encoders and networks mean something in the session only that encoded the picture, and
    /// only while its models keep their places.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for a picture of another session.
    pub(super) fn check(&self, session: &Identity) -> Result<()> {
        if self.0.session == *session {
            return Ok(());
        }
        let message = "the picture was encoded by another session, or before this one was limited to some \
                       tasks; encode it again";
        Err(Error::new(ErrorKind::BadOption, message))
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
