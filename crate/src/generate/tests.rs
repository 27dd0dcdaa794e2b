//! The behaviour of [`generate`](super::generate) at its edges.

use super::toy::{EOS, Scripted, ToyLm, block_on};
use super::{Control, Decoder, GenerateConfig, Hypothesis, LengthRule, Logits, Progress, Room, generate};
use crate::{Error, ErrorKind, Result};

const LM: ToyLm = ToyLm { seed: 5, vocab: 300, spread: 8.0, repeat: 1.0, end: 2.0 };

fn toy() -> Scripted<impl Fn(&[u32]) -> Vec<f32>> {
    Scripted::new(LM.vocab, |prefix: &[u32]| LM.logits(prefix))
}

fn run(decoder: &mut impl Decoder, prompt: &[u32], config: &GenerateConfig) -> Result<Vec<Hypothesis>> {
    block_on(generate(decoder, prompt, EOS, config, &mut |_| Control::Continue))
}

/// Always wants the end, then token 2, then 3.
fn eager(_: &[u32]) -> Vec<f32> {
    vec![-5.0, 3.0, 1.0, 0.0, -1.0, -2.0, -3.0, -4.0]
}

fn every_mode() -> [GenerateConfig; 4] {
    let beam = GenerateConfig { num_beams: 3, max_length: 9, ..GenerateConfig::default() };
    [
        GenerateConfig { max_length: 9, ..GenerateConfig::default() },
        beam.clone(),
        GenerateConfig { length_rule: LengthRule::Orig, ..beam },
        GenerateConfig { max_length: 9, min_length: 0, num_captions: 3, ..GenerateConfig::nucleus(1) },
    ]
}

#[test]
fn the_end_at_once_is_an_empty_finished_caption() {
    for config in every_mode() {
        let config = GenerateConfig { top_p: 0.1, ..config };
        let found = run(&mut Scripted::new(8, eager), &[2], &config).unwrap();
        let expected = 3.0 - eager(&[]).iter().map(|x| x.exp()).sum::<f32>().ln();
        for hypothesis in &found[..1] {
            assert_eq!((hypothesis.ids.len(), hypothesis.finished), (0, true), "{config:?}");
            assert!((hypothesis.log_prob - expected).abs() < 1e-5, "{hypothesis:?}, expected {expected}");
        }
    }
}

#[test]
fn the_minimum_length_counts_the_prompt() {
    for (prompt, generated) in [(vec![2], 3), (vec![2, 3, 4], 1), (vec![2, 3, 4, 5], 0)] {
        let config = GenerateConfig { min_length: 4, max_length: 9, ..GenerateConfig::default() };
        let found = run(&mut Scripted::new(8, eager), &prompt, &config).unwrap();
        assert_eq!(found[0].ids, vec![2; generated], "prompt {prompt:?}");
        assert!(found[0].finished);
    }
}

#[test]
fn the_maximum_length_counts_the_prompt_and_cuts() {
    let never = |_: &[u32]| vec![0.0, f32::NEG_INFINITY, 1.0, 2.0, 0.5, 0.1, 0.0, 0.0];
    for config in every_mode() {
        let found = run(&mut Scripted::new(8, never), &[2, 3, 4], &config).unwrap();
        assert_eq!(found.len(), config.num_captions);
        for hypothesis in found {
            assert_eq!((hypothesis.ids.len(), hypothesis.finished), (6, false), "{config:?}");
        }
    }
}

#[test]
fn a_prompt_that_fills_the_maximum_length_is_a_bad_option() {
    for config in every_mode() {
        for prompt in [&[2_u32; 9][..], &[2; 12], &[], &[2, 300]] {
            let error = run(&mut toy(), prompt, &config).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadOption, "{prompt:?}: {error}");
        }
        assert!(run(&mut toy(), &[2; 8], &config).is_ok(), "one token fits");
    }
}

#[test]
fn an_end_token_outside_the_vocabulary_is_refused() {
    let mut silent = |_: Progress<'_>| Control::Continue;
    let error =
        block_on(generate(&mut toy(), &[2], 300, &GenerateConfig::default(), &mut silent)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadVocabulary);
}

#[test]
fn logits_that_cannot_be_ranked_end_with_a_gpu_error_at_any_step() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for length in [1, 3] {
            let script =
                move |prefix: &[u32]| if prefix.len() > length { vec![bad; 8] } else { vec![0.0; 8] };
            for config in every_mode() {
                let config = GenerateConfig { min_length: 9, ..config };
                let error = run(&mut Scripted::new(8, script), &[2], &config).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Gpu, "{bad} {config:?}");
            }
        }
    }
}

#[test]
fn options_that_forbid_the_only_possible_token_end_with_an_error() {
    let only_end = |_: &[u32]| vec![f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    for config in every_mode() {
        let config = GenerateConfig { min_length: 9, ..config };
        let error = run(&mut Scripted::new(3, only_end), &[2], &config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Gpu, "{config:?}");
    }
}

#[test]
fn fewer_continuations_than_beams_still_generate() {
    let two = |_: &[u32]| vec![0.0, -1.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
    for length_rule in [LengthRule::Hf, LengthRule::Orig] {
        let config = GenerateConfig {
            num_beams: 4,
            num_captions: 4,
            max_length: 4,
            length_rule,
            ..Default::default()
        };
        let found = run(&mut Scripted::new(4, two), &[2], &config).unwrap();
        assert_eq!(found[0].ids, [0, 0, 0], "{found:?}");
        assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score), "{found:?}");
    }
}

#[test]
fn a_wrong_number_of_logits_is_an_internal_error() {
    for config in every_mode() {
        let error = run(&mut Scripted::new(9, eager), &[2], &config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().contains("8 scores"), "{error}");
    }
}

#[test]
fn an_error_of_the_decoder_passes_through() {
    struct Lost;
    impl Decoder for Lost {
        async fn prefill(&mut self, _: &[u32], _: Room) -> Result<Logits> {
            Ok(Logits::All(vec![0.0; 8]))
        }
        async fn step(&mut self, _: &[usize], _: &[u32]) -> Result<Logits> {
            Err(Error::new(ErrorKind::DeviceLost, "gone"))
        }
        fn vocab_size(&self) -> usize {
            8
        }
    }
    for config in every_mode() {
        assert_eq!(run(&mut Lost, &[2], &config).unwrap_err().kind(), ErrorKind::DeviceLost);
    }
}

#[test]
fn ties_go_to_the_lower_token() {
    let flat = |_: &[u32]| vec![1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
    for config in &every_mode()[..3] {
        let found = run(&mut Scripted::new(8, flat), &[2], config).unwrap();
        assert_eq!(found[0].ids, [0; 8], "{config:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_samples_and_another_seed_others() {
    let config = |seed, num_captions| GenerateConfig { num_captions, ..GenerateConfig::nucleus(seed) };
    let ids = |config: &GenerateConfig| -> Vec<Vec<u32>> {
        run(&mut toy(), &[2, 3], config).unwrap().into_iter().map(|found| found.ids).collect()
    };
    let four = ids(&config(7, 4));
    assert_eq!(four, ids(&config(7, 4)));
    assert_ne!(four, ids(&config(8, 4)));
    assert_eq!(four[..2], ids(&config(7, 2)), "a sample does not depend on how many there are");
    assert!((0..4).all(|i| (0..i).all(|j| four[i] != four[j])), "samples are independent: {four:?}");
}

#[test]
fn a_seed_gives_these_tokens_on_every_machine() {
    let config = GenerateConfig { top_k: 0, max_length: 12, ..GenerateConfig::nucleus(2022) };
    let expected = [120, 194, 244, 113, 147, 172, 200, 53, 106, 267];
    assert_eq!(run(&mut toy(), &[2, 3], &config).unwrap()[0].ids, expected);
}

#[test]
fn a_single_candidate_makes_sampling_greedy() {
    let greedy = GenerateConfig { max_length: 15, repetition_penalty: 1.3, ..GenerateConfig::default() };
    let expected = run(&mut toy(), &[2], &greedy).unwrap().remove(0);
    for sampled in [
        GenerateConfig { sample: true, top_k: 1, ..greedy.clone() },
        GenerateConfig { sample: true, top_k: 0, top_p: 1e-9, ..greedy.clone() },
        GenerateConfig { sample: true, temperature: 0.01, top_p: 0.5, ..greedy },
    ] {
        assert_eq!(run(&mut toy(), &[2], &sampled).unwrap(), vec![expected.clone()]);
    }
}

#[test]
fn every_progress_report_can_cancel() {
    for config in every_mode() {
        let mut reports = 0;
        block_on(generate(&mut toy(), &[2], EOS, &config, &mut |_| {
            reports += 1;
            Control::Continue
        }))
        .unwrap();
        for stop in 1..=reports {
            let mut seen = 0;
            let result = block_on(generate(&mut toy(), &[2], EOS, &config, &mut |_| {
                seen += 1;
                if seen == stop { Control::Cancel } else { Control::Continue }
            }));
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Aborted);
            assert_eq!(seen, stop, "nothing is reported after a cancellation");
        }
    }
}

#[test]
fn progress_streams_what_is_returned() {
    for config in every_mode() {
        let mut last: Vec<Option<(Vec<u32>, f32)>> = vec![None; config.num_captions];
        let mut lengths: Vec<Vec<usize>> = vec![Vec::new(); config.num_captions];
        let found = block_on(generate(&mut toy(), &[2], EOS, &config, &mut |progress| {
            assert!(last[progress.index].is_none(), "a report after the last one");
            lengths[progress.index].push(progress.ids.len());
            if progress.done {
                last[progress.index] = Some((progress.ids.to_vec(), progress.log_prob));
            }
            Control::Continue
        }))
        .unwrap();
        let returned: Vec<_> = found.into_iter().map(|found| Some((found.ids, found.log_prob))).collect();
        assert_eq!(last, returned, "{config:?}");
        for lengths in lengths {
            let grows = lengths[..lengths.len() - 1].iter().copied().eq(1..lengths.len());
            assert!(grows, "one token a report: {lengths:?}");
        }
    }
}

#[test]
fn rows_of_the_decoder_follow_the_search() {
    for config in every_mode() {
        let mut decoder = toy();
        decoder.waits = true;
        run(&mut decoder, &[2], &config).unwrap();
        let width = config.num_beams.max(config.num_captions);
        assert_eq!(decoder.calls[0], 1, "the prompt is one row");
        assert!(decoder.calls[1..].iter().all(|rows| (1..=width).contains(rows)));
        if config.num_beams > 1 {
            assert!(decoder.calls[1..].iter().all(|rows| *rows == width), "{:?}", decoder.calls);
        }
    }
}
