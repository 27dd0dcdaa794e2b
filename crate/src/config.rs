//! The dimensions of a model: JSON in the layout of Hugging Face's `config.json`, and its validation.

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// Dimensions of a whole BLIP model.
///
/// Fields that a `config.json` leaves out take the values of the reference's classes, with one
/// exception: the number of text heads is required, because the class default (8) is not what any
/// published checkpoint was trained with (12) and silently gives plausible wrong text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlipConfig {
    /// The image encoder.
    pub vision_config: VisionConfig,
    /// Every text network of the model.
    pub text_config: TextConfig,
    /// Width of the image and text features that ITC compares.
    #[serde(default = "defaults::image_text_hidden_size")]
    pub image_text_hidden_size: usize,
}

/// Dimensions of the vision transformer (paper §3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Width of the image tokens.
    #[serde(default = "defaults::width")]
    pub hidden_size: usize,
    /// Width inside the feed-forward sub-layer.
    #[serde(default = "defaults::intermediate")]
    pub intermediate_size: usize,
    /// Transformer blocks.
    #[serde(default = "defaults::layers")]
    pub num_hidden_layers: usize,
    /// Attention heads; must divide `hidden_size`.
    #[serde(default = "defaults::layers")]
    pub num_attention_heads: usize,
    /// Side of the square input in pixels.
    #[serde(default = "defaults::image_size")]
    pub image_size: usize,
    /// Side of a square patch in pixels; must divide `image_size`.
    #[serde(default = "defaults::patch_size")]
    pub patch_size: usize,
    /// Epsilon of every LayerNorm: 1e-5 in Hugging Face's files, 1e-6 in the original code.
    #[serde(default = "defaults::vision_eps")]
    pub layer_norm_eps: f64,
    /// Activation of the feed-forward sub-layer; only `gelu` (exact erf) is BLIP.
    #[serde(default = "defaults::hidden_act")]
    pub hidden_act: String,
}

/// Dimensions and special tokens of the text transformer (MED).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextConfig {
    /// Rows of the word embedding, `[DEC]` and `[ENC]` included.
    #[serde(default = "defaults::vocab_size")]
    pub vocab_size: usize,
    /// Width of the text states.
    #[serde(default = "defaults::width")]
    pub hidden_size: usize,
    /// Width inside the feed-forward sub-layer.
    #[serde(default = "defaults::intermediate")]
    pub intermediate_size: usize,
    /// Transformer layers.
    #[serde(default = "defaults::layers")]
    pub num_hidden_layers: usize,
    /// Attention heads; required, see [`BlipConfig`].
    pub num_attention_heads: usize,
    /// Rows of the position table: the longest sequence, in tokens.
    #[serde(default = "defaults::max_positions")]
    pub max_position_embeddings: usize,
    /// Epsilon of every LayerNorm.
    #[serde(default = "defaults::text_eps")]
    pub layer_norm_eps: f64,
    /// Activation of the feed-forward sub-layer; only `gelu` (exact erf) is BLIP.
    #[serde(default = "defaults::hidden_act")]
    pub hidden_act: String,
    /// `[DEC]`: the first token of everything that is generated.
    #[serde(default = "defaults::bos")]
    pub bos_token_id: u32,
    /// `[SEP]`: ends a sequence. The file's `eos_token_id` is a left-over and never read.
    #[serde(default = "defaults::sep")]
    pub sep_token_id: u32,
    /// `[PAD]`.
    #[serde(default)]
    pub pad_token_id: u32,
}

mod defaults {
    //! The values of the reference's configuration classes.
    pub(super) fn image_text_hidden_size() -> usize {
        256
    }
    pub(super) fn width() -> usize {
        768
    }
    pub(super) fn intermediate() -> usize {
        3072
    }
    pub(super) fn layers() -> usize {
        12
    }
    pub(super) fn image_size() -> usize {
        384
    }
    pub(super) fn patch_size() -> usize {
        16
    }
    pub(super) fn vision_eps() -> f64 {
        1e-5
    }
    pub(super) fn text_eps() -> f64 {
        1e-12
    }
    pub(super) fn hidden_act() -> String {
        "gelu".into()
    }
    pub(super) fn vocab_size() -> usize {
        30_524
    }
    pub(super) fn max_positions() -> usize {
        512
    }
    pub(super) fn bos() -> u32 {
        30_522
    }
    pub(super) fn sep() -> u32 {
        102
    }
}

impl BlipConfig {
    /// BLIP with ViT-B/16 at 384 px.
    pub fn base() -> Self {
        Self {
            vision_config: VisionConfig {
                hidden_size: 768,
                intermediate_size: 3072,
                num_hidden_layers: 12,
                num_attention_heads: 12,
                image_size: 384,
                patch_size: 16,
                layer_norm_eps: 1e-5,
                hidden_act: defaults::hidden_act(),
            },
            text_config: TextConfig {
                vocab_size: 30_524,
                hidden_size: 768,
                intermediate_size: 3072,
                num_hidden_layers: 12,
                num_attention_heads: 12,
                max_position_embeddings: 512,
                layer_norm_eps: 1e-12,
                hidden_act: defaults::hidden_act(),
                bos_token_id: 30_522,
                sep_token_id: 102,
                pad_token_id: 0,
            },
            image_text_hidden_size: 256,
        }
    }

    /// BLIP with ViT-L/16 at 384 px; the text side is that of [`base`](Self::base).
    pub fn large() -> Self {
        let mut config = Self::base();
        config.vision_config.hidden_size = 1024;
        config.vision_config.intermediate_size = 4096;
        config.vision_config.num_hidden_layers = 24;
        config.vision_config.num_attention_heads = 16;
        config
    }

    /// The shape of the embedded model: small enough to train on two CPU cores in an hour or two.
    ///
    /// `vocab_size`, `bos_token_id` (`[DEC]`) and `sep_token_id` belong to its vocabulary.
    pub fn tiny(vocab_size: usize, bos_token_id: u32, sep_token_id: u32) -> Self {
        Self {
            vision_config: VisionConfig {
                hidden_size: 160,
                intermediate_size: 640,
                num_hidden_layers: 4,
                num_attention_heads: 4,
                image_size: 96,
                patch_size: 12,
                layer_norm_eps: 1e-5,
                hidden_act: defaults::hidden_act(),
            },
            text_config: TextConfig {
                vocab_size,
                hidden_size: 160,
                intermediate_size: 640,
                num_hidden_layers: 2,
                num_attention_heads: 4,
                max_position_embeddings: 40,
                layer_norm_eps: 1e-12,
                hidden_act: defaults::hidden_act(),
                bos_token_id,
                sep_token_id,
                pad_token_id: 0,
            },
            image_text_hidden_size: 64,
        }
    }

    /// Reads and validates a `config.json`.
    ///
    /// # Errors
    /// [`ErrorKind::BadConfig`] when the text is not JSON, a required field is missing, or
    /// [`validate`](Self::validate) finds the dimensions inconsistent.
    pub fn from_json(text: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(text).map_err(|e| {
            Error::new(ErrorKind::BadConfig, "config: not a BLIP configuration").with_source(e)
        })?;
        config.validate()?;
        Ok(config)
    }

    /// Checks that the dimensions describe a model that can exist.
    ///
    /// # Errors
    /// [`ErrorKind::BadConfig`], naming the field, what it holds and what was expected.
    pub fn validate(&self) -> Result<()> {
        let (vision, text) = (&self.vision_config, &self.text_config);
        let sizes = [
            ("vision_config.hidden_size", vision.hidden_size, 1 << 14),
            ("vision_config.intermediate_size", vision.intermediate_size, 1 << 16),
            ("vision_config.num_hidden_layers", vision.num_hidden_layers, 256),
            ("vision_config.num_attention_heads", vision.num_attention_heads, 256),
            ("vision_config.image_size", vision.image_size, 4096),
            ("vision_config.patch_size", vision.patch_size, 4096),
            ("text_config.vocab_size", text.vocab_size, 1 << 22),
            ("text_config.hidden_size", text.hidden_size, 1 << 14),
            ("text_config.intermediate_size", text.intermediate_size, 1 << 16),
            ("text_config.num_hidden_layers", text.num_hidden_layers, 256),
            ("text_config.num_attention_heads", text.num_attention_heads, 256),
            ("text_config.max_position_embeddings", text.max_position_embeddings, 1 << 16),
            ("image_text_hidden_size", self.image_text_hidden_size, 1 << 14),
        ];
        for (name, value, limit) in sizes {
            if value == 0 || value > limit {
                return Err(bad(format!("{name} is {value}, expected 1 to {limit}")));
            }
        }
        // The first token of a text, and one after it.
        if text.max_position_embeddings < 2 {
            return Err(bad("text_config.max_position_embeddings is 1, expected at least 2".to_owned()));
        }
        for (name, value, by, divisor) in [
            ("vision_config.hidden_size", vision.hidden_size, "heads", vision.num_attention_heads),
            ("text_config.hidden_size", text.hidden_size, "heads", text.num_attention_heads),
            ("vision_config.image_size", vision.image_size, "patch_size", vision.patch_size),
        ] {
            if value % divisor != 0 {
                return Err(bad(format!("{name} is {value}, expected a multiple of {by} ({divisor})")));
            }
        }
        for (name, act) in
            [("vision_config.hidden_act", &vision.hidden_act), ("text_config.hidden_act", &text.hidden_act)]
        {
            if act != "gelu" {
                return Err(bad(format!("{name} is `{act}`, expected `gelu`, the only one BLIP uses")));
            }
        }
        for (name, eps) in [
            ("vision_config.layer_norm_eps", vision.layer_norm_eps),
            ("text_config.layer_norm_eps", text.layer_norm_eps),
        ] {
            if !(eps > 0.0 && eps < 1.0) {
                return Err(bad(format!("{name} is {eps}, expected a small positive number")));
            }
        }
        for (name, id) in [
            ("bos_token_id", text.bos_token_id),
            ("sep_token_id", text.sep_token_id),
            ("pad_token_id", text.pad_token_id),
        ] {
            if id as usize >= text.vocab_size {
                return Err(bad(format!(
                    "text_config.{name} is {id}, expected less than vocab_size ({})",
                    text.vocab_size
                )));
            }
        }
        Ok(())
    }
}

impl VisionConfig {
    /// Patches along one side of the image.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Image tokens: one a patch, and the class token in front.
    pub fn tokens(&self) -> usize {
        self.grid() * self.grid() + 1
    }
}

fn bad(message: String) -> Error {
    Error::new(ErrorKind::BadConfig, format!("config: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_text_heads_is_never_guessed() {
        let error = BlipConfig::from_json(r#"{"vision_config":{},"text_config":{}}"#).unwrap_err();
        assert_eq!(error.code(), "bad-config");
        assert!(error.to_string().contains("num_attention_heads"), "{error}");
    }

    #[test]
    fn a_hub_file_is_read_and_its_eos_is_ignored() {
        let text = r#"{"model_type":"blip","projection_dim":512,"vision_config":{"hidden_size":768},
            "text_config":{"num_attention_heads":12,"eos_token_id":2,"sep_token_id":102}}"#;
        assert_eq!(BlipConfig::from_json(text).unwrap(), BlipConfig::base());
    }

    #[test]
    fn presets_are_valid_and_survive_json() {
        for config in [BlipConfig::base(), BlipConfig::large(), BlipConfig::tiny(150, 5, 3)] {
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(BlipConfig::from_json(&json).unwrap(), config);
        }
        assert_eq!(BlipConfig::base().vision_config.tokens(), 577);
    }

    #[test]
    fn inconsistent_dimensions_name_the_field() {
        type Edit = fn(&mut BlipConfig);
        let edits: [(Edit, &str); 7] = [
            (|c| c.text_config.num_attention_heads = 7, "text_config.hidden_size"),
            (|c| c.vision_config.patch_size = 17, "vision_config.image_size"),
            (|c| c.vision_config.num_hidden_layers = 0, "vision_config.num_hidden_layers"),
            (|c| c.text_config.max_position_embeddings = 1, "text_config.max_position_embeddings"),
            (|c| c.text_config.hidden_act = "relu".into(), "text_config.hidden_act"),
            (|c| c.text_config.bos_token_id = 30_524, "bos_token_id"),
            (|c| c.vision_config.layer_norm_eps = f64::NAN, "vision_config.layer_norm_eps"),
        ];
        for (edit, name) in edits {
            let mut config = BlipConfig::base();
            edit(&mut config);
            let error = config.validate().unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
