//! Text networks that are one apart from the self-attention, and those that only look like it.

use blip_tests::layouts::layouts;
use blip_web::model::{DecoderNetwork, Networks};
use blip_web::weights::{self, Checkpoint};
use burn::tensor::Device;

use super::{NARROW, narrow_config, narrowed, stored};

/// A pre-training checkpoint, whose two text networks share all but the self-attention.
fn pretrained() -> Checkpoint {
    narrowed(&layouts()["pth pretrain base"], false, true)
}

/// Adds one to the last number of a tensor, and returns what it holds then.
fn change(checkpoint: &mut Checkpoint, name: &str) -> Vec<f32> {
    let tensor = &checkpoint.tensors[name];
    let (shape, mut floats) = (tensor.shape.clone(), tensor.to_f32().unwrap());
    *floats.last_mut().unwrap() += 1.0;
    checkpoint.tensors.insert(name.to_owned(), stored(shape, floats.clone()));
    floats
}

fn found(checkpoint: &Checkpoint) -> Networks {
    weights::find_networks(&narrow_config(false), checkpoint, &Device::flex()).unwrap()
}

#[test]
fn networks_that_share_most_tensors_and_not_all_are_two() {
    assert_eq!(found(&pretrained()).decoder, Some(DecoderNetwork::Shared));
    for (network, name) in [
        ("text_decoder", "embeddings.word_embeddings.weight"),
        ("text_encoder", "embeddings.position_embeddings.weight"),
        ("text_decoder", "embeddings.LayerNorm.weight"),
        ("text_decoder", "encoder.layer.0.crossattention.self.value.weight"),
        ("text_encoder", "encoder.layer.3.crossattention.output.LayerNorm.bias"),
        ("text_decoder", "encoder.layer.5.intermediate.dense.bias"),
        ("text_decoder", "encoder.layer.11.intermediate.dense.weight"),
        ("text_decoder", "encoder.layer.11.output.LayerNorm.weight"),
    ] {
        let mut checkpoint = pretrained();
        // The encoder of a file of the original is called by its own name alone.
        let name = match network {
            "text_encoder" => format!("text_encoder.{name}"),
            _ => format!("text_decoder.bert.{name}"),
        };
        let changed = change(&mut checkpoint, &name);
        let own = Some(DecoderNetwork::Own { grounding_width: NARROW });
        assert_eq!(found(&checkpoint).decoder, own, "{name}");
        let (model, networks) = weights::load(&narrow_config(false), &checkpoint, &Device::flex()).unwrap();
        assert_eq!(networks.decoder, own, "{name}");
        let kept: Checkpoint = weights::named_tensors(&model).unwrap().into();
        let kept = kept.tensors.iter().filter(|(_, tensor)| tensor.to_f32().unwrap() == changed);
        assert!(kept.count() > 0, "{name} is not in the model");
    }
}

#[test]
fn what_only_one_network_has_does_not_keep_them_apart() {
    let mut checkpoint = pretrained();
    change(&mut checkpoint, "text_decoder.bert.encoder.layer.2.attention.self.query.weight");
    change(&mut checkpoint, "text_decoder.cls.predictions.transform.dense.weight");
    assert_eq!(found(&checkpoint).decoder, Some(DecoderNetwork::Shared));
}
