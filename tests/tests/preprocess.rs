//! Image files to pixels, against Pillow (`fixtures/preprocess/make.py`), and files that are no good.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed test panics, and measurements are printed"
)]

use blip_web::ErrorKind;
use blip_web::image::{Alpha, ImageOptions, decode, preprocess, resize_bicubic};
use image::{ImageFormat, RgbImage};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/preprocess/");

#[derive(Deserialize)]
struct Resize {
    picture: String,
    from: (u32, u32),
    to: (u32, u32),
    sha256: String,
}

#[derive(Deserialize)]
struct Normalised {
    picture: String,
    from: (u32, u32),
    size: usize,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    file: String,
    apply_exif: bool,
    alpha: Alpha,
    size: (u32, u32),
    /// The largest difference of a level, for formats whose decoders may round in other places.
    tolerance: u8,
    sha256: Option<String>,
    rgb: Option<String>,
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FIXTURES}{name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same formulas as in make.py.
fn picture(name: &str, (width, height): (u32, u32)) -> RgbImage {
    match name {
        "noise" => {
            let mut state = width * 65536 + height;
            let bytes = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            });
            RgbImage::from_raw(width, height, bytes.take((width * height * 3) as usize).collect()).unwrap()
        }
        "gradient" => RgbImage::from_fn(width, height, |x, y| {
            let ramp = |at: u32, side: u32| (at * 255 / (side - 1).max(1)) as u8;
            image::Rgb([ramp(x, width), ramp(y, height), if (x / 4 + y / 4) % 2 == 1 { 255 } else { 0 }])
        }),
        other => panic!("no formula for {other}"),
    }
}

#[test]
fn resizing_equals_pillow_bit_for_bit() {
    let cases: Vec<Resize> = serde_json::from_slice(&fixture("resize.json")).unwrap();
    assert!(cases.len() >= 48, "{} cases", cases.len());
    for case in cases {
        let scaled = resize_bicubic(&picture(&case.picture, case.from), case.to.0, case.to.1);
        assert_eq!(scaled.dimensions(), case.to);
        assert_eq!(sha256(&scaled), case.sha256, "{} {:?} to {:?}", case.picture, case.from, case.to);
    }
}

#[test]
fn normalised_pixels_equal_the_formula_of_the_reference_bit_for_bit() {
    let cases: Vec<Normalised> = serde_json::from_slice(&fixture("pixels.json")).unwrap();
    assert!(cases.len() >= 6, "{} cases", cases.len());
    for case in cases {
        let pixels = preprocess(&picture(&case.picture, case.from), case.size);
        let bytes: Vec<u8> = pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(sha256(&bytes), case.sha256, "{} {:?} to {}", case.picture, case.from, case.size);
    }
}

#[test]
fn files_decode_as_in_pillow() {
    let cases: Vec<File> = serde_json::from_slice(&fixture("files.json")).unwrap();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let mut failures = Vec::new();
    for case in &cases {
        let options = ImageOptions { apply_exif: case.apply_exif, alpha: case.alpha };
        let decoded =
            decode(&fixture(&case.file), &options).unwrap_or_else(|error| panic!("{}: {error}", case.file));
        assert_eq!(decoded.dimensions(), case.size, "{} {options:?}", case.file);
        match (&case.sha256, &case.rgb) {
            (Some(expected), None) if sha256(&decoded) != *expected => {
                failures.push(format!("{} {options:?}: other bytes", case.file));
            }
            (None, Some(raw)) => {
                let expected = fixture(raw);
                assert_eq!(expected.len(), decoded.len());
                let worst = decoded.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                println!("{}: off by at most {worst} of 255, allowed {}", case.file, case.tolerance);
                if worst > case.tolerance {
                    failures.push(format!("{}: off by {worst}, allowed {}", case.file, case.tolerance));
                }
            }
            (Some(_), None) => {}
            _ => panic!("{}: a case has a digest or raw pixels", case.file),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// One file of every format, and the rarer kinds of png and jpeg.
const SAMPLES: [&str; 12] = [
    "rgba.png",
    "palette-transparent.png",
    "rgb-16.png",
    "orientation-6.jpg",
    "progressive.jpg",
    "subsampled.jpg",
    "cmyk.jpg",
    "animated.gif",
    "rgb.bmp",
    "palette.bmp",
    "lossless.webp",
    "lossy.webp",
];

#[test]
fn a_file_cut_short_is_an_error_and_never_half_a_picture() {
    for name in SAMPLES {
        let bytes = fixture(name);
        let whole = decode(&bytes, &ImageOptions::default()).unwrap();
        for length in 0..bytes.len() {
            match decode(&bytes[..length], &ImageOptions::default()) {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::BadImage, "{name} cut to {length}: {error}");
                }
                // What follows the pixels (a trailer, a second frame, padding) may be missing.
                Ok(decoded) => {
                    assert!(decoded == whole, "{name} cut to {length} of {} changes pixels", bytes.len());
                }
            }
        }
    }
}

#[test]
fn a_jpeg_without_its_end_says_so() {
    for name in ["orientation-1.jpg", "progressive.jpg", "grey.jpg"] {
        let bytes = fixture(name);
        let error =
            decode(&bytes[..bytes.len() / 2 + bytes.len() / 4], &ImageOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadImage);
        assert!(error.message().contains("cut short"), "{error}");
    }
}

#[test]
fn damaged_files_never_panic() {
    // A linear congruential generator: the same damage on every machine, so that a failure repeats.
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let files: Vec<Vec<u8>> = SAMPLES.into_iter().map(fixture).collect();
    let start = Instant::now();
    let (mut rounds, mut decoded) = (0, 0);
    while rounds < 20_000 && start.elapsed() < Duration::from_secs(8) {
        let mut bytes = files[random(files.len())].clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            bytes[at] = match random(3) {
                0 => random(256) as u8,
                1 => bytes[at] ^ (1 << random(8)),
                _ => [0x00, 0xff, 0x7f, 0x80][random(4)],
            };
        }
        if random(4) == 0 {
            bytes.truncate(random(bytes.len()));
        }
        match decode(&bytes, &ImageOptions::default()) {
            Ok(_) => decoded += 1,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::BadImage | ErrorKind::ImageTooLarge), "{error}");
            }
        }
        rounds += 1;
    }
    println!("{rounds} damaged files, {decoded} of them still decode");
    assert!(rounds > 1_000, "only {rounds} rounds in the time");
}

#[test]
fn the_name_of_a_file_does_not_matter_but_its_content_does() {
    let error = decode(b"This is a text file that somebody has named photo.jpg.\n", &ImageOptions::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadImage);
    assert!(error.message().contains("This is a text file"), "{error}");
    let svg = decode(b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", &ImageOptions::default()).unwrap_err();
    assert!(svg.message().contains("<svg"), "{svg}");
}

#[test]
fn a_picture_of_400_million_pixels_is_refused_before_it_is_decoded() {
    let mut bmp = Vec::new();
    RgbImage::new(1, 1).write_to(&mut std::io::Cursor::new(&mut bmp), ImageFormat::Bmp).unwrap();
    bmp[18..22].copy_from_slice(&20_000u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&20_000u32.to_le_bytes());
    let mut jpeg = fixture("orientation-1.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x4e, 0x20, 0x4e, 0x20]);
    let mut gif = fixture("animated.gif");
    gif[6..10].copy_from_slice(&[0x20, 0x4e, 0x20, 0x4e]);
    for bytes in [bmp, jpeg, gif] {
        let start = Instant::now();
        let error = decode(&bytes, &ImageOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ImageTooLarge, "{error}");
        assert!(
            error.message().contains("20000 x 20000") && error.message().contains("64 million"),
            "{error}"
        );
        assert!(start.elapsed() < Duration::from_millis(200));
    }
}

#[test]
fn resizing_a_training_scene_takes_a_moment() {
    let scene = picture("noise", (192, 192));
    let best = (0..20)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(resize_bicubic(&scene, 96, 96));
            start.elapsed()
        })
        .min()
        .unwrap();
    println!("192 x 192 to 96 x 96: {best:?}");
    assert!(best < Duration::from_millis(20), "{best:?}: a slip of an order of magnitude");
}
