//! Each layout in small.

use std::fs;

use image::{Rgb, RgbImage};

use super::*;

fn read(layout: Layout, json: &str) -> Vec<Entry> {
    assert_eq!(layouts::recognised(json.as_bytes()), Some(layout));
    layouts::read(json.as_bytes(), layout).unwrap()
}

#[test]
fn training_captions_are_a_record_each() {
    let records = read(
        Layout::Caption,
        r#"[{"image": "val2014/COCO_val2014_000000391895.jpg", "caption": "a man", "image_id": "coco_391895"},
            {"image": "val2014/COCO_val2014_000000391895.jpg", "caption": "a bike", "image_id": "coco_391895"},
            {"image": "vg/5.jpg", "caption": "a dog", "image_id": "vg_391895"}]"#,
    );
    assert_eq!(records[0].images, ["val2014/COCO_val2014_000000391895.jpg"]);
    assert_eq!(records[1].texts.captions, ["a bike"]);
    assert_eq!(records[0].texts.image_id, Some(391_895));
    assert_eq!(records[0].texts.image_id, records[1].texts.image_id);
    assert_ne!(records[1].texts.image_id, records[2].texts.image_id, "another set's number");
    assert_ne!(records[0].key, records[1].key);
}

#[test]
fn pictures_for_evaluation_have_all_their_captions() {
    let records = read(
        Layout::Captions,
        r#"[{"image": "val2014/COCO_val2014_000000184613.jpg", "caption": ["a child", "an umbrella"]}]"#,
    );
    assert_eq!(records[0].texts.captions, ["a child", "an umbrella"]);
    assert_eq!(records[0].texts.image_id, Some(184_613));
    let records = read(Layout::Picture, r#"[{"image": "val/0013.jpg", "img_id": 0}]"#);
    assert_eq!(records[0].texts, Texts { image_id: Some(0), ..Texts::default() });
}

#[test]
fn statements_have_two_pictures_and_a_label() {
    let records = read(
        Layout::Statement,
        r#"[{"sentence": "two dogs", "label": "True", "images": ["a.png", "b.png"]},
            {"sentence": "a cat", "label": false, "images": ["a.png", "b.png"]}]"#,
    );
    assert_eq!(records[0].images, ["a.png", "b.png"]);
    let holds: Vec<bool> = records.iter().map(|record| record.texts.statements[0].holds).collect();
    assert_eq!(holds, [true, false]);
    let wrong = br#"[{"sentence": "a", "label": "Maybe", "images": ["a", "b"]}]"#;
    assert!(layouts::read(wrong, Layout::Statement).is_err());
}

#[test]
fn answers_weigh_what_their_set_says() {
    let records = read(
        Layout::Question,
        r#"[{"question_id": 1, "question": "what?", "answer": ["net", "net", "bag", "net"],
             "image": "COCO_train2014_000000458752.jpg", "dataset": "vqa"},
            {"question_id": 2, "question": "where?", "answer": "on a table", "image": "vg/1.jpg", "dataset": "vg"},
            {"question_id": 3, "question": "who?", "image": "COCO_test2015_000000000001.jpg", "dataset": "vqa"}]"#,
    );
    let answers: Vec<_> = records.iter().map(|record| &record.texts.questions[0].answers).collect();
    assert_eq!(*answers[0], [("net".to_owned(), 0.75), ("bag".to_owned(), 0.25)]);
    assert_eq!(*answers[1], [("on a table".to_owned(), 0.2)]);
    assert!(answers[2].is_empty());
    assert_eq!(records[0].texts.image_id, Some(458_752));
    assert_eq!(records[1].key, "1-2");
}

#[test]
fn cocos_own_captions_are_gathered_by_picture() {
    let records = read(
        Layout::CocoCaptions,
        r#"{"info": {}, "images": [{"id": 9, "file_name": "b.jpg", "height": 1}, {"id": 4, "file_name": "a.jpg"}],
            "annotations": [{"image_id": 4, "id": 1, "caption": "x"}, {"image_id": 9, "id": 2, "caption": "y"},
                            {"image_id": 4, "id": 3, "caption": "z"}, {"image_id": 5, "id": 4, "caption": "?"}]}"#,
    );
    let gathered: Vec<_> =
        records.iter().map(|record| (&record.key[..], &record.texts.captions[..])).collect();
    assert_eq!(gathered, [("9", &["y".to_owned()][..]), ("4", &["x".to_owned(), "z".to_owned()])]);
}

#[test]
fn pictures_are_read_from_the_root_and_missing_ones_are_named() {
    let root = std::env::temp_dir().join(format!("blip-annotations-{}", std::process::id()));
    fs::create_dir_all(root.join("train")).unwrap();
    RgbImage::from_pixel(3, 2, Rgb([9; 3])).save(root.join("train/a.png")).unwrap();
    let file = root.join("list.json");
    let open = || Annotations::open(&file, &root, None, ImageOptions::default());
    fs::write(
        &file,
        r#"[{"image": "train/a.png", "caption": "a", "image_id": 1}, {"image": "b.png", "caption": "b", "image_id": 2}]"#,
    )
    .unwrap();
    let annotations = open().unwrap();
    assert_eq!((annotations.len(), annotations.layout()), (2, Layout::Caption));
    assert_eq!(annotations.texts(1).captions, ["b"]);
    assert_eq!(annotations.get(0).unwrap().images[0].dimensions(), (3, 2));
    let error = annotations.get(1).unwrap_err();
    assert!(error.code() == "io" && error.message().contains("b.png"), "{error}");

    for bad in ["", "[]", "{}", "[1]", r#"[{"caption": "a"}]"#, r#"[{"image": "a", "caption": 3}]"#] {
        fs::write(&file, bad).unwrap();
        assert_eq!(open().unwrap_err().code(), "bad-option", "{bad}");
    }
    fs::remove_dir_all(&root).unwrap();
    assert_eq!(open().unwrap_err().code(), "io");
}
