//! Quantised models from end to end: what they say, and that the kernels compute with exactly the
//! numbers that codes and scales stand for.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use blip_tests::captioner;
use blip_tests::compare::values;
use blip_tests::corpus::{Corpus, ids};
use blip_tests::icons::icons;
use blip_tests::place::Place;
use blip_web::config::BlipConfig;
use blip_web::device::{OpenDevice, block_on};
use blip_web::generate::{Control, generate};
use blip_web::image::preprocess;
use blip_web::model::{Blip, Grounding, KvCache};
use blip_web::tasks::{CaptionOptions, CaptionProgress, ModelDecoder, Session};
use blip_web::tokenizer::Tokenizer;
use blip_web::train::evaluate::score;
use blip_web::train::scenes::{Scene, SceneWorld, Split, World};
use blip_web::weights::{self, Checkpoint, Container, Dtype, Precision, Quantisation, StoredTensor};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

const F32: Quantisation = Quantisation::uniform(Precision::F32);
const F16: Quantisation = Quantisation::uniform(Precision::F16);
const Q8: Quantisation = Quantisation::uniform(Precision::Q8);
const Q4: Quantisation = Quantisation::uniform(Precision::Q4);
const MIXED: Quantisation = Quantisation { vision: Precision::Q8, text: Precision::Q4 };

const EMBEDDING: &str = "text_decoder.bert.embeddings.word_embeddings.weight";
const HEAD: &str = "text_decoder.cls.predictions.decoder.weight";

/// The container of a checkpoint. Of a quantised one, `F32` is the same numbers written out.
fn stored_as(config: &BlipConfig, checkpoint: &Checkpoint, quantisation: Quantisation) -> Checkpoint {
    let mut bytes = Vec::new();
    let container = Container::new(config, checkpoint, quantisation).unwrap();
    container.write("model.safetensors", &mut bytes, &mut |_| {}).unwrap();
    Checkpoint::from_safetensors(bytes).unwrap()
}

/// A trained captioner: its configuration, weights and vocabulary.
fn trained() -> (BlipConfig, Checkpoint, Vec<u8>) {
    let vocab = std::fs::read(captioner::folder().join("vocab.txt")).unwrap();
    (captioner::manifest().config, captioner::checkpoint(), vocab)
}

/// The same tensor with other bytes.
fn with_bytes(tensor: &StoredTensor, bytes: Vec<u8>) -> StoredTensor {
    StoredTensor::new(tensor.shape.clone(), tensor.dtype, move || Ok(bytes.clone()))
}

mod exam {
    use super::*;

    /// Two of these are a point.
    const SCENES: u64 = 200;

    /// How many of the first held-out scenes the captioner describes exactly, on the CPU, its weights stored like
    /// this and then changed.
    fn exact(
        world: &SceneWorld,
        scenes: u64,
        quantisation: Quantisation,
        change: impl FnOnce(&mut Checkpoint),
    ) -> usize {
        let (config, checkpoint, vocab) = trained();
        let mut stored = stored_as(&config, &checkpoint, quantisation);
        change(&mut stored);
        let device = Place::Flex.device().unwrap();
        let session = Session::from_checkpoint(&config, &stored, &vocab, &device).unwrap();
        let options = CaptionOptions::default();
        let mut ignore = |_: CaptionProgress| Control::Continue;
        let caption =
            |scene: &Scene| Ok(block_on(session.caption_image(&scene.image, &options, &mut ignore))?.text);
        score(world, Split::HeldOut, 0, scenes, caption).unwrap().all.exact
    }

    #[test]
    fn q8_loses_at_most_one_point_of_held_out_captions_and_q4_at_most_three() {
        let Some(icons) = icons() else { return };
        let world = SceneWorld::of(World::V0, &icons).unwrap();
        let before = exact(&world, SCENES, F16, |_| ());
        for (quantisation, points) in [(Q8, 1), (MIXED, 3), (Q4, 3)] {
            let after = exact(&world, SCENES, quantisation, |_| ());
            println!("{quantisation}: {after} of {SCENES} exact, f16: {before}");
            let lost = 100 * before.saturating_sub(after);
            assert!(lost <= points * SCENES as usize, "{quantisation}: {after}, f16: {before}");
        }
    }

    #[test]
    fn codes_in_another_order_fail_the_exam() {
        const SCENES: u64 = 20;
        let Some(icons) = icons() else { return };
        let world = SceneWorld::of(World::V0, &icons).unwrap();
        let before = exact(&world, SCENES, Q4, |_| ());
        let after = exact(&world, SCENES, Q4, |checkpoint| {
            for tensor in checkpoint.tensors.values_mut().filter(|tensor| tensor.dtype == Dtype::U8) {
                let bytes = tensor.bytes().unwrap();
                *tensor = with_bytes(tensor, bytes.into_iter().map(|pair| pair.rotate_left(4)).collect());
            }
        });
        assert!(before >= 16 && after <= 2, "{before} and {after} of {SCENES}");
    }
}

mod arithmetic {
    use super::*;

    /// A model and what it is asked.
    struct Case {
        name: &'static str,
        config: BlipConfig,
        checkpoint: Checkpoint,
        /// `[3, size, size]` each.
        pictures: Vec<Vec<f32>>,
        /// Texts of one length, one for each picture.
        ids: Vec<Vec<u32>>,
    }

    impl Case {
        /// Two texts about two pictures, for a model of the parity corpus: its numbers are random and
        /// large, and its widths are no multiples of any group.
        fn of_corpus(name: &'static str) -> Self {
            let corpus = Corpus::open(name);
            let case = &corpus.cases.decoder[0];
            let device = Device::flex();
            let pixels = |index: &usize| values(corpus.images(&[*index], &device));
            let (pictures, ids) = (case.images.iter().map(pixels).collect(), case.ids.clone());
            let checkpoint = corpus.checkpoint();
            Self { name, config: corpus.config, checkpoint, pictures, ids }
        }

        /// The samples beside it with the beginning of their captions, for a model that was trained.
        fn of_trained() -> Self {
            const TOKENS: usize = 8;
            let (config, checkpoint, vocab) = trained();
            let tokenizer = Tokenizer::from_vocab(&vocab).unwrap();
            let folder = captioner::folder();
            let index = std::fs::read_to_string(folder.join("samples.json")).unwrap();
            let samples: Vec<serde_json::Value> = serde_json::from_str(&index).unwrap();
            let (mut pictures, mut ids) = (Vec::new(), Vec::new());
            for sample in &samples {
                let text = tokenizer.encode_prompt(sample["truth"].as_str()).unwrap();
                if text.len() >= TOKENS {
                    let picture = image::open(folder.join(sample["image"].as_str().unwrap())).unwrap();
                    pictures.push(preprocess(&picture.to_rgb8(), config.vision_config.image_size));
                    ids.push(text[..TOKENS].to_vec());
                }
            }
            assert!(ids.len() >= 2);
            Self { name: "trained", config, checkpoint, pictures, ids }
        }
    }

    /// What a model makes of a case.
    struct Answers {
        tokens: Vec<f32>,
        logits: Vec<f32>,
        /// The same logits, token by token through the caches.
        steps: Vec<f32>,
    }

    fn answers(case: &Case, checkpoint: &Checkpoint, open: &OpenDevice) -> Answers {
        let device = &open.device;
        let (model, _) = weights::load_as(&case.config, checkpoint, device, open.halves()).unwrap();
        let (rows, seq) = (case.ids.len(), case.ids[0].len());
        let size = case.config.vision_config.image_size;
        let pixels = TensorData::new(case.pictures.concat(), [rows, 3, size, size]);
        let pixels = Tensor::<4>::from_data(pixels, (device, model.vision.activations()));
        let tokens = model.vision.forward(pixels);
        let grounding = Grounding::new(model.decoder().unwrap().cross_kv(tokens.clone()));
        let logits = model.lm_logits(ids(&case.ids, device), None, &grounding);
        let mut cache = KvCache::new(model.decoder().unwrap(), rows, seq, device);
        let parents: Vec<usize> = (0..rows).collect();
        let mut steps = Vec::new();
        for at in 0..seq {
            let ids: Vec<u32> = case.ids.iter().map(|row| row[at]).collect();
            cache.feed(&parents, &ids);
            steps.extend(values(model.step_logits(&grounding, &mut cache)));
            cache.advance();
        }
        Answers { tokens: values(tokens), logits: values(logits), steps }
    }

    /// `‖got − expected‖ / ‖expected‖`.
    fn relative_error(got: &[f32], expected: &[f32]) -> f64 {
        assert_eq!(got.len(), expected.len());
        let square = |x: f32| f64::from(x) * f64::from(x);
        let off: f64 = got.iter().zip(expected).map(|(got, expected)| square(got - expected)).sum();
        (off / expected.iter().copied().map(square).sum::<f64>()).sqrt()
    }

    /// Quantised models on `open` against the same numbers written out in f32, on the CPU: apart by no
    /// more than `allowed`.
    #[expect(clippy::print_stdout, reason = "a passing test shows how close it came")]
    fn equals_the_numbers_written_out(open: &OpenDevice, cases: &[Case], allowed: f64) {
        let reference = Place::Flex.device().unwrap();
        let mut worst = 0.0f64;
        for case in cases {
            for quantisation in [Q8, Q4] {
                let codes = stored_as(&case.config, &case.checkpoint, quantisation);
                let numbers = stored_as(&case.config, &codes, F32);
                assert!(numbers.tensors.values().all(|tensor| tensor.dtype == Dtype::F32));
                let (got, expected) = (answers(case, &codes, open), answers(case, &numbers, &reference));
                for (what, got, expected) in [
                    ("image tokens", got.tokens, expected.tokens),
                    ("logits", got.logits, expected.logits),
                    ("steps", got.steps, expected.steps),
                ] {
                    let error = relative_error(&got, &expected);
                    println!("{} {quantisation}: {what} {error:.1e}", case.name);
                    worst = worst.max(error);
                }
            }
        }
        assert!(worst <= allowed, "off by {worst:e}, allowed {allowed:e}");
        assert!(worst > 0.0, "both were computed with the same kernels");
    }

    fn corpus() -> [Case; 2] {
        ["caption", "caption_untied"].map(Case::of_corpus)
    }

    #[test]
    fn wgpu_computes_with_the_numbers_that_codes_stand_for() {
        // Every factor is exact in f32; only sums are in another order.
        const ALLOWED: f64 = 1e-5;
        let Some(open) = Place::Wgpu.device() else { return };
        let open = open.with_halves(false).unwrap();
        equals_the_numbers_written_out(&open, &corpus(), ALLOWED);
        equals_the_numbers_written_out(&open, &[Case::of_trained()], ALLOWED);
    }

    #[test]
    fn wgpu_with_halves_computes_with_the_numbers_that_codes_stand_for() {
        // Activations keep eleven bits between kernels.
        const ALLOWED: f64 = 1e-2;
        let Some(open) = Place::Wgpu.device() else { return };
        match open.with_halves(true) {
            Ok(open) => {
                equals_the_numbers_written_out(&open, &corpus(), ALLOWED);
                equals_the_numbers_written_out(&open, &[Case::of_trained()], ALLOWED);
            }
            Err(reason) => println!("skipped: {reason}"),
        }
    }

    #[test]
    fn the_cpu_computes_with_the_numbers_that_codes_stand_for() {
        // Activations keep seven bits: an element is off by up to 1/126 of the greatest of its group, by
        // about 1 % of what is typical in it, and so is every product. Layers add to that, and random
        // weights make it several times greater, as they do with the roundings of halves.
        const TRAINED: f64 = 0.05;
        const RANDOM: f64 = 0.12;
        let open = Place::Flex.device().unwrap();
        equals_the_numbers_written_out(&open, &[Case::of_trained()], TRAINED);
        equals_the_numbers_written_out(&open, &corpus(), RANDOM);
    }

    #[test]
    fn wgpu_generates_the_tokens_that_the_numbers_written_out_generate() {
        let Some(wgpu) = Place::Wgpu.device() else { return };
        let wgpu = wgpu.with_halves(false).unwrap();
        let cpu = Place::Flex.device().unwrap();
        let corpus = Corpus::open("caption");
        for quantisation in [Q8, MIXED] {
            let codes = stored_as(&corpus.config, &corpus.checkpoint(), quantisation);
            let numbers = stored_as(&corpus.config, &codes, F32);
            let (got, expected) = (generations(&corpus, &codes, &wgpu), generations(&corpus, &numbers, &cpu));
            assert_eq!(got, expected, "{quantisation}");
            // Long ones among them, and not those of the plain weights.
            assert!(got.len() >= 12 && got.iter().flatten().any(|ids| ids.len() >= 12));
            assert_ne!(got, generations(&corpus, &corpus.checkpoint(), &cpu), "{quantisation}");
        }
    }

    /// The token ids that every case of the corpus generates for its last picture.
    fn generations(corpus: &Corpus, checkpoint: &Checkpoint, open: &OpenDevice) -> Vec<Vec<Vec<u32>>> {
        let text = &corpus.config.text_config;
        let (model, _) = weights::load(&corpus.config, checkpoint, &open.device).unwrap();
        let mut all = Vec::new();
        for case in &corpus.cases.generation {
            if let Some(image) = case.images.last() {
                let tokens = model.vision.forward(corpus.images(&[image.image], &open.device));
                let grounding = Grounding::new(model.decoder().unwrap().cross_kv(tokens));
                let mut decoder = ModelDecoder::new(&model, open, grounding, text);
                let config = case.options.config();
                let found = block_on(generate(
                    &mut decoder,
                    &case.decoder_ids,
                    text.sep_token_id,
                    &config,
                    &mut |_| Control::Continue,
                ));
                all.push(found.unwrap().into_iter().map(|found| found.ids).collect());
            }
        }
        all
    }
}

mod storage {
    use super::*;

    /// Bytes of parameters on their device.
    struct Bytes(usize);

    impl ModuleVisitor for Bytes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 += param.val().shape().num_elements() * param.val().dtype().size();
        }

        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            self.0 += param.val().shape().num_elements() * param.val().dtype().size();
        }
    }

    fn bytes<M: Module>(module: &M) -> usize {
        let mut bytes = Bytes(0);
        module.visit(&mut bytes);
        bytes.0
    }

    fn embedding_bytes(model: &Blip) -> usize {
        bytes(model.decoder().unwrap().word_embeddings())
    }

    /// A copy of the embedding is put beside it as the head: equal, or with one number changed.
    fn with_head(corpus: &Corpus, equal: bool) -> Checkpoint {
        let mut checkpoint = corpus.checkpoint();
        let embedding = checkpoint.tensors[EMBEDDING].clone();
        let mut bytes = embedding.bytes().unwrap();
        if !equal {
            bytes[..4].copy_from_slice(&0.5f32.to_le_bytes());
        }
        checkpoint.tensors.insert(HEAD.to_owned(), with_bytes(&embedding, bytes));
        checkpoint
    }

    #[test]
    fn a_tied_embedding_is_stored_once() {
        let corpus = Corpus::open("caption");
        for quantisation in [Q8, Q4] {
            let names = |equal| {
                let stored = stored_as(&corpus.config, &with_head(&corpus, equal), quantisation);
                let names = stored.tensors.into_keys();
                let words = names.filter(|name| name.starts_with(HEAD) || name.contains("word_embeddings"));
                words.collect::<Vec<_>>()
            };
            let scales = format!("{EMBEDDING}.scales");
            assert_eq!(names(true), [EMBEDDING, &scales]);
            assert_eq!(names(false), [EMBEDDING, &scales, HEAD, &format!("{HEAD}.scales")]);
        }
    }

    #[expect(clippy::print_stdout, reason = "a passing test shows the sizes")]
    fn a_tied_embedding_is_placed_once(open: &OpenDevice) {
        let corpus = Corpus::open("caption");
        for quantisation in [Q8, Q4] {
            let load =
                |checkpoint: &Checkpoint| weights::load(&corpus.config, checkpoint, &open.device).unwrap();
            let mut stored = stored_as(&corpus.config, &with_head(&corpus, true), quantisation);
            let (model, networks) = load(&stored);
            assert!(networks.tied_lm);
            let (once, embedding) = (bytes(&model), embedding_bytes(&model));
            let plain = corpus.config.text_config.vocab_size * corpus.config.text_config.hidden_size * 4;
            assert!(embedding > 0 && embedding < plain / 2, "{embedding} of {plain} bytes");
            // A file that says it twice changes nothing.
            for end in ["", ".scales"] {
                let copy = stored.tensors[&format!("{EMBEDDING}{end}")].clone();
                stored.tensors.insert(format!("{HEAD}{end}"), copy);
            }
            assert_eq!(bytes(&load(&stored).0), once, "{quantisation}");
            // A head of its own takes as much again.
            let untied = stored_as(&corpus.config, &with_head(&corpus, false), quantisation);
            assert_eq!(bytes(&load(&untied).0), once + embedding, "{quantisation}");
            println!("{quantisation}: {once} bytes on the device, {embedding} of them the embedding");
        }
    }

    #[test]
    fn a_tied_embedding_is_placed_once_on_the_cpu() {
        a_tied_embedding_is_placed_once(&Place::Flex.device().unwrap());
    }

    #[test]
    fn a_tied_embedding_is_placed_once_on_wgpu() {
        if let Some(open) = Place::Wgpu.device() {
            a_tied_embedding_is_placed_once(&open);
        }
    }
}
