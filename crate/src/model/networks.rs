//! Which networks a checkpoint holds.

/// The networks of a model; the public checkpoints hold one task each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks {
    /// The image encoder. A file without one is a further text network over another file's.
    pub vision: bool,
    /// A text network used as unimodal and image-grounded encoder.
    pub text_encoder: bool,
    /// A network that generates text.
    pub decoder: Option<DecoderNetwork>,
    /// Whether the language-model head's matrix is the decoder's word embedding.
    pub tied_lm: bool,
    /// Projections for image-text contrast.
    pub itc: bool,
    /// The image-text matching head.
    pub itm: bool,
    /// A text encoder that looks at two images, and the head that judges a statement about them.
    pub nlvr2: bool,
}

/// Where the decoder's parameters live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderNetwork {
    /// In a network of its own, whose cross-attention reads states of this width: the image's, or
    /// the question's in a VQA model.
    Own {
        /// Width of the states that cross-attention reads.
        grounding_width: usize,
    },
    /// In the text encoder, apart from the self-attention: the tie of pre-training (paper §3.2).
    Shared,
}

impl Networks {
    /// A captioner: image encoder and decoder with a tied head.
    pub fn caption(vision_width: usize) -> Self {
        Self {
            vision: true,
            text_encoder: false,
            decoder: Some(DecoderNetwork::Own { grounding_width: vision_width }),
            tied_lm: true,
            itc: false,
            itm: false,
            nlvr2: false,
        }
    }

    /// The tasks that these networks can be used for, in the words of a manifest.
    pub fn tasks(&self) -> Vec<&'static str> {
        let mut tasks = Vec::new();
        match (self.text_encoder, self.decoder, self.itm) {
            (true, Some(DecoderNetwork::Own { .. }), false) => tasks.push("vqa"),
            (_, Some(_), _) => tasks.push("caption"),
            _ => {}
        }
        if self.itm {
            tasks.push("itm");
        }
        if self.itc {
            tasks.push("itc");
        }
        if self.nlvr2 {
            tasks.push("nlvr2");
        }
        tasks
    }
}
