//! The names of tensors: ours, Hugging Face's and the original repository's. Data, and its lookup.

/// What a name in a file means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A parameter, by our path (norms still say `weight` and `bias`).
    Parameter(String),
    /// Left over from training or a duplicate: not read.
    Ignored,
    /// Nothing that belongs to a BLIP model.
    Unknown,
}

/// (ours, Hugging Face, original) for the vision encoder and the heads; `{i}` is a layer index.
const NAMES: &[(&str, &str, &str)] = &[
    ("vision.class_embedding", "vision_model.embeddings.class_embedding", "visual_encoder.cls_token"),
    ("vision.position_embedding", "vision_model.embeddings.position_embedding", "visual_encoder.pos_embed"),
    ("vision.patch_embedding", "vision_model.embeddings.patch_embedding", "visual_encoder.patch_embed.proj"),
    (
        "vision.layers.{i}.layer_norm1",
        "vision_model.encoder.layers.{i}.layer_norm1",
        "visual_encoder.blocks.{i}.norm1",
    ),
    (
        "vision.layers.{i}.attention.qkv",
        "vision_model.encoder.layers.{i}.self_attn.qkv",
        "visual_encoder.blocks.{i}.attn.qkv",
    ),
    (
        "vision.layers.{i}.attention.projection",
        "vision_model.encoder.layers.{i}.self_attn.projection",
        "visual_encoder.blocks.{i}.attn.proj",
    ),
    (
        "vision.layers.{i}.layer_norm2",
        "vision_model.encoder.layers.{i}.layer_norm2",
        "visual_encoder.blocks.{i}.norm2",
    ),
    (
        "vision.layers.{i}.mlp.fc1",
        "vision_model.encoder.layers.{i}.mlp.fc1",
        "visual_encoder.blocks.{i}.mlp.fc1",
    ),
    (
        "vision.layers.{i}.mlp.fc2",
        "vision_model.encoder.layers.{i}.mlp.fc2",
        "visual_encoder.blocks.{i}.mlp.fc2",
    ),
    ("vision.post_layernorm", "vision_model.post_layernorm", "visual_encoder.norm"),
    ("itc.vision_proj", "vision_proj", "vision_proj"),
    ("itc.text_proj", "text_proj", "text_proj"),
    ("itm.classifier", "itm_head", "itm_head"),
    ("nlvr2.hidden", "cls_head.0", "cls_head.0"),
    ("nlvr2.classifier", "cls_head.2", "cls_head.2"),
    (
        "lm.transform",
        "text_decoder.cls.predictions.transform.dense",
        "text_decoder.cls.predictions.transform.dense",
    ),
    (
        "lm.layer_norm",
        "text_decoder.cls.predictions.transform.LayerNorm",
        "text_decoder.cls.predictions.transform.LayerNorm",
    ),
    ("lm.bias", "text_decoder.cls.predictions.bias", "text_decoder.cls.predictions.bias"),
    (
        "lm.decoder",
        "text_decoder.cls.predictions.decoder.weight",
        "text_decoder.cls.predictions.decoder.weight",
    ),
];

/// (ours, theirs) inside one text network; both foreign layouts agree.
const TEXT: &[(&str, &str)] = &[
    ("word_embeddings", "embeddings.word_embeddings"),
    ("position_embeddings", "embeddings.position_embeddings"),
    ("layer_norm", "embeddings.LayerNorm"),
    ("layers.{i}.attention.query", "encoder.layer.{i}.attention.self.query"),
    ("layers.{i}.attention.key", "encoder.layer.{i}.attention.self.key"),
    ("layers.{i}.attention.value", "encoder.layer.{i}.attention.self.value"),
    ("layers.{i}.attention.dense", "encoder.layer.{i}.attention.output.dense"),
    ("layers.{i}.attention.layer_norm", "encoder.layer.{i}.attention.output.LayerNorm"),
    ("layers.{i}.crossattention.query", "encoder.layer.{i}.crossattention.self.query"),
    ("layers.{i}.crossattention.key", "encoder.layer.{i}.crossattention.self.key"),
    ("layers.{i}.crossattention.value", "encoder.layer.{i}.crossattention.self.value"),
    ("layers.{i}.crossattention.dense", "encoder.layer.{i}.crossattention.output.dense"),
    ("layers.{i}.crossattention.first.query", "encoder.layer.{i}.crossattention.self0.query"),
    ("layers.{i}.crossattention.first.key", "encoder.layer.{i}.crossattention.self0.key"),
    ("layers.{i}.crossattention.first.value", "encoder.layer.{i}.crossattention.self0.value"),
    ("layers.{i}.crossattention.first.dense", "encoder.layer.{i}.crossattention.output.dense0"),
    ("layers.{i}.crossattention.second.query", "encoder.layer.{i}.crossattention.self1.query"),
    ("layers.{i}.crossattention.second.key", "encoder.layer.{i}.crossattention.self1.key"),
    ("layers.{i}.crossattention.second.value", "encoder.layer.{i}.crossattention.self1.value"),
    ("layers.{i}.crossattention.second.dense", "encoder.layer.{i}.crossattention.output.dense1"),
    ("layers.{i}.crossattention.merge", "encoder.layer.{i}.crossattention.output.merge_layer"),
    ("layers.{i}.crossattention.layer_norm", "encoder.layer.{i}.crossattention.output.LayerNorm"),
    ("layers.{i}.ffn.intermediate", "encoder.layer.{i}.intermediate.dense"),
    ("layers.{i}.ffn.output", "encoder.layer.{i}.output.dense"),
    ("layers.{i}.ffn.layer_norm", "encoder.layer.{i}.output.LayerNorm"),
];

/// (ours, theirs) for the two text networks.
const TEXT_NETWORKS: [(&str, &str); 2] =
    [("text_encoder.", "text_encoder."), ("text_decoder.", "text_decoder.bert.")];

/// Momentum copies, queues and counters of training; see the reference's checkpoint loader.
const IGNORED_PREFIXES: [&str; 4] =
    ["visual_encoder_m.", "text_encoder_m.", "vision_proj_m.", "text_proj_m."];
const IGNORED_NAMES: [&str; 6] = ["image_queue", "text_queue", "queue_ptr", "ptr_queue", "idx_queue", "temp"];

/// A second name of `…predictions.bias` in both layouts; the loader checks that the two agree.
pub(super) const BIAS_ALIAS: &str = "text_decoder.cls.predictions.decoder.bias";

/// What `foreign`, a name in either layout, stands for.
pub fn meaning(foreign: &str) -> Meaning {
    if IGNORED_NAMES.contains(&foreign)
        || foreign.ends_with(".position_ids")
        || IGNORED_PREFIXES.iter().any(|prefix| foreign.starts_with(prefix))
    {
        return Meaning::Ignored;
    }
    if foreign == BIAS_ALIAS {
        return Meaning::Parameter("lm.bias".to_owned());
    }
    for (our_network, their_network) in TEXT_NETWORKS {
        if let Some(rest) = foreign.strip_prefix(their_network)
            && let Some(path) = TEXT.iter().find_map(|(ours, theirs)| translate(rest, theirs, ours))
        {
            return Meaning::Parameter(format!("{our_network}{path}"));
        }
    }
    NAMES
        .iter()
        .find_map(|(ours, hf, original)| {
            translate(foreign, hf, ours).or_else(|| translate(foreign, original, ours))
        })
        .map_or(Meaning::Unknown, Meaning::Parameter)
}

/// The Hugging Face name of one of our parameters.
pub fn hugging_face(ours: &str) -> Option<String> {
    for (our_network, their_network) in TEXT_NETWORKS {
        if let Some(rest) = ours.strip_prefix(our_network) {
            let name = TEXT.iter().find_map(|(ours, theirs)| translate(rest, ours, theirs))?;
            return Some(format!("{their_network}{name}"));
        }
    }
    NAMES.iter().find_map(|(pattern, hf, _)| translate(ours, pattern, hf))
}

/// Rewrites `name` from one pattern to another, keeping the layer index and a `.weight` or `.bias`.
fn translate(name: &str, from: &str, to: &str) -> Option<String> {
    let (stem, leaf) = match name.rsplit_once('.') {
        Some((stem, leaf @ ("weight" | "bias"))) if from != name => (stem, Some(leaf)),
        _ => (name, None),
    };
    let stem = match from.split_once("{i}") {
        None => (stem == from).then(|| to.to_owned())?,
        Some((before, after)) => {
            let index = stem.strip_prefix(before)?.strip_suffix(after)?;
            index.parse::<u16>().ok()?;
            to.replace("{i}", index)
        }
    };
    Some(match leaf {
        Some(leaf) => format!("{stem}.{leaf}"),
        None => stem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_mean_the_same_parameter() {
        let parameter = |name: &str| Meaning::Parameter(name.to_owned());
        for (name, ours) in [
            ("vision_model.encoder.layers.11.self_attn.qkv.bias", "vision.layers.11.attention.qkv.bias"),
            ("visual_encoder.blocks.11.attn.qkv.bias", "vision.layers.11.attention.qkv.bias"),
            ("visual_encoder.cls_token", "vision.class_embedding"),
            ("text_encoder.embeddings.LayerNorm.weight", "text_encoder.layer_norm.weight"),
            (
                "text_decoder.bert.encoder.layer.3.crossattention.output.LayerNorm.bias",
                "text_decoder.layers.3.crossattention.layer_norm.bias",
            ),
            ("text_decoder.cls.predictions.bias", "lm.bias"),
            ("text_decoder.cls.predictions.decoder.bias", "lm.bias"),
            ("text_decoder.cls.predictions.decoder.weight", "lm.decoder"),
            ("text_decoder.cls.predictions.transform.dense.bias", "lm.transform.bias"),
        ] {
            assert_eq!(meaning(name), parameter(ours), "{name}");
        }
        assert_eq!(meaning("text_encoder_m.encoder.layer.0.output.dense.bias"), Meaning::Ignored);
        assert_eq!(meaning("text_decoder.bert.embeddings.position_ids"), Meaning::Ignored);
        assert_eq!(meaning("text_encoder.encoder.layer.x.output.dense.bias"), Meaning::Unknown);
        assert_eq!(meaning("logit_scale"), Meaning::Unknown);
    }

    #[test]
    fn writing_and_reading_are_inverse() {
        let leaves = ["weight", "bias"];
        for (ours, hf, _) in NAMES {
            let plain = matches!(
                *ours,
                "vision.class_embedding" | "vision.position_embedding" | "lm.bias" | "lm.decoder"
            );
            for leaf in leaves {
                let with = |name: &str| if plain { name.to_owned() } else { format!("{name}.{leaf}") };
                let (ours, hf) = (with(ours).replace("{i}", "7"), with(hf).replace("{i}", "7"));
                assert_eq!(hugging_face(&ours).as_deref(), Some(hf.as_str()));
                assert_eq!(meaning(&hf), Meaning::Parameter(ours));
            }
        }
    }
}
