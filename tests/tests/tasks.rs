//! Every task through `Session::answer` on every device, against the corpus of `fixtures/tasks/`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use blip_tests::calls::{Calls, Tolerance, picture, session};
use blip_tests::compare::Report;
use blip_tests::on_every_device;
use blip_tests::place::Place;
use blip_web::ErrorKind;
use blip_web::device::block_on;
use blip_web::gallery::{ContentHash, Hit};
use blip_web::generate::Control;
use blip_web::tasks::{
    Convention, Head, MatchOptions, OverlayOptions, Picture, Sampling, Session, Shown, frame_indices,
    overlay, overlay_pixels,
};
use image::{Rgb, RgbImage, Rgba};
use serde::Deserialize;
use serde_json::Value;

on_every_device! {
    captions_are_token_exact
    answers_are_those_of_either_length_rule
    answers_out_of_a_list_are_ranked_alike
    matches_agree_under_every_convention
    labels_are_ranked_alike
    features_agree
    dialogues_agree
    captions_are_scored_by_the_matching_network
    questions_about_frames_apart_are_answered_alike
    statements_about_two_pictures_agree
    retrieval_ranks_agree
}

/// A session on a device, and how close numbers of order one must come there.
struct On {
    session: Session,
    tolerance: f32,
}

fn run(place: Place, test: fn(&On)) {
    if let Some(device) = place.device() {
        test(&On { session: session(&device), tolerance: place.tolerance() });
    }
}

/// Makes every call whose name begins like that.
fn calls_agree(on: &On, file: &str, beginning: &str, factor: f32) {
    let calls = Calls::open(file);
    let mut report = Report::default();
    let tolerance = Tolerance { json: factor * on.tolerance, floats: on.tolerance };
    for call in calls.of(beginning) {
        calls.check(&mut report, &on.session, call, tolerance);
    }
    report.finish();
}

/// A sum of up to 19 log-probabilities collects their differences.
const SUMMED: f32 = 3.0;

fn captions_are_token_exact(on: &On) {
    assert_eq!(on.session.towers(), 2, "three networks share one image encoder, the fourth has its own");
    calls_agree(on, "answer", "caption.", SUMMED);
}

fn answers_are_those_of_either_length_rule(on: &On) {
    calls_agree(on, "answer", "ask.", SUMMED);
}

fn answers_out_of_a_list_are_ranked_alike(on: &On) {
    // Up to six log-probabilities of about -10 each, of an answer that the model finds unlikely.
    calls_agree(on, "answer", "rank.", SUMMED);
}

fn matches_agree_under_every_convention(on: &On) {
    // A match logit comes out of cross-attention over up to four pictures and four layers.
    calls_agree(on, "match", "match.", 2.0);
}

fn labels_are_ranked_alike(on: &On) {
    // A cosine's difference is divided by the temperature of 0.07, before a softmax that changes by at
    // most a quarter of what goes in.
    calls_agree(on, "match", "classify.", 4.0);
}

fn features_agree(on: &On) {
    calls_agree(on, "match", "embed.", 1.0);
}

fn dialogues_agree(on: &On) {
    calls_agree(on, "match", "dialogue.", 2.0);
}

fn captions_are_scored_by_the_matching_network(on: &On) {
    calls_agree(on, "several", "caption.", SUMMED);
}

fn questions_about_frames_apart_are_answered_alike(on: &On) {
    calls_agree(on, "several", "ask.", SUMMED);
}

/// The same statement about the same pictures, in a session where they are encoded for two image encoders.
fn statements_about_two_pictures_agree(on: &On) {
    let text = std::fs::read_to_string(blip_tests::corpus::fixtures().join("nlvr2/cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let mut report = Report::default();
    for case in cases["cases"].as_array().unwrap() {
        let image = |nth: usize| {
            let index = case["pictures"][nth][0].as_u64().unwrap() as usize;
            block_on(on.session.encode(&picture(index))).unwrap()
        };
        let request = blip_web::tasks::Request::from_json(&case["request"].to_string()).unwrap();
        let found =
            block_on(on.session.answer(&request, &[image(0), image(1)], &mut |_| Control::Continue)).unwrap();
        let found: Value = serde_json::from_str(&found.json).unwrap();
        // Logits reach 10, of which the tolerance is for numbers near one.
        report.json(&case["name"].to_string(), &found["results"], &case["results"], 4.0 * on.tolerance);
    }
    report.finish();
}

/// The evaluation of `fixtures/tasks/retrieval.json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Retrieval {
    texts: Vec<String>,
    pictures: Vec<[usize; 1]>,
    truth: Vec<usize>,
    kept: usize,
    to_text: Ranks,
    to_image: Ranks,
}

#[derive(Deserialize)]
struct Ranks {
    ranks: Vec<usize>,
    recalls: [f64; 3],
}

fn retrieval_ranks_agree(on: &On) {
    let file = Calls::<Retrieval>::open("retrieval");
    let [case] = &file.cases[..] else { panic!("one evaluation") };
    let pictures: Vec<Picture> =
        case.pictures.iter().map(|[index]| block_on(on.session.encode(&picture(*index))).unwrap()).collect();
    let cosines: Vec<Vec<f32>> =
        pictures.iter().map(|picture| scores(on, picture, &case.texts, &[Head::Itc])).collect();
    let mut report = Report::default();
    report.close("cosines", &cosines.concat(), file.tensor("similarity"), on.tolerance);

    // A picture's nearest texts, with both heads.
    let both = [Head::Itm, Head::Itc];
    let to_text = pictures.iter().zip(&cosines).map(|(picture, cosines)| {
        let nearest = nearest(cosines, case.kept);
        let texts: Vec<String> = nearest.iter().map(|text| case.texts[*text].clone()).collect();
        placed(nearest.into_iter().zip(scores(on, picture, &texts, &both)), case.texts.len())
    });
    let to_text: Vec<Vec<f32>> = to_text.collect();
    report.close("to text", &to_text.concat(), file.tensor("to_text"), 2.0 * on.tolerance);
    let owned = |picture: usize| (0..case.texts.len()).filter(move |text| case.truth[*text] == picture);
    let rows = to_text.iter().enumerate();
    let ranks: Vec<usize> =
        rows.map(|(picture, row)| owned(picture).map(|text| rank(row, text)).min().unwrap()).collect();
    check_ranks(&mut report, "to text", &ranks, &case.to_text);

    // A text's nearest pictures, as a gallery finds them, looked at again.
    let to_image = case.texts.iter().enumerate().map(|(text, words)| {
        let column: Vec<f32> = cosines.iter().map(|row| row[text]).collect();
        let hits = nearest(&column, pictures.len()).into_iter().map(|nth| Hit {
            hash: ContentHash::of(&nth.to_le_bytes()),
            key: nth.to_string(),
            score: column[nth],
        });
        let number = |hit: &Hit| hit.key.parse::<usize>().unwrap();
        let mut open = |hit: &Hit| Ok(Some(picture(case.pictures[number(hit)][0])));
        let (convention, mut go_on) = (Convention::Orig, |_, _| Control::Continue);
        let found = on.session.rerank(words, convention, hits.collect(), case.kept, &mut open, &mut go_on);
        let found = block_on(found).unwrap();
        assert_eq!(
            (found.len(), found.iter().filter(|one| one.itm.is_some()).count()),
            (pictures.len(), case.kept)
        );
        let row =
            placed(found[..case.kept].iter().map(|one| (number(&one.hit), one.score())), pictures.len());
        // What was looked at is in its order, and the rest in that of the search.
        assert!(found[..case.kept].is_sorted_by(|a, b| a.score() >= b.score()), "{found:?}");
        assert!(found[case.kept..].is_sorted_by(|a, b| a.hit.score >= b.hit.score), "{found:?}");
        row
    });
    let to_image: Vec<Vec<f32>> = to_image.collect();
    report.close("to image", &to_image.concat(), file.tensor("to_image"), 2.0 * on.tolerance);
    let rows = to_image.iter().zip(&case.truth);
    let ranks: Vec<usize> = rows.map(|(row, picture)| rank(row, *picture)).collect();
    check_ranks(&mut report, "to image", &ranks, &case.to_image);
    report.finish();
}

/// What a picture's texts are ranked by.
fn scores(on: &On, picture: &Picture, texts: &[String], heads: &[Head]) -> Vec<f32> {
    let options =
        MatchOptions { texts: texts.to_vec(), heads: Some(heads.to_vec()), convention: Convention::Orig };
    let mut go_on = |_: usize, _: usize| Control::Continue;
    let found = on.session.match_texts(picture, &options, &mut go_on);
    block_on(found).unwrap().into_iter().map(|text| text.score).collect()
}

/// The places of the highest, of equals the earlier ones, best first.
fn nearest(cosines: &[f32], kept: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..cosines.len()).collect();
    places.sort_by_key(|place| rank(cosines, *place));
    places.truncate(kept);
    places
}

/// Scores at their places; -100 for the others, as in the original.
fn placed(scores: impl Iterator<Item = (usize, f32)>, width: usize) -> Vec<f32> {
    let mut row = vec![-100.0; width];
    scores.for_each(|(place, score)| row[place] = score);
    row
}

/// How many are better, or as good and stand before.
fn rank(row: &[f32], wanted: usize) -> usize {
    let better =
        |(index, value): &(usize, &f32)| **value > row[wanted] || (**value == row[wanted] && *index < wanted);
    row.iter().enumerate().filter(better).count()
}

fn check_ranks(report: &mut Report, what: &str, ranks: &[usize], expected: &Ranks) {
    report.equal(what, &ranks, &&expected.ranks[..]);
    for (most, expected) in [1, 5, 10].into_iter().zip(expected.recalls) {
        let recall = 100.0 * ranks.iter().filter(|rank| **rank < most).count() as f64 / ranks.len() as f64;
        report.close(&format!("{what}: recall at {most}"), &[recall as f32], &[expected as f32], 1e-4);
    }
}

/// Which frames are looked at.
#[derive(Deserialize)]
struct Frames {
    length: usize,
    count: usize,
    orig: Vec<usize>,
    even: Vec<usize>,
}

#[test]
fn frames_are_those_of_the_original_or_evenly_spaced() {
    let cases = Calls::<Frames>::open("frames").cases;
    assert!(cases.len() >= 50);
    for Frames { length, count, orig, even } in cases {
        assert_eq!(frame_indices(length, count, Sampling::Orig), orig, "{count} of {length}");
        assert_eq!(frame_indices(length, count, Sampling::Even), even, "{count} of {length}");
    }
}

#[test]
fn a_second_look_is_at_what_can_be_opened_and_can_be_cancelled() {
    let device = Place::Flex.device().unwrap();
    let session = session(&device);
    let hits: Vec<Hit> = (0..12usize)
        .map(|nth| Hit {
            hash: ContentHash::of(&nth.to_le_bytes()),
            key: nth.to_string(),
            score: 0.9 - 0.05 * nth as f32,
        })
        .collect();
    // Every third one is gone, and none is opened that nobody looks at.
    let mut opened = Vec::new();
    let mut open = |hit: &Hit| {
        let number: usize = hit.key.parse().unwrap();
        opened.push(number);
        Ok((number % 3 != 1).then(|| picture(number % 8)))
    };
    let mut steps = Vec::new();
    let mut note = |done, total| {
        steps.push((done, total));
        Control::Continue
    };
    let found = session.rerank("a red dog", Convention::Orig, hits.clone(), 10, &mut open, &mut note);
    let found = block_on(found).unwrap();
    assert_eq!(opened, (0..10).collect::<Vec<_>>());
    let looked_at = found.iter().filter(|one| one.itm.is_some()).count();
    assert_eq!((found.len(), looked_at), (12, 7));
    assert!(found[..7].is_sorted_by(|a, b| a.score() >= b.score()), "{found:?}");
    let rest: Vec<&str> = found[7..].iter().map(|one| one.hit.key.as_str()).collect();
    assert_eq!(rest, ["1", "4", "7", "10", "11"], "as they were found");
    assert!(found[7..].iter().all(|one| one.itm.is_none() && one.score() == one.hit.score));
    assert_eq!((steps.len(), steps.last()), (7, Some(&(10, 10))));
    let mut go_on = |_, _| Control::Continue;
    for one in &found[..7] {
        let picture = block_on(session.encode(&picture(one.hit.key.parse::<usize>().unwrap() % 8))).unwrap();
        let texts = ["a red dog".to_owned()];
        let alone = session.itm_logits(&picture, &texts, Convention::Orig, &mut go_on);
        assert!((block_on(alone).unwrap()[0][1] - one.itm.unwrap().logit).abs() < 1e-4);
    }
    let mut whole = |hit: &Hit| Ok(Some(picture(hit.key.parse::<usize>().unwrap() % 8)));
    let mut cancel = |_, _| Control::Cancel;
    let cancelled = session.rerank("a red dog", Convention::Orig, hits.clone(), 3, &mut whole, &mut cancel);
    assert_eq!(block_on(cancelled).unwrap_err().kind(), ErrorKind::Aborted);
    let mut damaged = |_: &Hit| Err(blip_web::Error::new(ErrorKind::Io, "the disk is gone"));
    let failed = session.rerank("a red dog", Convention::Orig, hits, 3, &mut damaged, &mut go_on);
    assert_eq!(block_on(failed).unwrap_err().kind(), ErrorKind::Io);
}

/// A map as the SDK shows it.
#[derive(Deserialize)]
struct Overlay {
    map: Vec<f32>,
    grid: [usize; 2],
    width: u32,
    height: u32,
    options: Value,
    pixels: Vec<u8>,
}

#[test]
fn overlays_are_those_of_the_sdk_pixel_by_pixel() {
    let text = std::fs::read_to_string(blip_tests::corpus::fixtures().join("overlay.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let cases: Vec<Overlay> = serde_json::from_value(file["cases"].clone()).unwrap();
    assert!(cases.len() >= 6);
    for Overlay { map, grid, width, height, options, pixels } in cases {
        let usual = OverlayOptions::default();
        let chosen = OverlayOptions {
            opacity: options["opacity"].as_f64().unwrap_or(usual.opacity),
            maximum: options["maximum"].as_f64(),
            frame: options["frame"].as_u64().unwrap_or_default() as usize,
        };
        let drawn = overlay_pixels(&map, grid, [width, height], &chosen).unwrap();
        assert_eq!(drawn.as_raw(), &pixels, "{grid:?} {options}");
        // Over a picture: nothing where it is clear, and never more than the colour.
        let white = RgbImage::from_pixel(width, height, Rgb([255; 3]));
        let shown = overlay(&white, &map, grid, &chosen).unwrap();
        for (Rgb(shown), Rgba([red, green, blue, cover])) in shown.pixels().zip(drawn.pixels()) {
            let colours = [*red, *green, *blue];
            assert!(shown.iter().zip(colours).all(|(shown, colour)| *shown >= colour), "{shown:?}");
            match cover {
                0 => assert_eq!(shown, &[255; 3]),
                255 => assert_eq!(shown, &colours),
                _ => {}
            }
        }
    }
    let picture = RgbImage::new(4, 4);
    let usual = OverlayOptions::default();
    for (map, grid, options) in [
        (&[1.0, 2.0, 3.0][..], [2, 2], usual.clone()),
        (&[], [2, 2], usual.clone()),
        (&[1.0], [0, 2], usual.clone()),
        (&[1.0, f32::NAN], [1, 2], usual.clone()),
        (&[1.0], [1, 1], OverlayOptions { opacity: 1.5, ..usual.clone() }),
        (&[1.0], [1, 1], OverlayOptions { opacity: f64::NAN, ..usual.clone() }),
        (&[1.0], [1, 1], OverlayOptions { maximum: Some(-1.0), ..usual.clone() }),
        (&[1.0], [1, 1], OverlayOptions { maximum: Some(f64::INFINITY), ..usual.clone() }),
        (&[1.0], [1, 1], OverlayOptions { frame: 1, ..usual.clone() }),
    ] {
        let error = overlay(&picture, map, grid, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadOption, "{map:?} {grid:?} {options:?}");
    }
}

#[test]
fn an_explanation_is_shown_over_its_picture() {
    let device = Place::Flex.device().unwrap();
    let session = session(&device);
    let frames = [picture(0), picture(3)];
    let clip = block_on(session.encode_video(&frames)).unwrap();
    let request = r#"{"text":"a red dog","layer":0}"#;
    let options = serde_json::from_str(request).unwrap();
    let found = block_on(session.explain(&clip, &options, &mut |_, _| Control::Continue)).unwrap();
    let usual = OverlayOptions::default();
    let [rows, columns] = found.grid;
    let places = 2 * rows * columns;
    for (shown, map) in [
        (Shown::Word(2), &found.maps.words[2 * places..][..places]),
        (Shown::Sentence, &found.maps.sentence[..]),
    ] {
        for (frame, picture) in frames.iter().enumerate() {
            let options = OverlayOptions { frame, ..usual.clone() };
            let drawn = found.overlay(picture, shown, &options).unwrap();
            assert_eq!(drawn, overlay(picture, map, found.grid, &options).unwrap());
            assert_ne!(&drawn, picture);
        }
    }
    let error = found.overlay(&frames[0], Shown::Word(3), &usual).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadOption, "{error}");
}
