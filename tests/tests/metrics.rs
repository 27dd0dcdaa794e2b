//! The metrics beside what the reference code makes of the same texts (`fixtures/metrics/make.py`).
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::path::Path;

use blip_web::train::metrics::captions::{Captioned, score};
use blip_web::train::metrics::ptb;
use blip_web::train::metrics::ranks::RankSummary;
use blip_web::train::metrics::retrieval::{
    NOT_KEPT, Retrieval, candidates, directed, reranked, texts_of_pictures,
};
use blip_web::train::metrics::vqa;
use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Sums run in another order than in the reference.
const RELATIVE: f64 = 1e-9;

fn fixture<T: DeserializeOwned>(path: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn close(what: &str, got: f64, expected: f64) {
    let allowed = RELATIVE * expected.abs().max(1e-6);
    assert!((got - expected).abs() <= allowed, "{what}: {got}, expected {expected}");
}

#[derive(Deserialize)]
struct Tokens {
    cases: Vec<(String, String)>,
}

#[test]
fn captions_have_the_tokens_of_the_reference() {
    let Tokens { cases } = fixture("metrics/ptb.json");
    assert!(cases.len() > 350);
    let wrong: Vec<_> = cases
        .iter()
        .filter(|(caption, tokens)| ptb::tokenise(caption) != *tokens)
        .map(|(caption, tokens)| format!("{caption:?}: {:?}, expected {tokens:?}", ptb::tokenise(caption)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[derive(Deserialize)]
struct Corpora {
    corpora: Vec<Corpus>,
}

#[derive(Deserialize)]
struct Corpus {
    captions: Vec<(String, Vec<String>)>,
    bleu: [f64; 4],
    bleus: Vec<[f64; 4]>,
    rouge: f64,
    rouges: Vec<f64>,
    cider: f64,
    ciders: Vec<f64>,
}

#[test]
fn captions_have_the_scores_of_the_reference() {
    let Corpora { corpora } = fixture("metrics/captions.json");
    for (number, corpus) in corpora.iter().enumerate() {
        let captions: Vec<_> =
            corpus.captions.iter().map(|(made, references)| Captioned::new(made, references)).collect();
        let scores = score(&captions).unwrap();
        close(&format!("corpus {number}: ROUGE-L"), scores.rouge_l.corpus, corpus.rouge);
        close(&format!("corpus {number}: CIDEr"), scores.cider.corpus, corpus.cider);
        for order in 0..4 {
            let name = format!("corpus {number}: BLEU-{}", order + 1);
            close(&name, scores.bleu.corpus[order], corpus.bleu[order]);
            for (index, expected) in corpus.bleus.iter().enumerate() {
                close(&format!("{name} of caption {index}"), scores.bleu.each[index][order], expected[order]);
            }
        }
        for (index, expected) in corpus.rouges.iter().enumerate() {
            close(
                &format!("corpus {number}: ROUGE-L of caption {index}"),
                scores.rouge_l.each[index],
                *expected,
            );
        }
        for (index, expected) in corpus.ciders.iter().enumerate() {
            close(&format!("corpus {number}: CIDEr of caption {index}"), scores.cider.each[index], *expected);
        }
        let sizes = [scores.bleu.each.len(), scores.rouge_l.each.len(), scores.cider.each.len()];
        assert_eq!(sizes, [captions.len(); 3]);
    }
}

#[derive(Deserialize)]
struct Answers {
    answers: Vec<(String, String, String)>,
    questions: Vec<(String, Vec<String>, f64)>,
    overall: [f64; 1],
}

#[test]
fn answers_are_normalised_and_scored_as_the_reference_does() {
    let Answers { answers, questions, overall } = fixture("metrics/vqa.json");
    for (answer, without_punctuation, normalised) in &answers {
        assert_eq!(vqa::without_punctuation(answer), *without_punctuation, "{answer:?}");
        // The reference trims answers elsewhere.
        if answer.trim() == answer && !answer.contains(['\n', '\t']) {
            assert_eq!(vqa::normalise(answer), *normalised, "{answer:?}");
        }
    }
    let (made, said): (Vec<_>, Vec<_>) =
        questions.iter().map(|(answer, said, _)| (answer.clone(), said.clone())).unzip();
    let scores = vqa::accuracies(&made, &said).unwrap();
    close("accuracy", scores.corpus, overall[0]);
    for ((answer, said, expected), got) in questions.iter().zip(&scores.each) {
        close(&format!("{answer:?} of {said:?}"), *got, *expected);
    }
}

#[derive(Deserialize)]
struct RetrievalCases {
    cases: Vec<RetrievalCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RetrievalCase {
    truth: Vec<usize>,
    kept: usize,
    pictures: Vec<Vec<usize>>,
    to_text: Direction,
    to_image: Direction,
    mean: f64,
}

#[derive(Deserialize)]
struct Direction {
    ranks: Vec<usize>,
    recalls: [f64; 3],
    mean: f64,
}

fn check(name: &str, summary: &RankSummary, expected: &Direction) {
    // The fixture's ranks begin with 0.
    let ranks: Vec<_> = expected.ranks.iter().map(|rank| rank + 1).collect();
    assert_eq!(*summary, RankSummary::of(&ranks).unwrap(), "{name}");
    assert_eq!(summary.recall, expected.recalls, "{name}");
    close(name, summary.mean_recall, expected.mean);
}

#[test]
fn retrieval_is_evaluated_as_the_reference_does() {
    let RetrievalCases { cases } = fixture("tasks/retrieval.json");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tasks/retrieval.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let data = tensors.tensor(name).unwrap().data();
        data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    for case in &cases {
        let (pictures, texts) = (case.pictures.len(), case.truth.len());
        let (similarity, to_text, to_image) = (floats("similarity"), floats("to_text"), floats("to_image"));
        let retrieval = Retrieval::of(&to_text, &to_image, &case.truth, pictures).unwrap();
        check("texts of pictures", &retrieval.to_text, &case.to_text);
        check("pictures of texts", &retrieval.to_image, &case.to_image);
        close("mean", retrieval.mean_recall, case.mean);
        // What is kept of a row is what the reference kept, and adding gives its row again.
        for (row, expected) in similarity.chunks(texts).zip(to_text.chunks(texts)) {
            let kept = candidates(row, case.kept);
            let logits: Vec<_> = kept.iter().map(|&index| expected[index] - row[index]).collect();
            let scores = reranked(row, &kept, &logits).unwrap();
            for (score, expected) in scores.iter().zip(expected) {
                assert!((score - expected).abs() < 1e-5, "{scores:?}");
                assert_eq!(*score == NOT_KEPT, *expected == NOT_KEPT);
            }
        }
        let right = texts_of_pictures(&case.truth, pictures).unwrap();
        assert_eq!(directed(&to_text, &right).unwrap(), retrieval.to_text);
    }
}
