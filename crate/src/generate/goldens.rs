//! Equality with both references over toy models: `tests/fixtures/generation/goldens.json`.

use serde::Deserialize;

use super::nucleus::Nucleus;
use super::toy::{EOS, Scripted, ToyLm, block_on};
use super::{Control, GenerateConfig, LengthRule, generate};

#[derive(Deserialize)]
struct Goldens {
    cases: Vec<Case>,
    nucleus: Vec<Filter>,
}

#[derive(Deserialize)]
struct Case {
    lm: ToyLm,
    prompt: Vec<u32>,
    config: GenerateConfig,
    expected: Vec<Expected>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    ids: Vec<u32>,
    finished: bool,
    log_prob: f32,
    score: f32,
}

#[derive(Deserialize)]
struct Filter {
    lm: ToyLm,
    prompt: Vec<u32>,
    config: GenerateConfig,
    kept: Vec<u32>,
}

fn goldens() -> Goldens {
    serde_json::from_str(include_str!("../../../tests/fixtures/generation/goldens.json")).unwrap()
}

/// Compares every case that `select` takes and returns how many there were: with all scores, and with
/// only the best of each row where a search asks for no more.
fn compare(select: impl Fn(&GenerateConfig) -> bool) -> usize {
    let count = compare_with(false, &select);
    assert_eq!(compare_with(true, &select), count);
    count
}

fn compare_with(ranks: bool, select: &impl Fn(&GenerateConfig) -> bool) -> usize {
    let mut count = 0;
    for (number, case) in goldens().cases.iter().enumerate().filter(|(_, case)| select(&case.config)) {
        let mut decoder = Scripted::new(case.lm.vocab, |prefix: &[u32]| case.lm.logits(prefix));
        decoder.ranks = ranks;
        let mut silent = |_: super::Progress<'_>| Control::Continue;
        let found = block_on(generate(&mut decoder, &case.prompt, EOS, &case.config, &mut silent)).unwrap();
        let context = format!("case {number}: {:?}", case.config);
        let ids = |list: &[super::Hypothesis]| list.iter().map(|h| h.ids.clone()).collect::<Vec<_>>();
        let expected: Vec<_> = case.expected.iter().map(|e| e.ids.clone()).collect();
        assert_eq!(ids(&found), expected, "{context}");
        for (found, expected) in found.iter().zip(&case.expected) {
            let near = |a: f32, b: f32| (a - b).abs() <= 2e-5 * b.abs().max(1.0);
            assert_eq!(found.finished, expected.finished, "{context}");
            assert!(near(found.log_prob, expected.log_prob), "{context}: {found:?}, expected {expected:?}");
            assert!(near(found.score, expected.score), "{context}: {found:?}, expected {expected:?}");
        }
        count += 1;
    }
    count
}

#[test]
fn greedy_equals_transformers() {
    assert_eq!(compare(|config| config.num_beams == 1), 60);
}

#[test]
fn beam_search_equals_current_transformers() {
    assert_eq!(compare(|config| config.num_beams > 1 && config.length_rule == LengthRule::Hf), 180);
}

#[test]
fn beam_search_by_the_original_rule_equals_transformers_4_15() {
    assert_eq!(compare(|config| config.length_rule == LengthRule::Orig), 180);
}

#[test]
fn the_two_rules_differ_on_the_same_models() {
    let mut differing = 0;
    let cases = goldens().cases;
    for case in cases.iter().filter(|case| case.config.num_beams > 1) {
        let run = |length_rule| {
            let config = GenerateConfig { length_rule, ..case.config.clone() };
            let mut decoder = Scripted::new(case.lm.vocab, |prefix: &[u32]| case.lm.logits(prefix));
            let mut silent = |_: super::Progress<'_>| Control::Continue;
            block_on(generate(&mut decoder, &case.prompt, EOS, &config, &mut silent)).unwrap().remove(0).ids
        };
        differing += usize::from(run(LengthRule::Hf) != run(LengthRule::Orig));
    }
    assert!(differing >= 30, "only {differing} of 360 differ");
}

#[test]
fn the_nucleus_equals_transformers() {
    let filters = goldens().nucleus;
    assert_eq!(filters.len(), 60);
    for (number, case) in filters.iter().enumerate() {
        let GenerateConfig { temperature, top_k, top_p, .. } = case.config;
        let mut nucleus = Nucleus::new(temperature, top_k, top_p);
        let mut found: Vec<u32> =
            nucleus.filter(&case.lm.logits(&case.prompt)).iter().map(|(id, _)| *id).collect();
        found.sort_unstable();
        assert_eq!(found, case.kept, "filter {number}: {:?}", case.config);
    }
}
