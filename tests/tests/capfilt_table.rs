//! The rows of CapFilt's table at small scale (`docs/capfilt.md`), from the weights that its first seed left:
//! what the table says of them is true, as far as a hundred scenes can tell.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]
#![allow(clippy::print_stdout, reason = "a passing test shows the rows")]

use std::path::Path;
use std::sync::Arc;

use blip_tests::icons::icons;
use blip_web::device::{DeviceKind, OpenDevice, block_on};
use blip_web::generate::Control;
use blip_web::hub::Models;
use blip_web::tasks::CaptionOptions;
use blip_web::train::data::{SceneDataset, SceneKind};
use blip_web::train::evaluate::{Examples, RetrievalOptions, captions, retrieval};
use blip_web::train::scenes::{SceneWorld, Split, World};
use serde_json::Value;

/// As many as the pictures among which the table seeks.
const SCENES: usize = 100;

struct Row {
    name: &'static str,
    cider: f64,
    /// Per cent of pictures that are first for their text, after ITM's second look.
    first: f64,
}

fn measured(name: &'static str, scenes: &SceneDataset) -> Row {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/capfilt").join(name);
    let device = block_on(OpenDevice::open(DeviceKind::Cpu)).unwrap();
    let session = Models::from_env().open(&folder, &device, &mut |_| {}).unwrap();
    let examples = Examples::new(scenes, None);
    let go_on = &mut |_, _| Control::Continue;
    let said = block_on(captions(&session, &examples, &CaptionOptions::default(), go_on)).unwrap();
    let options = RetrievalOptions { rerank: Some(16), among: None, same_words: true };
    let found = block_on(retrieval(&session, &examples, options, go_on)).unwrap();
    let first = found.reranked.unwrap().to_image.summary.recall[0];
    Row { name, cider: said.cider.value, first }
}

/// What the table has for a row, from 500 scenes.
fn published(name: &str) -> (f64, f64) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/capfilt/results/seed-1");
    let text = std::fs::read_to_string(path.join(format!("{name}.json"))).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let recall = &report["retrieval"]["reranked"]["toImage"]["recall"][0];
    (report["caption"]["cider"]["value"].as_f64().unwrap(), recall.as_f64().unwrap())
}

#[test]
fn the_rows_are_what_the_table_says() {
    let Some(icons) = icons() else { return };
    let world = Arc::new(SceneWorld::of(World::V0, &icons).unwrap());
    let scenes = SceneDataset::new(world, Split::HeldOut, 0, 0, SCENES, SceneKind::Single).unwrap();
    let rows =
        ["none", "captioner-only", "filter-only", "both", "both-beam"].map(|name| measured(name, &scenes));
    for row in &rows {
        let (cider, first) = published(row.name);
        println!(
            "{}: CIDEr {:.2}, {:.0} % first; published {cider:.2} and {first:.1}",
            row.name, row.cider, row.first
        );
        // A hundred scenes of the 500, and q4 instead of f16: twice the widest interval of the table's rows.
        assert!((row.cider - cider).abs() < 0.5, "{}: CIDEr {}, published {cider}", row.name, row.cider);
        assert!((row.first - first).abs() < 10.0, "{}: {} % first, published {first}", row.name, row.first);
    }
    let [none, captioner, filter, ..] = &rows;
    assert!(filter.cider > none.cider + 1.0 && filter.first > none.first + 10.0);
    assert!(captioner.first > none.first);
}
