//! Shards are written, damaged and read.

use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

use image::{Rgb, RgbImage};

use super::super::{Dataset, FileOptions, Record, Texts, expand};
use super::*;

/// A folder of its own that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("blip-shards-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, records: &[Record]) -> PathBuf {
        let path = self.0.join(name);
        let mut writer = ShardWriter::create(&path).unwrap();
        records.iter().for_each(|record| writer.add(record).unwrap());
        writer.finish().unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn record(key: &str, pictures: u8) -> Record {
    let picture = |i| RgbImage::from_pixel(3 + u32::from(i), 2, Rgb([i, key.len() as u8, 7]));
    Record {
        key: key.to_owned(),
        images: (0..pictures).map(picture).collect(),
        texts: Texts { captions: vec![format!("a {key}")], ..Texts::default() },
    }
}

fn open(paths: &[PathBuf]) -> Result<ShardSet> {
    ShardSet::open(paths, FileOptions::default())
}

fn all(set: &ShardSet) -> Vec<Record> {
    (0..set.len()).map(|index| set.get(index).unwrap()).collect()
}

#[test]
fn what_is_written_is_read_back_in_order() {
    let folder = Folder::new("order");
    let first = [record("b", 1), record("a", 2)];
    let second = [record("x/c", 12)];
    let paths = [folder.write("0.tar", &first), folder.write("1.tar", &[]), folder.write("2.tar", &second)];
    let set = open(&paths).unwrap();
    assert_eq!(all(&set), [&first[..], &second[..]].concat());
    assert_eq!(set.pieces(), [2, 0, 1]);
    assert_eq!(set.key(2), "x/c");
    assert_eq!(set.damages(), []);
    assert_eq!(set.describe(), "3 records in 3 shards");
}

#[test]
fn equal_records_give_equal_bytes_and_nothing_else_is_left() {
    let folder = Folder::new("bytes");
    let long = "long".repeat(40);
    let records = [record("a", 1), record(&long, 3)];
    let paths = [folder.write("0.tar", &records), folder.write("1.tar", &records)];
    assert_eq!(fs::read(&paths[0]).unwrap(), fs::read(&paths[1]).unwrap());
    drop(ShardWriter::create(&folder.0.join("2.tar")).unwrap());
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2);
    assert_eq!(open(&paths).unwrap().key(1), long);
}

#[test]
fn a_shard_that_is_cut_gives_the_records_before_the_cut() {
    let folder = Folder::new("cut");
    let records = [record("a", 1), record("b", 2), record("c", 1)];
    let whole = fs::read(folder.write("0.tar", &records)).unwrap();
    let scan =
        |bytes: &[u8]| index::scan(Cursor::new(bytes.to_vec()), bytes.len() as u64, &FileOptions::default());
    let ends: Vec<u64> = {
        let (entries, damage) = scan(&whole);
        assert_eq!(damage, None);
        entries
            .iter()
            .map(|entry| entry.files.iter().map(|span| span.start + span.len).max().unwrap())
            .collect()
    };
    // Behind the last file there are two blocks of zeros, of which one is enough.
    let mark = ends[2].next_multiple_of(512) + 512;
    for cut in (0..whole.len()).step_by(37) {
        let (entries, damage) = scan(&whole[..cut]);
        let complete = ends.iter().filter(|&&end| end <= cut as u64).count();
        assert_eq!(damage.is_none(), cut as u64 >= mark, "cut at {cut}: {damage:?}");
        // Which of the files of a last record are missing, nothing says: it is left out.
        assert!(entries.len() <= complete && entries.len() + 1 >= complete, "cut at {cut}");
        let keys: Vec<&str> = entries.iter().map(|entry| &entry.key[..]).collect();
        assert_eq!(keys, ["a", "b", "c"][..entries.len()]);
        let pictures: Vec<usize> = entries.iter().map(|entry| entry.files.len() - 1).collect();
        assert_eq!(pictures, [1, 2, 1][..entries.len()]);
    }
}

#[test]
fn damaged_shards_are_reported_and_the_others_are_read() {
    let folder = Folder::new("damage");
    let good = folder.write("good.tar", &[record("a", 1)]);
    let torn = folder.write("torn.tar", &[record("b", 1), record("c", 1), record("d", 1)]);
    let mut bytes = fs::read(&torn).unwrap();
    // The header of the second record's first file.
    let header = bytes.windows(6).position(|window| window == b"c.json").unwrap();
    bytes[header + 3] ^= 0x40;
    fs::write(&torn, bytes).unwrap();
    let text = folder.0.join("text.tar");
    fs::write(&text, "this is no tar file at all. ".repeat(100)).unwrap();
    let missing = folder.0.join("missing.tar");

    let set = open(&[torn.clone(), missing.clone(), good, text.clone()]).unwrap();
    let damages: Vec<(&PathBuf, usize)> = set.damages().iter().map(|d| (&d.shard, d.intact)).collect();
    assert_eq!(damages, [(&torn, 0), (&missing, 0), (&text, 0)], "{:?}", set.damages());
    assert!(set.damages().iter().all(|damage| !damage.reason.is_empty()));
    assert_eq!(all(&set), [record("a", 1)]);
    assert_eq!(open(&[missing]).unwrap_err().code(), "io");
}

#[test]
fn a_bad_record_is_an_error_of_its_own() {
    let folder = Folder::new("record");
    let path = folder.0.join("0.tar");
    let mut writer = ShardWriter::create(&path).unwrap();
    let file = |extension: &str, bytes: &[u8]| (extension.to_owned(), bytes.to_vec());
    writer.add(&record("good", 1)).unwrap();
    writer
        .add_files("torn", vec![file("png", b"\x89PNG no more"), file("txt", b"a car\n\n a bus \n")])
        .unwrap();
    writer.add_files("blind", vec![file("txt", b"a car")]).unwrap();
    writer.add_files("other", vec![file("cls", b"3")]).unwrap();
    let picture = ["png", "jpg"].map(|extension| file(extension, b"x"));
    writer.add_files("double", picture.to_vec()).unwrap();
    for key in ["", "a.b", "good", "/a", "a//b", "a\\b"] {
        assert_eq!(writer.add_files(key, Vec::new()).unwrap_err().code(), "bad-option", "{key:?}");
    }
    writer.finish().unwrap();

    let set = open(&[path]).unwrap();
    assert_eq!(set.len(), 4, "a record of unknown files is none");
    assert_eq!(set.get(0).unwrap(), record("good", 1));
    for (index, key) in [(1, "torn"), (2, "blind"), (3, "double")] {
        let error = set.get(index).unwrap_err();
        assert_eq!(error.code(), "bad-image");
        assert!(error.to_string().contains(key) && error.to_string().contains("0.tar"), "{error}");
    }
}

#[test]
fn captions_stand_one_a_line_behind_those_of_the_json() {
    let folder = Folder::new("captions");
    let path = folder.0.join("0.tar");
    let mut writer = ShardWriter::create(&path).unwrap();
    let record = record("a", 1);
    let picture = fs::read(folder.write("1.tar", std::slice::from_ref(&record))).unwrap();
    let start = picture.windows(4).position(|window| window == b"\x89PNG").unwrap();
    let file = |extension: &str, bytes: &[u8]| (extension.to_owned(), bytes.to_vec());
    let files = vec![
        file("png", &picture[start..]),
        file("txt", " a car\n\ntwo cars \n".as_bytes()),
        file("json", br#"{"captions":["first"],"image_id":7}"#),
    ];
    writer.add_files("a", files).unwrap();
    writer.finish().unwrap();
    let read = open(std::slice::from_ref(&path)).unwrap().get(0).unwrap();
    assert_eq!(read.texts.captions, ["first", "a car", "two cars"]);
    assert_eq!(read.texts.image_id, Some(7));
    let without = FileOptions { skip_json: true, ..FileOptions::default() };
    let read = ShardSet::open(&[path], without).unwrap().get(0).unwrap();
    assert_eq!(read.texts.captions, ["a car", "two cars"]);
}

#[test]
fn patterns_stand_for_sorted_shards() {
    let folder = Folder::new("patterns");
    let paths: Vec<PathBuf> =
        (0..3).map(|i| folder.write(&format!("part-{i:03}.tar"), &[record("a", 1)])).collect();
    fs::write(folder.0.join("notes.txt"), "").unwrap();
    let at = |tail: &str| format!("{}/{tail}", folder.0.display());
    assert_eq!(expand(&[folder.0.to_str().unwrap()]).unwrap(), paths);
    assert_eq!(expand(&[at("part-{000..002}.tar")]).unwrap(), paths);
    assert_eq!(expand(&[at("part-*.tar")]).unwrap(), paths);
    assert_eq!(expand(&[at("part-002.tar"), at("part-00[01].tar")]).unwrap()[0], paths[2]);
    assert_eq!(expand(&[at("none-*.tar")]).unwrap_err().code(), "bad-option");
}
