//! The parity corpus on every device: flex always, wgpu where there is an adapter (`BLIP_GPU`).

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use blip_tests::compare::{Report, values};
use blip_tests::corpus::{Corpus, GenerationCase, TextCase, ids};
use blip_tests::on_every_device;
use blip_tests::place::Place;
use blip_web::device::{OpenDevice, block_on};
use blip_web::generate::{Control, generate};
use blip_web::model::{Blip, Grounding, KvCache, TextMode, cosine, integers, interpolate_positions};
use blip_web::tasks::ModelDecoder;
use blip_web::train::loss::{Targets, smoothed_cross_entropy};
use blip_web::weights;
use burn::tensor::{DType, Device, Tensor};

on_every_device! {
    image_tokens_agree_after_every_block
    pictures_of_another_size_get_the_interpolated_position_table
    decoder_states_agree_after_every_layer
    logits_and_losses_of_a_tied_head_agree
    logits_of_a_head_with_its_own_matrix_agree
    unimodal_and_multimodal_text_states_agree_after_every_layer
    matching_logits_and_contrastive_cosines_agree
    question_states_and_answer_logits_agree
    a_padded_batch_equals_its_rows_alone
    cached_decoding_equals_the_full_pass
    captions_are_token_exact
    captions_of_an_untied_model_are_token_exact
    answers_are_token_exact
}

#[test]
fn the_corpus_tells_another_number_of_heads() {
    let mut corpus = Corpus::open("caption");
    let device = Device::flex();
    let on = On { open: Place::Flex.device().unwrap(), device: device.clone(), tolerance: 1e-4 };
    let case = &corpus.cases.decoder[0];
    let expected = case.without_padding(corpus.expected("decoder.full.output"));
    corpus.config.text_config.num_attention_heads = 8;
    let logits = values(lm_logits(&corpus.load(&device).0, &corpus, case, &on));
    let off = logits.iter().zip(expected).map(|(got, expected)| (got - expected).abs()).fold(0.0, f32::max);
    assert!(off > 0.1, "the class default of 8 heads changes logits by only {off}");
}

#[test]
fn halves_stay_close_to_the_reference() {
    let Some(open) = Place::Wgpu.device() else { return };
    let open = match open.with_halves(true) {
        Ok(open) => open,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let device = &open.device;
    let corpus = Corpus::open("caption");
    let (model, _) = weights::load_as(&corpus.config, &corpus.checkpoint(), device, open.halves()).unwrap();
    assert_eq!(model.vision.activations(), DType::F16);
    // Eleven bits of every activation are kept and sums are in f32; layer after layer adds its share.
    let close = |what: &str, got: &[f32], expected: &[f32]| {
        assert_eq!(got.len(), expected.len(), "{what}");
        let square = |pairs: &mut dyn Iterator<Item = f32>| pairs.map(|x| f64::from(x * x)).sum::<f64>();
        let error = square(&mut got.iter().zip(expected).map(|(got, expected)| got - expected));
        let relative = (error / square(&mut expected.iter().copied())).sqrt();
        println!("{what}: relative error {relative:e}");
        assert!(relative <= 1e-2, "{what}: relative error {relative:e}");
    };
    let tokens = |images: &[usize]| model.vision.forward(corpus.images(images, device).cast(DType::F16));
    let case = corpus.cases.vision.as_ref().unwrap();
    close("vision.output", &values(tokens(&case.images)), corpus.expected("vision.output"));
    let case = &corpus.cases.decoder[0];
    let grounding = Grounding::new(model.decoder().unwrap().cross_kv(tokens(&case.images)));
    let full = model.lm_logits(case.ids(device), case.pads(device), &grounding);
    let expected = case.without_padding(corpus.expected("decoder.full.output"));
    close("logits", &case.without_padding(&values(full.clone())), &expected);
    // The caches hold halves too.
    let [rows, seq, vocab] = full.dims();
    let mut cache = KvCache::new(model.decoder().unwrap(), rows, seq, device);
    let parents: Vec<usize> = (0..rows).collect();
    for at in 0..seq {
        let tokens: Vec<u32> = case.ids.iter().map(|row| row[at]).collect();
        cache.feed(&parents, &tokens);
        let last = values(model.step_logits(&grounding, &mut cache));
        cache.advance();
        let expected = values(full.clone().slice([0..rows, at..at + 1, 0..vocab]));
        close(&format!("step {at}"), &last, &expected);
    }
}

/// A device and how close results on it must come to the reference.
struct On {
    open: OpenDevice,
    device: Device,
    tolerance: f32,
}

fn run(place: Place, test: fn(&On)) {
    if let Some(open) = place.device() {
        test(&On { device: open.device.clone(), open, tolerance: place.tolerance() });
    }
}

fn image_tokens_agree_after_every_block(on: &On) {
    let mut report = Report::default();
    for name in ["caption", "caption_untied", "itm", "vqa"] {
        let corpus = Corpus::open(name);
        let (model, _) = corpus.load(&on.device);
        let case = corpus.cases.vision.as_ref().unwrap();
        let mut probes = model.vision.forward_probes(corpus.images(&case.images, &on.device));
        let output = values(probes.pop().unwrap());
        for (index, probe) in probes.into_iter().enumerate() {
            let part = index.checked_sub(1).map_or("embeddings".to_owned(), |block| format!("block.{block}"));
            let expected = corpus.expected(&format!("vision.{part}"));
            report.close(&format!("{name}: vision.{part}"), &values(probe), expected, on.tolerance);
        }
        let expected = corpus.expected("vision.output");
        report.close(&format!("{name}: vision.output"), &output, expected, on.tolerance);
        let forward = values(model.vision.forward(corpus.images(&case.images, &on.device)));
        report.close(&format!("{name}: forward"), &forward, expected, on.tolerance);
    }
    report.finish();
}

fn pictures_of_another_size_get_the_interpolated_position_table(on: &On) {
    let corpus = Corpus::open("caption");
    let (model, _) = corpus.load(&on.device);
    let table = corpus.checkpoint().tensors["vision_model.embeddings.position_embedding"].clone();
    let data = burn::tensor::TensorData::new(table.to_f32().unwrap(), table.shape[1..].to_vec());
    let table = Tensor::<2>::from_data(data, &on.device);
    let mut report = Report::default();
    assert!(corpus.cases.interpolation.len() >= 4);
    for case in &corpus.cases.interpolation {
        let expected = |part: &str| corpus.expected(&format!("{}.{part}", case.name));
        let positions = values(interpolate_positions(table.clone(), case.grid, case.grid));
        report.close(&format!("{} positions", case.name), &positions, expected("positions"), on.tolerance);
        let pixels = corpus.tensor::<4>(&format!("{}.pixels", case.name), &on.device);
        assert_eq!(pixels.dims()[2..], [case.size, case.size]);
        report.close(&case.name, &values(model.vision.forward(pixels)), expected("output"), on.tolerance);
    }
    report.finish();
}

fn decoder_states_agree_after_every_layer(on: &On) {
    let mut report = Report::default();
    for name in ["caption", "caption_untied"] {
        let corpus = Corpus::open(name);
        for depth in 1..=corpus.config.text_config.num_hidden_layers {
            let model = with_text_layers(&corpus, depth, &on.device);
            for case in &corpus.cases.decoder {
                let tokens = image_tokens(&model, &corpus, &case.images, on);
                let med = model.decoder().unwrap();
                let grounding = Grounding::new(med.cross_kv(tokens));
                let (ids, pads) = (case.ids(&on.device), case.pads(&on.device));
                let states = med.forward(ids, pads, Some(&grounding), TextMode::Causal);
                close_text(&mut report, &corpus, case, &format!("block.{}", depth - 1), states, on.tolerance);
            }
        }
    }
    report.finish();
}

fn logits_and_losses_of_a_tied_head_agree(on: &On) {
    let corpus = Corpus::open("caption");
    let (model, networks) = corpus.load(&on.device);
    assert!(networks.tied_lm);
    logits_agree(&corpus, &model, on);
    let mut losses = 0;
    for case in &corpus.cases.decoder {
        for (smoothing, expected) in [(0.0, case.loss), (0.1, case.smoothed_loss)] {
            let Some(expected) = expected else { continue };
            let logits = lm_logits(&model, &corpus, case, on);
            let [batch, seq, vocab] = logits.dims();
            let targets = targets(case, &on.device);
            let logits = logits.reshape([batch * seq, vocab]).select(0, targets.rows.clone());
            let loss = values(smoothed_cross_entropy(logits, &targets, smoothing));
            let mut report = Report::default();
            report.close(&format!("{} loss {smoothing}", case.name), &loss, &[expected], on.tolerance);
            report.finish();
            losses += 1;
        }
    }
    assert_eq!(losses, 2);
}

/// What every position of a case predicts, padding left out, as a mean.
fn targets(case: &TextCase, device: &Device) -> Targets {
    let seq = case.ids[0].len();
    let counted: Vec<(usize, usize)> = (0..case.ids.len())
        .flat_map(|row| (1..seq).map(move |place| (row, place)))
        .filter(|(row, place)| case.mask[*row][*place] != 0)
        .collect();
    let count = counted.len();
    let rows = counted.iter().map(|(row, place)| (row * seq + place - 1) as i32).collect();
    let tokens = counted.iter().map(|(row, place)| case.ids[*row][*place] as i32).collect();
    Targets {
        rows: integers(rows, [count], device),
        tokens: integers(tokens, [count], device),
        weights: Tensor::ones([count], device) / count as f64,
    }
}

fn logits_of_a_head_with_its_own_matrix_agree(on: &On) {
    let corpus = Corpus::open("caption_untied");
    let (model, networks) = corpus.load(&on.device);
    assert!(!networks.tied_lm);
    logits_agree(&corpus, &model, on);
}

fn unimodal_and_multimodal_text_states_agree_after_every_layer(on: &On) {
    let corpus = Corpus::open("itm");
    let mut report = Report::default();
    let depth = corpus.config.text_config.num_hidden_layers;
    for layers in 1..=depth {
        let model = with_text_layers(&corpus, layers, &on.device);
        for case in &corpus.cases.retrieval {
            let states = text_states(&model, &corpus, case, on);
            close_text(
                &mut report,
                &corpus,
                case,
                &format!("block.{}", layers - 1),
                states.clone(),
                on.tolerance,
            );
            if layers == depth {
                close_text(&mut report, &corpus, case, "output", states, on.tolerance);
            }
        }
    }
    report.finish();
}

fn matching_logits_and_contrastive_cosines_agree(on: &On) {
    let corpus = Corpus::open("itm");
    let (model, networks) = corpus.load(&on.device);
    assert_eq!(networks.tasks(), ["itm", "itc"]);
    let mut report = Report::default();
    for case in &corpus.cases.retrieval {
        let states = text_states(&model, &corpus, case, on);
        if case.name == "text" {
            let head = model.itc.as_ref().unwrap();
            let tokens = image_tokens(&model, &corpus, &case.images, on);
            let cosines = cosine(head.image_features(tokens), head.text_features(states));
            report.close("itc", &values(cosines), corpus.expected("itc"), on.tolerance);
        } else {
            let logits = values(model.itm.as_ref().unwrap().forward(states));
            let expected = corpus.expected(&format!("{}.itm", case.name));
            report.close(&format!("{} itm", case.name), &logits, expected, on.tolerance);
        }
    }
    report.finish();
}

fn question_states_and_answer_logits_agree(on: &On) {
    let corpus = Corpus::open("vqa");
    let (model, networks) = corpus.load(&on.device);
    assert_eq!(networks.tasks(), ["vqa"]);
    let case = corpus.cases.vqa.as_ref().unwrap();
    let mut report = Report::default();
    let states = text_states(&model, &corpus, &case.question, on);
    close_text(&mut report, &corpus, &case.question, "output", states.clone(), on.tolerance);
    // The answer attends to the states of the question, not to the image.
    let kv = model.decoder().unwrap().cross_kv(states);
    let pads = case.question.pads(&on.device);
    assert!(pads.is_some());
    for (answer, pads) in [(&case.answer, pads), (&case.answer_unmasked, None)] {
        let grounding = Grounding { kv: kv.clone(), pads };
        let logits = model.lm_logits(answer.ids(&on.device), answer.pads(&on.device), &grounding);
        close_text(&mut report, &corpus, answer, "output", logits, on.tolerance);
    }
    report.finish();
}

fn a_padded_batch_equals_its_rows_alone(on: &On) {
    let mut report = Report::default();
    let (caption, itm) = (Corpus::open("caption"), Corpus::open("itm"));
    let (captioner, matcher) = (caption.load(&on.device).0, itm.load(&on.device).0);
    let mut padded = 0;
    for (corpus, model, case) in caption
        .cases
        .decoder
        .iter()
        .map(|case| (&caption, &captioner, case))
        .chain(itm.cases.retrieval.iter().map(|case| (&itm, &matcher, case)))
    {
        let pass = |case: &TextCase| match model.decoder() {
            Some(_) => lm_logits(model, corpus, case, on),
            None => text_states(model, corpus, case, on),
        };
        let batch = pass(case);
        let [_, seq, width] = batch.dims();
        let batch = values(batch);
        for (row, length) in case.lengths().into_iter().enumerate() {
            padded += usize::from(length < seq);
            let alone = TextCase {
                name: case.name.clone(),
                images: vec![case.images[row]],
                ids: vec![case.ids[row][..length].to_vec()],
                mask: vec![vec![1; length]],
                loss: None,
                smoothed_loss: None,
            };
            let start = row * seq * width;
            let expected = &batch[start..start + length * width];
            report.close(&format!("{} row {row}", case.name), &values(pass(&alone)), expected, on.tolerance);
        }
    }
    assert!(padded >= 4);
    report.finish();
}

fn cached_decoding_equals_the_full_pass(on: &On) {
    let mut report = Report::default();
    for name in ["caption", "caption_untied"] {
        let corpus = Corpus::open(name);
        let (model, _) = corpus.load(&on.device);
        let case = &corpus.cases.decoder[0];
        let full = lm_logits(&model, &corpus, case, on);
        let [rows, seq, vocab] = full.dims();
        let tokens = image_tokens(&model, &corpus, &case.images, on);
        let grounding = Grounding::new(model.decoder().unwrap().cross_kv(tokens));
        let mut cache = KvCache::new(model.decoder().unwrap(), rows, seq, &on.device);
        let parents: Vec<usize> = (0..rows).collect();
        for at in 0..seq {
            let tokens: Vec<u32> = case.ids.iter().map(|row| row[at]).collect();
            cache.feed(&parents, &tokens);
            let last = values(model.step_logits(&grounding, &mut cache));
            cache.advance();
            assert_eq!(cache.len(), at + 1);
            let expected = full.clone().slice([0..rows, at..at + 1, 0..vocab]);
            report.close(&format!("{name} at {at}"), &last, &values(expected), on.tolerance);
        }
    }
    report.finish();
}

fn captions_are_token_exact(on: &On) {
    let corpus = Corpus::open("caption");
    assert!(corpus.cases.generation.len() >= 12);
    generations_agree(&corpus, on);
}

fn captions_of_an_untied_model_are_token_exact(on: &On) {
    generations_agree(&Corpus::open("caption_untied"), on);
}

fn answers_are_token_exact(on: &On) {
    let corpus = Corpus::open("vqa");
    assert!(corpus.cases.generation.len() >= 4);
    generations_agree(&corpus, on);
}

fn generations_agree(corpus: &Corpus, on: &On) {
    let (model, _) = corpus.load(&on.device);
    let mut report = Report::default();
    for case in &corpus.cases.generation {
        generation_agrees(&mut report, corpus, &model, case, on);
    }
    report.finish();
}

fn generation_agrees(report: &mut Report, corpus: &Corpus, model: &Blip, case: &GenerationCase, on: &On) {
    let text = &corpus.config.text_config;
    for expected in &case.images {
        let mut states = image_tokens(model, corpus, &[expected.image], on);
        if let Some(question) = &case.question_ids {
            let encoder = model.text_encoder.as_ref().unwrap();
            let grounding = Grounding::new(encoder.cross_kv(states));
            let question = ids(std::slice::from_ref(question), &on.device);
            states = encoder.forward(question, None, Some(&grounding), TextMode::Grounded);
        }
        let grounding = Grounding::new(model.decoder().unwrap().cross_kv(states));
        let mut decoder = ModelDecoder::new(model, &on.open, grounding, text);
        let config = case.options.config();
        let found =
            block_on(generate(&mut decoder, &case.decoder_ids, text.sep_token_id, &config, &mut |_| {
                Control::Continue
            }))
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let sequences: Vec<Vec<u32>> = found
            .iter()
            .map(|found| {
                let end = found.finished.then_some(text.sep_token_id);
                case.decoder_ids.iter().chain(&found.ids).copied().chain(end).collect()
            })
            .collect();
        let what = format!("{} of image {}", case.name, expected.image);
        report.equal(&what, &sequences, &expected.sequences);
        // A sum of up to 19 log-probabilities collects their differences.
        let tolerance = 3.0 * on.tolerance;
        let log_probs: Vec<f32> = found.iter().map(|found| found.log_prob).collect();
        report.close(&format!("{what}: log-probabilities"), &log_probs, &expected.log_probs, tolerance);
        if let Some(expected) = &expected.scores {
            let scores: Vec<f32> = found.iter().map(|found| found.score).collect();
            report.close(&format!("{what}: scores"), &scores, expected, tolerance);
        }
    }
}

/// The model of the corpus with only the first text layers: what its last layer puts out is what the
/// whole model has after that layer.
fn with_text_layers(corpus: &Corpus, depth: usize, device: &Device) -> Blip {
    let mut checkpoint = corpus.checkpoint();
    checkpoint.tensors.retain(|name, _| {
        let layer = name.split_once(".encoder.layer.").and_then(|(_, rest)| rest.split_once('.'));
        layer.is_none_or(|(index, _)| index.parse::<usize>().unwrap() < depth)
    });
    let mut config = corpus.config.clone();
    config.text_config.num_hidden_layers = depth;
    weights::load(&config, &checkpoint, device).unwrap().0
}

fn image_tokens(model: &Blip, corpus: &Corpus, images: &[usize], on: &On) -> Tensor<3> {
    model.vision.forward(corpus.images(images, &on.device))
}

/// Text encoder states; the case called `text` is the one without an image.
fn text_states(model: &Blip, corpus: &Corpus, case: &TextCase, on: &On) -> Tensor<3> {
    let encoder = model.text_encoder.as_ref().unwrap();
    let (ids, pads) = (case.ids(&on.device), case.pads(&on.device));
    if case.name == "text" {
        return encoder.forward(ids, pads, None, TextMode::Unimodal);
    }
    let grounding = Grounding::new(encoder.cross_kv(image_tokens(model, corpus, &case.images, on)));
    encoder.forward(ids, pads, Some(&grounding), TextMode::Grounded)
}

fn lm_logits(model: &Blip, corpus: &Corpus, case: &TextCase, on: &On) -> Tensor<3> {
    let tokens = image_tokens(model, corpus, &case.images, on);
    let grounding = Grounding::new(model.decoder().unwrap().cross_kv(tokens));
    model.lm_logits(case.ids(&on.device), case.pads(&on.device), &grounding)
}

fn logits_agree(corpus: &Corpus, model: &Blip, on: &On) {
    let mut report = Report::default();
    for case in &corpus.cases.decoder {
        let logits = lm_logits(model, corpus, case, on);
        close_text(&mut report, corpus, case, "output", logits, on.tolerance);
    }
    report.finish();
}

fn close_text(
    report: &mut Report,
    corpus: &Corpus,
    case: &TextCase,
    part: &str,
    got: Tensor<3>,
    tolerance: f32,
) {
    let name = format!("{}.{part}", case.name);
    let expected = case.without_padding(corpus.expected(&name));
    report.close(&name, &case.without_padding(&values(got)), &expected, tolerance);
}
