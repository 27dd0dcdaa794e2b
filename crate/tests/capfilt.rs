//! `blip capfilt` as a cluster runs it: many processes, killed ones, damaged shards.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod shards;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shards::{networks, picture, tar, untar};

/// A fresh folder for one test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("capfilt-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The command, in no scheduler's environment.
fn blip(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blip"));
    command.args(arguments);
    for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"] {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    blip(arguments).output().unwrap()
}

/// What a run said that ended well.
fn said(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The captioner and the filter, made once for all tests.
fn models() -> &'static [PathBuf; 2] {
    static MODELS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    MODELS.get_or_init(|| {
        let folder = scratch("models");
        ["caption", "itm"].map(|name| {
            let out = folder.join(name);
            let [from, vocab] = [networks(name), networks("vocab.txt")];
            let arguments = ["convert", text(&from), "--vocab", text(&vocab), "--out", text(&out)];
            let made = run(&[&arguments[..], &["--dtype", "f32"]].concat());
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            out
        })
    })
}

const WEB: [&str; 4] = ["a dog", "zoo house 30 pm", "two cats and a blue boat", "buy the red ball!"];

/// The files of a record: a picture and a text.
fn record(key: &str, nth: usize, caption: &str) -> [(String, Vec<u8>); 2] {
    let texts = json!({ "captions": [caption] }).to_string().into_bytes();
    [(format!("{key}.json"), texts), (format!("{key}.png"), picture(nth))]
}

/// A folder of shards of the web, each with so many records.
fn web(folder: &Path, shards: usize, records: usize) -> PathBuf {
    let web = folder.join("web");
    fs::create_dir_all(&web).unwrap();
    for shard in 0..shards {
        let files: Vec<_> = (0..records)
            .flat_map(|nth| record(&format!("{shard}-{nth:04}"), shard * 3 + nth, WEB[(shard + nth) % 4]))
            .collect();
        fs::write(web.join(format!("{shard:05}.tar")), tar(&files)).unwrap();
    }
    web
}

/// Options of captions that a network of random weights ends soon.
const SHORT: [&str; 4] = ["--min-length", "3", "--max-length", "8"];

fn caption<'a>(web: &'a Path, out: &'a Path) -> Vec<&'a str> {
    let fixed =
        ["capfilt", "caption", "--model", text(&models()[0]), "--shards", text(web), "--out", text(out)];
    [&fixed[..], &SHORT].concat()
}

fn filter<'a>(web: &'a Path, captions: &'a Path, out: &'a Path) -> Vec<&'a str> {
    let model = text(&models()[1]);
    vec![
        "capfilt",
        "filter",
        "--model",
        model,
        "--shards",
        text(web),
        "--captions",
        text(captions),
        "--out",
        text(out),
    ]
}

/// The files of a folder that are not hidden, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The captions of every record of a shard, by key.
fn captions_in(path: &Path) -> Vec<(String, Vec<String>)> {
    let texts = |(name, bytes): (String, Vec<u8>)| {
        let key = name.strip_suffix(".json")?.to_owned();
        let texts: Value = serde_json::from_slice(&bytes).unwrap();
        let captions = texts["captions"].as_array().unwrap();
        Some((key, captions.iter().map(|caption| caption.as_str().unwrap().to_owned()).collect()))
    };
    untar(path).into_iter().filter_map(texts).collect()
}

#[test]
fn the_stages_make_a_new_training_set() {
    let folder = scratch("stages");
    let web = web(&folder, 2, 6);
    let human = folder.join("pairs.tar");
    let pairs = [record("h1", 1, "a man near a tree"), record("h2", 2, "one red car")].concat();
    fs::write(&human, tar(&pairs)).unwrap();
    let [captions, decisions] = ["captions", "decisions"].map(|name| folder.join(name));
    said(&run(&caption(&web, &captions)));
    said(&run(&filter(&web, &captions, &decisions)));

    let written = lines(&captions.join("00001.captions.jsonl"));
    assert_eq!(written.len(), 6);
    assert!(written.iter().all(|line| !line["caption"].as_str().unwrap().is_empty()), "{written:?}");
    let keys: Vec<&str> = written.iter().map(|line| line["key"].as_str().unwrap()).collect();
    assert_eq!(keys[..2], ["1-0000", "1-0001"]);
    let judged = lines(&decisions.join("00001.decisions.jsonl"));
    for (line, caption) in judged.iter().zip(&written) {
        assert_eq!(line["synthetic"]["text"], caption["caption"]);
        for verdict in line["web"].as_array().unwrap().iter().chain([&line["synthetic"]]) {
            let probability = verdict["probability"].as_f64().unwrap();
            assert_eq!(verdict["keep"], probability >= 0.5, "{line}");
        }
    }
    let report = json_file(&decisions.join("00001.decisions.jsonl.report.json"));
    assert_eq!(report["counts"]["web"]["texts"], 6);
    assert_eq!(report["made"]["inputs"].as_array().unwrap().len(), 2, "shard and captions");

    let assemble = |mode: &str, further: &[&str]| {
        let out = folder.join(mode);
        let fixed = ["capfilt", "assemble", "--shards", text(&web), "--human", text(&human)];
        let fixed = [&fixed[..], &["--mode", mode, "--out", text(&out)], further].concat();
        said(&run(&fixed));
        assert_eq!(fs::read(out.join("human-pairs.tar")).unwrap(), fs::read(&human).unwrap(), "untouched");
        ["00000.tar", "00001.tar"].map(|name| captions_in(&out.join(name))).concat()
    };
    let none = assemble("none", &[]);
    assert!(none.len() == 12 && none.iter().all(|(_, captions)| captions.len() == 1));
    let all_captions = assemble("captioner", &["--captions", text(&captions)]);
    assert_eq!(all_captions.len(), 24, "a record a text");
    let kept: usize = ["00000", "00001"]
        .iter()
        .flat_map(|shard| lines(&decisions.join(format!("{shard}.decisions.jsonl"))))
        .map(|line| {
            let verdicts = line["web"].as_array().unwrap().iter().chain([&line["synthetic"]]);
            verdicts.filter(|verdict| verdict["keep"] == true).count()
        })
        .sum();
    assert!(kept > 0 && kept < 24, "the fixture's filter keeps some and drops some: {kept}");
    let with = ["--decisions", text(&decisions)];
    assert_eq!(assemble("both", &with).len(), kept);
    let web_only = assemble("filter", &with);
    assert!(web_only.len() < kept && web_only.iter().all(|(key, _)| !key.contains("synthetic")));
    let together = assemble("both", &[&with[..], &["--redo", "--together"]].concat());
    assert_eq!(together.iter().map(|(_, captions)| captions.len()).sum::<usize>(), kept);
    let pictures = untar(&folder.join("both/00000.tar"));
    let (name, bytes) = pictures.iter().find(|(name, _)| name.ends_with(".png")).unwrap();
    let original = untar(&web.join("00000.tar"));
    assert!(original.iter().any(|(other, content)| other == name && content == bytes), "byte for byte");

    let report = run(&["capfilt", "report", text(&decisions), "--json"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!((&report["shards"], &report["counts"]["synthetic"]["texts"]), (&2.into(), &12.into()));
    let ratio = report["counts"]["synthetic"]["noiseRatio"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&ratio));
}

#[test]
fn finished_shards_are_skipped_and_changed_options_are_noticed() {
    let folder = scratch("again");
    let (web, out) = (web(&folder, 3, 3), folder.join("captions"));
    let first = said(&run(&caption(&web, &out)));
    assert!(first.contains("3 shards done, 0 were there before"), "{first}");
    let before = files(&out);
    assert_eq!(before.len(), 6);
    let second = said(&run(&caption(&web, &out)));
    assert!(second.contains("0 shards done, 3 were there before"), "{second}");
    let refused = refusal(&run(&[&caption(&web, &out)[..], &["--seed", "5"]].concat()));
    assert!(refused.contains("[bad-option]") && refused.contains("--redo"), "{refused}");
    assert!(files(&out) == before);
    said(&run(&[&caption(&web, &out)[..], &["--seed", "5", "--redo"]].concat()));
    let texts =
        |files: &[(String, Vec<u8>)]| files.iter().map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>();
    assert!(texts(&files(&out)) != texts(&before), "another seed, other captions");
    // Stopping early is a way to go on later.
    let few = folder.join("few");
    let stop = [&caption(&web, &few)[..], &["--stop-after", "2"]].concat();
    assert!(said(&run(&stop)).contains("2 shards done, 0 were there before, 0 failed, 1 left"));
    assert!(said(&run(&stop)).contains("1 shards done, 2 were there before"));
    assert!(files(&few) == before);
}

#[test]
fn every_share_is_what_a_scheduler_says() {
    let folder = scratch("shares");
    let web = web(&folder, 4, 2);
    let (whole, out) = (folder.join("whole"), folder.join("shares"));
    said(&run(&caption(&web, &whole)));
    let slurm = |id: &str| {
        let mut command = blip(&caption(&web, &out));
        command.envs([("SLURM_ARRAY_TASK_ID", id), ("SLURM_ARRAY_TASK_MIN", "1")]);
        said(&command.env("SLURM_ARRAY_TASK_COUNT", "2").output().unwrap())
    };
    assert!(slurm("2").contains("2 shards done"));
    let done: Vec<String> = files(&out).into_iter().map(|(name, _)| name).collect();
    assert!(done.contains(&"00001.captions.jsonl".to_owned()) && done.len() == 4, "{done:?}");
    let mut kubernetes = blip(&caption(&web, &out));
    let refused = refusal(&kubernetes.env("JOB_COMPLETION_INDEX", "0").output().unwrap());
    assert!(refused.contains("JOB_COMPLETIONS"), "{refused}");
    said(&run(&[&caption(&web, &out)[..], &["--shard", "0/2"]].concat()));
    assert!(files(&out) == files(&whole));
    assert!(
        refusal(&run(&[&caption(&web, &out)[..], &["--shard", "2/2"]].concat())).contains("[bad-option]")
    );
}

fn spawn(arguments: &[&str]) -> Child {
    blip(arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn several_processes_share_a_folder() {
    let folder = scratch("several");
    let web = web(&folder, 6, 4);
    let (alone, out) = (folder.join("alone"), folder.join("several"));
    said(&run(&caption(&web, &alone)));
    let arguments = caption(&web, &out);
    let children: Vec<Child> = (0..3).map(|_| spawn(&arguments)).collect();
    let mut finished = 0;
    for child in children {
        let text = said(&child.wait_with_output().unwrap());
        let summary = text.lines().find_map(|line| line.strip_prefix("blip: ")).unwrap_or_default();
        finished +=
            summary.split(' ').next().and_then(|count| count.parse::<usize>().ok()).unwrap_or_default();
    }
    assert_eq!(finished, 6, "each shard is done once");
    assert!(files(&out) == files(&alone));
    let hidden = |name: &str| name.starts_with('.') && name != ".locks";
    let left = fs::read_dir(&out)
        .unwrap()
        .filter(|entry| hidden(&entry.as_ref().unwrap().file_name().to_string_lossy()));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_killed_process_loses_and_doubles_nothing() {
    let folder = scratch("killed");
    let web = web(&folder, 3, 600);
    let (whole, out) = (folder.join("whole"), folder.join("killed"));
    said(&run(&caption(&web, &whole)));
    let in_the_making = |out: &Path| {
        fs::read_dir(out).is_ok_and(|mut entries| {
            entries.any(|entry| entry.unwrap().file_name().to_string_lossy().ends_with(".part"))
        })
    };
    // Whoever is killed leaves a file in the making and a lock; the next one is not kept from its shard.
    let mut killed = 0;
    for _ in 0..2 {
        let mut child = spawn(&caption(&web, &out));
        let start = Instant::now();
        while !in_the_making(&out) && child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(120), "nothing begins");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
    }
    let finished = files(&out).iter().filter(|(name, _)| name.ends_with(".report.json")).count();
    assert!(killed == 2 && finished < 3, "{killed} killed, {finished} finished");
    let text = said(&run(&caption(&web, &out)));
    assert!(text.contains(&format!("{} shards done, {finished} were there before", 3 - finished)), "{text}");
    assert!(files(&out) == files(&whole));
}

#[test]
fn damaged_records_are_skipped_with_their_reasons() {
    let folder = scratch("damaged");
    let web = folder.join("web");
    fs::create_dir_all(&web).unwrap();
    let good = |nth: usize| record(&format!("good{nth}"), nth, "a dog");
    let mut cut = record("cut", 1, "a dog");
    cut[1].1.truncate(60);
    let mut broken = record("json", 2, "a dog");
    broken[0].1 = b"{\"captions\":".to_vec();
    let picture_only = [("bare.png".to_owned(), picture(3))];
    let text_only = [("words.json".to_owned(), json!({"captions": ["a dog"]}).to_string().into_bytes())];
    let files_of = [&good(0)[..], &cut, &broken, &text_only, &good(1), &picture_only].concat();
    fs::write(web.join("a.tar"), tar(&files_of)).unwrap();
    // Cut short within its last record.
    let mut short = tar(&[good(2), good(3)].concat());
    short.truncate(short.len() - 1024 - 700);
    fs::write(web.join("b.tar"), short).unwrap();

    let out = folder.join("captions");
    let text = said(&run(&caption(&web, &out)));
    assert!(text.contains("2 shards done") && text.contains("records skipped"), "{text}");
    let keys: Vec<String> = lines(&out.join("a.captions.jsonl"))
        .iter()
        .map(|line| line["key"].as_str().unwrap().to_owned())
        .collect();
    assert!(keys.contains(&"good0".to_owned()) && keys.contains(&"good1".to_owned()), "{keys:?}");
    let report = json_file(&out.join("a.captions.jsonl.report.json"));
    let skipped = report["skipped"].as_array().unwrap();
    let reason = |key: &str| {
        let line = skipped.iter().find(|line| line["key"] == key);
        line.map(|line| line["reason"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    assert!(reason("cut").starts_with("bad-image"), "{report}");
    assert!(!reason("json").is_empty() && !reason("words").is_empty(), "{report}");
    assert_eq!(lines(&out.join("b.captions.jsonl")).len(), 1);
    let report = json_file(&out.join("b.captions.jsonl.report.json"));
    assert_eq!(report["skipped"].as_array().unwrap().len(), 1, "{report}");

    let decisions = folder.join("decisions");
    said(&run(&filter(&web, &out, &decisions)));
    let judged = lines(&decisions.join("a.decisions.jsonl"));
    assert_eq!(judged.len(), keys.len(), "what has no caption is not judged");

    // No tar at all: the others are done, and the exit status tells.
    fs::write(web.join("0.tar"), "this is no archive, and long enough not to be an empty one. ".repeat(20))
        .unwrap();
    let output = run(&caption(&web, &out));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("0.tar") && text.contains("2 were there before, 1 failed"), "{text}");
}

#[test]
fn captions_may_stand_in_text_files_beside_foreign_json() {
    let folder = scratch("foreign");
    let web = folder.join("web");
    fs::create_dir_all(&web).unwrap();
    let files: Vec<_> = (0..3)
        .flat_map(|nth| {
            [
                (format!("{nth}.json"), br#"{"url":"https://a.example","width":32}"#.to_vec()),
                (format!("{nth}.png"), picture(nth)),
                (format!("{nth}.txt"), b"a dog\n".to_vec()),
            ]
        })
        .collect();
    fs::write(web.join("a.tar"), tar(&files)).unwrap();
    let [captions, without] = ["captions", "without"].map(|name| folder.join(name));
    assert!(said(&run(&caption(&web, &without))).contains("3 records skipped"));
    said(&run(&[&caption(&web, &captions)[..], &["--skip-json"]].concat()));
    assert_eq!(lines(&captions.join("a.captions.jsonl")).len(), 3);
    let out = folder.join("out");
    let base = ["capfilt", "assemble", "--shards", text(&web), "--captions", text(&captions)];
    let further = ["--mode", "captioner", "--together", "--skip-json", "--out", text(&out)];
    said(&run(&[&base[..], &further].concat()));
    let records = captions_in(&out.join("a.tar"));
    assert!(records.len() == 3 && records.iter().all(|(_, captions)| captions[0] == "a dog"), "{records:?}");
    assert!(records.iter().all(|(_, captions)| captions.len() == 2), "{records:?}");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let folder = scratch("refused");
    let (web, out) = (web(&folder, 1, 1), folder.join("out"));
    let base = ["capfilt", "assemble", "--shards", text(&web), "--out", text(&out)];
    let refused = |arguments: &[&str]| refusal(&run(&[&base[..], arguments].concat()));
    assert!(refused(&["--mode", "both"]).contains("needs --decisions"));
    assert!(refused(&["--mode", "none", "--captions", "x"]).contains("takes no --captions"));
    let empty = folder.join("empty");
    fs::create_dir_all(&empty).unwrap();
    let said = refusal(&run(&caption(&empty, &out)));
    assert!(said.contains("no shards"), "{said}");
    let mut wrong = caption(&web, &out);
    wrong[3] = text(&models()[1]);
    assert!(refusal(&run(&wrong)).contains("[task-unsupported]"));
    let said = refusal(&run(&[&caption(&web, &out)[..], &["--top-p", "2"]].concat()));
    assert!(said.contains("[bad-option]") && said.contains("topP"), "{said}");
    assert!(!out.exists());
    // A filter's folder that lacks the shard: the shard is not assembled.
    let output = run(&[&base[..], &["--decisions", text(&empty)]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("capfilt filter"));
}
