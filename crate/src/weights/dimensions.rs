//! Dimensions that a checkpoint itself tells.

use super::keymap::{Meaning, meaning};
use super::plan::Entry;
use crate::config::BlipConfig;
use crate::{Error, ErrorKind, Result};

/// The configuration of an original `.pth` file, which has none beside it: base or large by the
/// width of the vision encoder, the image size by the rows of its position table.
///
/// # Errors
/// [`ErrorKind::WeightsMissing`] and [`ErrorKind::WeightsShape`] when the vision encoder is not
/// one of the two published ones.
pub fn infer_config(entries: &[Entry]) -> Result<BlipConfig> {
    let table = positions(entries).ok_or_else(|| {
        let message = "weights: 1 tensors are missing: `vision.position_embedding`";
        Error::new(ErrorKind::WeightsMissing, message)
    })?;
    let width = match table.shape[..] {
        [1, tokens, width] if tokens > 1 => width,
        _ => {
            let message = format!(
                "weights: the position table has the shape {:?}, expected [1, tokens, width]",
                table.shape
            );
            return Err(Error::new(ErrorKind::WeightsShape, message));
        }
    };
    let mut config = match width {
        768 => BlipConfig::base(),
        1024 => BlipConfig::large(),
        _ => {
            let message = format!(
                "weights: the vision encoder has width {width}; without a config.json only 768 (base) and 1024 (large) are known"
            );
            return Err(Error::new(ErrorKind::WeightsShape, message));
        }
    };
    fit_image_size(&mut config, entries);
    // The original code's epsilon, which its checkpoints were trained with.
    config.vision_config.layer_norm_eps = 1e-6;
    config.validate()?;
    Ok(config)
}

/// Sets the image size that the position table was made for, whatever the configuration says; a table
/// that is that of no square is left to the loader to refuse.
pub fn fit_image_size(config: &mut BlipConfig, entries: &[Entry]) {
    let vision = &mut config.vision_config;
    if let Some(Entry { shape, .. }) = positions(entries)
        && let [1, tokens, _] = shape[..]
        && let Some(patches) = tokens.checked_sub(1)
        && patches > 0
        && patches.isqrt().pow(2) == patches
    {
        vision.image_size = patches.isqrt().saturating_mul(vision.patch_size);
    }
}

fn positions(entries: &[Entry]) -> Option<&Entry> {
    let wanted = Meaning::Parameter("vision.position_embedding".to_owned());
    entries.iter().find(|entry| meaning(&entry.name) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Dtype;

    fn table(tokens: usize, width: usize) -> Vec<Entry> {
        let name = "visual_encoder.pos_embed".to_owned();
        vec![Entry { name, dtype: Dtype::F32, shape: vec![1, tokens, width] }]
    }

    #[test]
    fn the_table_tells_the_image_size() {
        let mut config = BlipConfig::base();
        fit_image_size(&mut config, &table(901, 768));
        assert_eq!(config.vision_config.image_size, 480);
        fit_image_size(&mut config, &table(900, 768));
        assert_eq!(config.vision_config.image_size, 480);
        let inferred = infer_config(&table(197, 1024)).unwrap();
        assert_eq!((inferred.vision_config.image_size, inferred.vision_config.num_hidden_layers), (224, 24));
    }
}
