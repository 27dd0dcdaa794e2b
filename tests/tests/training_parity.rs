//! Every loss and every gradient against a PyTorch twin in double precision (`fixtures/training`), the
//! optimiser, the momentum networks, the queues, and ten steps of all of it.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]
#![allow(clippy::print_stdout, reason = "a passing test shows how close it came")]

use blip_tests::training::{Fixture, changes, difference, named, named_gradients, summary, with_values};
use blip_web::model::{DecoderNetwork, Grounding, Networks};
use blip_web::nn::Noise;
use blip_web::train::batch::{
    Batch, HostImages, HostTexts, HostWeights, Nearly, Preparation, Questions, Statements, TaskTokens,
};
use blip_web::train::contrast::Contrast;
use blip_web::train::data::Record;
use blip_web::train::draw::{Draw, Purpose};
use blip_web::train::engine::{Adam, ContrastRecipe, NoiseRecipe, Recipe, Trainer};
use blip_web::train::momentum::{copy_for_features, follow};
use blip_web::train::negatives::{Images, Rule};
use blip_web::train::noise::PassNoise;
use blip_web::train::objectives::itc::{self, contrast, features, matches};
use blip_web::train::objectives::itm::{self, Negatives, matching};
use blip_web::train::objectives::lm::{SMOOTHING, language};
use blip_web::train::objectives::{Learner, Losses, Memory, Nlvr2, Objective, Pass, Vqa};
use blip_web::train::queue::{Fresh, Place, Queues};
use blip_web::train::schedule::Schedule;
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use serde_json::Value;

/// The twin in single precision is off by about 1e-6 in its losses and 1e-6 in its gradients.
const LOSS: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;
/// AdamW divides gradients by their size: where they are tiny, rounding shows. The twin in single
/// precision is off by 4e-5 to 9e-5.
const CHANGE: f64 = 1e-3;

const TOKENS: TaskTokens = TaskTokens { cls: 1, enc: 59, dec: 58 };
const WIDTH: usize = 16;

fn graph() -> Device {
    Device::flex().autodiff()
}

fn networks(kind: &str) -> Networks {
    let pretrain = Networks {
        vision: true,
        text_encoder: true,
        decoder: Some(DecoderNetwork::Shared),
        tied_lm: true,
        itc: true,
        itm: true,
        nlvr2: false,
    };
    match kind {
        "pretrain" => pretrain,
        "retrieval" => Networks { decoder: None, ..pretrain },
        "caption" => Networks::caption(32),
        "vqa" => {
            let decoder = Some(DecoderNetwork::Own { grounding_width: 24 });
            Networks { decoder, itc: false, itm: false, ..pretrain }
        }
        "nlvr2" => Networks { decoder: None, itc: false, itm: false, nlvr2: true, ..pretrain },
        kind => panic!("{kind}?"),
    }
}

fn learner(fixture: &Fixture, kind: &str) -> Learner {
    let blip = fixture.model(&networks(kind), "", &graph());
    let contrast = matches!(kind, "pretrain" | "retrieval").then(|| Contrast::new(&graph()));
    Learner { blip, contrast }
}

/// Momentum copies with numbers of their own and the first queues.
fn memory(fixture: &Fixture, learner: &Learner, kind: &str) -> Memory {
    let other = fixture.model(&networks(kind), "momentum.", &Device::flex());
    let momentum = with_values(copy_for_features(&learner.blip), &copy_for_features(&other));
    #[derive(Module, Debug)]
    struct Both {
        images: Param<Tensor<2>>,
        texts: Param<Tensor<2>>,
    }
    let queue = |name: &str| Param::from_tensor(fixture.tensor(name).transpose());
    let start = Both { images: queue("image_queue"), texts: queue("text_queue") };
    let queues = with_values(Queues::new(12, WIDTH, 0, &Device::flex()), &start);
    Memory { momentum, queues }
}

fn rows(value: &Value) -> HostTexts {
    let padded: Vec<Vec<u32>> = serde_json::from_value(value.clone()).unwrap();
    let cut = |row: Vec<u32>| row.into_iter().filter(|id| *id != 0).collect();
    HostTexts { rows: padded.into_iter().map(cut).collect(), pad: 0 }
}

fn places(value: &Value) -> Vec<usize> {
    serde_json::from_value(value.clone()).unwrap()
}

fn images(fixture: &Fixture, step: usize, count: usize) -> HostImages {
    HostImages { pixels: fixture.pixels(step, count), size: 32 }
}

fn floats<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.inner().into_data().iter::<f32>().collect()
}

#[track_caller]
fn close(what: &str, got: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap_or_else(|| panic!("{what} is a number"));
    let off = (got - expected).abs() / expected.abs().max(1e-3);
    assert!(off <= tolerance, "{what}: {got}, expected {expected}, off by {off:e}");
}

#[track_caller]
fn same<const D: usize>(fixture: &Fixture, name: &str, got: Tensor<D>, tolerance: f32) {
    let (got, expected) = (floats(got), fixture.values(name));
    assert_eq!(got.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let off = (got - expected).abs() / largest;
        assert!(off <= tolerance, "{name}[{index}]: {got}, expected {expected}, off by {off:e}");
    }
}

/// The gradients of a loss against a summary of the twin's.
#[track_caller]
fn gradients(fixture: &Fixture, kind: &str, name: &str, learner: &Learner, loss: Tensor<1>) {
    let gradients = GradientsParams::from_grads(loss.backward(), learner);
    let names = fixture.names(kind);
    let got = summary(&names, &named_gradients(learner, gradients));
    let (off, at) = difference(&names, &got, &fixture.values(name));
    println!("{name}: gradients are off by {off:.1e} (`{at}`)");
    assert!(off <= GRADIENT, "{name}: off by {off:e} at `{at}`");
}

fn scalar(loss: &Tensor<1>) -> f64 {
    f64::from(floats(loss.clone())[0])
}

#[test]
fn contrast_and_its_gradients_are_the_twins() {
    let fixture = Fixture::load();
    let case = fixture.case("itc");
    let learner = learner(&fixture, "pretrain");
    let memory = memory(&fixture, &learner, "pretrain");
    let texts = rows(&fixture.cases["ids"]);
    let pixels = images(&fixture, 0, 4).on(&graph());
    let tokens = learner.blip.vision.forward(pixels.clone());
    same(&fixture, "itc.tokens", tokens.clone(), 1e-5);
    let student = features(&learner.blip, tokens, texts.on(&graph(), TOKENS.cls), Noise::NONE);
    let teacher_tokens = memory.momentum.vision.forward(pixels.inner());
    let teacher =
        features(&memory.momentum, teacher_tokens, texts.on(&Device::flex(), TOKENS.cls), Noise::NONE);
    for (name, features) in [
        ("image_features", &student.images),
        ("text_features", &student.texts),
        ("image_features_m", &teacher.images),
        ("text_features_m", &teacher.texts),
    ] {
        same(&fixture, &format!("itc.{name}"), features.clone(), 1e-5);
    }
    let temperature = learner.contrast.as_ref().unwrap().temperature();
    let contrasted = contrast(&student, &teacher, &memory.queues, temperature, 0.4, None);
    same(&fixture, "itc.scores_i2t", contrasted.image_to_text.clone(), 1e-5);
    same(&fixture, "itc.scores_t2i", contrasted.text_to_image.clone(), 1e-5);
    close("itc", scalar(&contrasted.loss), &case["loss"], LOSS);

    // The weights of hard negatives, from the same scores.
    for (name, scores) in
        [("image_weights", &contrasted.text_to_image), ("text_weights", &contrasted.image_to_text)]
    {
        let scores = floats(scores.clone().narrow(1, 0, 4));
        let expected = fixture.values(&format!("itc.{name}"));
        for (row, scores) in scores.chunks(4).enumerate() {
            for (got, expected) in Rule::PRETRAINING.weights(row, scores).iter().zip(&expected[4 * row..]) {
                assert!((got - f64::from(*expected)).abs() < 1e-5, "{name} {row}: {got} {expected}");
            }
        }
    }
    gradients(&fixture, "pretrain", "itc.gradients", &learner, contrasted.loss);
}

#[test]
fn features_wrap_around_the_queues_as_the_twins_do() {
    let fixture = Fixture::load();
    let learner = learner(&fixture, "pretrain");
    for (name, start) in [("queue.0", 0), ("queue.10", 10)] {
        let queues = memory(&fixture, &learner, "pretrain").queues;
        let mut queues = queues.at(Place { next: start, ids: vec![None; 12] });
        queues.push(&Fresh {
            images: fixture.tensor("itc.image_features_m"),
            texts: fixture.tensor("itc.text_features_m"),
            ids: vec![0, 1, 2, 3],
        });
        assert_eq!(queues.place().next, fixture.case(name)["pointer"].as_u64().unwrap() as usize);
        same(&fixture, &format!("{name}.image"), queues.images().transpose(), 0.0);
        same(&fixture, &format!("{name}.text"), queues.texts().transpose(), 0.0);
    }
}

#[test]
fn matching_and_its_gradients_are_the_twins() {
    let fixture = Fixture::load();
    let case = fixture.case("itm");
    let learner = learner(&fixture, "pretrain");
    let texts = rows(&fixture.cases["ids"]);
    let negatives =
        Negatives { images: places(&case["negative_images"]), texts: places(&case["negative_texts"]) };
    let tokens = learner.blip.vision.forward(images(&fixture, 0, 4).on(&graph()));
    let kv = learner.blip.text_encoder.as_ref().unwrap().cross_kv(tokens);
    let loss = matching(
        &learner.blip,
        &kv,
        (&texts, &Nearly::default()),
        &negatives,
        (TOKENS.enc, Noise::NONE),
        &graph(),
    );
    close("itm", scalar(&loss), &case["loss"], LOSS);
    // The pairs that belong together are the first rows.
    let positives =
        itm::logits(&learner.blip, texts, &Grounding::new(kv), (TOKENS.enc, Noise::NONE), &graph());
    let expected = fixture.values("itm.logits");
    for (got, expected) in floats(positives).iter().zip(&expected) {
        assert!((got - expected).abs() < 1e-5, "{got} {expected}");
    }
    gradients(&fixture, "pretrain", "itm.gradients", &learner, loss);
}

#[test]
fn language_modelling_and_its_gradients_are_the_twins() {
    let fixture = Fixture::load();
    for (name, kind, prompt) in [("lm", "pretrain", 0), ("caption", "caption", 4)] {
        let case = fixture.case(name);
        assert_eq!(prompt as u64, case["prompt"].as_u64().unwrap_or(0));
        let learner = learner(&fixture, kind);
        let texts = rows(&fixture.cases["ids"]);
        let tokens = learner.blip.vision.forward(images(&fixture, 0, 4).on(&graph()));
        let grounding = Grounding::new(learner.blip.decoder().unwrap().cross_kv(tokens));
        let weights = texts.mean(prompt);
        let loss = language(
            &learner.blip,
            &grounding,
            &texts,
            &weights,
            (TOKENS.dec, SMOOTHING, Noise::NONE),
            &graph(),
        );
        close(name, scalar(&loss), &case["loss"], LOSS);
        gradients(&fixture, kind, &format!("{name}.gradients"), &learner, loss);
    }
}

/// A step whose negatives are told.
#[derive(Clone)]
struct Told {
    images: HostImages,
    texts: HostTexts,
    negatives: Negatives,
}

impl Batch for Told {
    type Options = ();

    fn of(_: &[Record], _: &Preparation, (): &(), _: &mut Draw) -> blip_web::Result<Self> {
        unreachable!("the batches are made by hand")
    }
}

/// Pre-training with the negatives that the twin was told as well.
struct ToldPretraining;

impl Objective for ToldPretraining {
    type Batch = Told;

    fn names(&self) -> &'static [&'static str] {
        &["itc", "itm", "lm"]
    }

    fn losses(&self, learner: &Learner, batch: Told, pass: &mut Pass<'_>) -> blip_web::Result<Losses> {
        let (model, device, memory) = (&learner.blip, pass.device, pass.memory.unwrap());
        let Told { images, texts, negatives } = batch;
        let pixels = images.on(device);
        let tokens = model.vision.forward(pixels.clone());
        let student = features(model, tokens.clone(), texts.on(device, TOKENS.cls), Noise::NONE);
        let teacher_tokens = memory.momentum.vision.forward(pixels.inner());
        let teacher =
            features(&memory.momentum, teacher_tokens, texts.on(&Device::flex(), TOKENS.cls), Noise::NONE);
        let temperature = learner.contrast.as_ref().unwrap().temperature();
        let itc = contrast(&student, &teacher, &memory.queues, temperature, pass.softness, None).loss;
        let kv = model.text_encoder.as_ref().unwrap().cross_kv(tokens);
        let itm =
            matching(model, &kv, (&texts, &Nearly::default()), &negatives, (TOKENS.enc, Noise::NONE), device);
        let lm = language(
            model,
            &Grounding::new(kv),
            &texts,
            &texts.mean(0),
            (TOKENS.dec, SMOOTHING, Noise::NONE),
            device,
        );
        let fresh = itc::fresh(teacher, vec![0; texts.len()]);
        Ok(Losses { parts: vec![("itc", itc), ("itm", itm), ("lm", lm)], fresh: Some(fresh) })
    }
}

#[test]
fn ten_steps_are_the_twins() {
    let fixture = Fixture::load();
    for (name, schedule, softness_epochs) in [
        ("step", Schedule::Plateau { peak: 2e-3, warmup: 1, decay: 0 }, 0.0),
        ("curve", Schedule::Plateau { peak: 2e-3, warmup: 10, decay: 0 }, 2.0),
    ] {
        let case = fixture.case(name);
        let recipe = Recipe {
            batch: 4,
            ranks: 1,
            epoch_steps: Some(3),
            epochs: 100,
            schedule,
            adam: Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.05 },
            contrast: Some(ContrastRecipe { queue: 12, momentum: 0.995, softness: 0.4, softness_epochs }),
            noise: NoiseRecipe::default(),
            ..Recipe::pretraining()
        };
        let start = learner(&fixture, "pretrain");
        let mut trainer = Trainer::new("pretrain", &recipe, &fixture.config, start, 12, &Device::flex());
        trainer.memory = Some(memory(&fixture, &trainer.learner, "pretrain"));
        let before = named(&trainer.learner);
        let momentum = |trainer: &Trainer| {
            let copy = trainer.memory.as_ref().unwrap().momentum.clone();
            named(&Learner { blip: copy, contrast: None })
        };
        let momentum_before = momentum(&trainer);
        for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            let negatives = Negatives {
                images: places(&step["negative_images"]),
                texts: places(&step["negative_texts"]),
            };
            let batch = Told { images: images(&fixture, index, 4), texts: rows(&step["ids"]), negatives };
            let at = trainer.position();
            close("lr", recipe.schedule.rate(at), &step["lr"], 1e-12);
            assert!((recipe.softness(at) - step["alpha"].as_f64().unwrap()).abs() < 1e-12);
            let losses;
            (trainer, losses) = trainer.step(&ToldPretraining, vec![batch]).unwrap();
            for (loss, value) in &losses {
                close(&format!("{name} {index} {loss}"), scalar(value), &step[loss], 3e-5);
            }
            let temperature = trainer.learner.contrast.as_ref().unwrap().temperature();
            close("temperature", scalar(&temperature), &step["temp"], 3e-5);
        }
        let (names, changed) = (fixture.names("pretrain"), changes(&before, &named(&trainer.learner)));
        let expected = fixture.values(&format!("{name}.changes"));
        let (off, at) = difference(&names, &summary(&names, &changed), &expected);
        println!("{name}: weights moved by {off:.1e} too much (`{at}`)");
        assert!(off <= CHANGE, "{name}: off by {off:e} at `{at}`");

        let names = blip_tests::training::strings(&fixture.cases["momentum_parameters"]);
        let moved = changes(&momentum_before, &momentum(&trainer));
        let expected = fixture.values(&format!("{name}.momentum_changes"));
        let (off, at) = difference(&names, &summary(&names, &moved), &expected);
        println!("{name}: momentum networks moved by {off:.1e} too much (`{at}`)");
        assert!(off <= CHANGE, "{name}: momentum is off by {off:e} at `{at}`");
        let queues = &trainer.memory.as_ref().unwrap().queues;
        assert_eq!(queues.place().next as u64, case["pointer"].as_u64().unwrap());
        same(&fixture, &format!("{name}.image_queue"), queues.images().transpose(), 3e-5);
        same(&fixture, &format!("{name}.text_queue"), queues.texts().transpose(), 3e-5);
    }
}

#[test]
fn retrieval_with_several_texts_an_image_is_the_twins() {
    let fixture = Fixture::load();
    let case = fixture.case("retrieval");
    let learner = learner(&fixture, "retrieval");
    let Memory { momentum, queues } = memory(&fixture, &learner, "retrieval");
    let momentum = follow(momentum, &learner.blip, 0.995);
    let ids: Vec<u64> = serde_json::from_value(case["image_ids"].clone()).unwrap();
    let queued: Vec<i64> = serde_json::from_value(case["queue_ids"].clone()).unwrap();
    let queued = queued.into_iter().map(|id| u64::try_from(id).ok()).collect();
    let mut queues = queues.at(Place { next: case["start"].as_u64().unwrap() as usize, ids: queued });

    let texts = rows(&fixture.cases["ids"]);
    let pixels = images(&fixture, 0, 4).on(&graph());
    let tokens = learner.blip.vision.forward(pixels.clone());
    let student = features(&learner.blip, tokens.clone(), texts.on(&graph(), TOKENS.cls), Noise::NONE);
    let teacher_tokens = momentum.vision.forward(pixels.inner());
    let teacher = features(&momentum, teacher_tokens, texts.on(&Device::flex(), TOKENS.cls), Noise::NONE);
    let truth = matches(&ids, &queues, &Device::flex());
    let temperature = learner.contrast.as_ref().unwrap().temperature();
    let itc = contrast(&student, &teacher, &queues, temperature.clone(), 0.4, Some(truth)).loss;
    close("itc", scalar(&itc), &case["itc"], LOSS);

    let scores = student.images.clone().matmul(student.texts.clone().transpose()) / temperature.unsqueeze();
    let rule = Rule { floor: 0.0, images: Some(Images { rows: &ids, candidates: &ids }) };
    for (name, scores) in [("image_weights", scores.clone().transpose()), ("text_weights", scores)] {
        let expected = fixture.values(&format!("retrieval.{name}"));
        for (row, scores) in floats(scores).chunks(4).enumerate() {
            for (got, expected) in rule.weights(row, scores).iter().zip(&expected[4 * row..]) {
                assert!((got - f64::from(*expected)).abs() < 1e-5, "{name} {row}: {got} {expected}");
            }
        }
    }
    let negatives =
        Negatives { images: places(&case["negative_images"]), texts: places(&case["negative_texts"]) };
    let kv = learner.blip.text_encoder.as_ref().unwrap().cross_kv(tokens);
    let itm = matching(
        &learner.blip,
        &kv,
        (&texts, &Nearly::default()),
        &negatives,
        (TOKENS.enc, Noise::NONE),
        &graph(),
    );
    close("itm", scalar(&itm), &case["itm"], LOSS);
    gradients(&fixture, "retrieval", "retrieval.gradients", &learner, itc + itm);

    queues.push(&itc::fresh(teacher, ids));
    let after: Vec<i64> = serde_json::from_value(case["queue_ids_after"].clone()).unwrap();
    let after: Vec<Option<u64>> = after.into_iter().map(|id| u64::try_from(id).ok()).collect();
    assert_eq!(
        (queues.place().ids.clone(), queues.place().next as u64),
        (after, case["pointer"].as_u64().unwrap())
    );
}

#[test]
fn weighted_answers_are_the_twins() {
    let fixture = Fixture::load();
    let case = fixture.case("vqa");
    let learner = learner(&fixture, "vqa");
    let counts = places(&case["counts"]);
    let weights: Vec<f32> = serde_json::from_value(case["weights"].clone()).unwrap();
    let batch = Questions {
        images: images(&fixture, 0, 3),
        questions: rows(&case["questions"]),
        about: vec![0, 1, 2],
        answers: rows(&case["answers"]),
        asked: counts.iter().enumerate().flat_map(|(place, count)| vec![place; *count]).collect(),
        weights: HostWeights { prompt: 1, of_text: weights.iter().map(|weight| weight / 3.0).collect() },
    };
    let losses = Vqa { tokens: TOKENS }.losses(&learner, batch, &mut pass(&graph())).unwrap();
    close("vqa", scalar(&losses.total()), &case["loss"], LOSS);
    gradients(&fixture, "vqa", "vqa.gradients", &learner, losses.total());
}

#[test]
fn statements_about_two_images_are_the_twins() {
    let fixture = Fixture::load();
    let case = fixture.case("nlvr2");
    let learner = learner(&fixture, "nlvr2");
    let batch = Statements {
        images: images(&fixture, 0, 4),
        texts: rows(&case["ids"]),
        labels: serde_json::from_value(case["labels"].clone()).unwrap(),
    };
    let losses = Nlvr2 { enc: TOKENS.enc }.losses(&learner, batch, &mut pass(&graph())).unwrap();
    close("nlvr2", scalar(&losses.total()), &case["loss"], LOSS);
    gradients(&fixture, "nlvr2", "nlvr2.gradients", &learner, losses.total());
}

fn pass(device: &Device) -> Pass<'_> {
    let noise = PassNoise::new(NoiseRecipe::default(), Draw::new(1, Purpose::Noise, 0, 0), device);
    let negatives = Draw::new(1, Purpose::Negatives, 0, 0);
    Pass { device, memory: None, softness: 0.0, negatives, noise, frozen_vision: None }
}

#[test]
fn schedules_are_the_twins() {
    let fixture = Fixture::load();
    let numbers = &fixture.cases["numbers"];
    let all = |name: &str| numbers[name].as_array().unwrap().clone();
    let recipe = |epochs| Recipe { epochs, epoch_steps: Some(10_000), ..Recipe::pretraining() };
    for row in all("pretrain_lr") {
        let step = 10_000 * row["epoch"].as_u64().unwrap() + row["step"].as_u64().unwrap();
        let recipe = recipe(100);
        close("lr", recipe.schedule.rate(recipe.position(step as usize, 0)), &row["lr"], 1e-12);
    }
    for row in all("cosine_lr") {
        let epochs = row["epochs"].as_u64().unwrap() as usize;
        let (peak, floor) = (row["peak"].as_f64().unwrap(), row["low"].as_f64().unwrap());
        let schedule = Schedule::Cosine { peak, floor };
        for (epoch, lr) in row["lr"].as_array().unwrap().iter().enumerate() {
            close("lr", schedule.rate(recipe(epochs).position(10_000 * epoch + 77, 0)), lr, 1e-12);
        }
    }
    for row in all("alpha") {
        let ramp = row["ramp"].as_u64().unwrap() as usize;
        let contrast = ContrastRecipe { queue: 1, momentum: 0.995, softness: 0.4, softness_epochs: 1.0 };
        let recipe = Recipe { epoch_steps: Some(ramp), contrast: Some(contrast), ..recipe(100) };
        let softness = recipe.softness(recipe.position(row["step"].as_u64().unwrap() as usize, 0));
        assert!((softness - row["alpha"].as_f64().unwrap()).abs() < 1e-12);
    }
}
