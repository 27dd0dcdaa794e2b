//! A conversion of a stream writes what a conversion of the whole file writes, and can be interrupted.

use std::path::PathBuf;

use blip_tests::corpus::fixtures;
use blip_web::ErrorKind;
use blip_web::config::BlipConfig;
use blip_web::weights::{
    Checkpoint, Container, Conversion, ConversionOptions, ConversionSource, Converted, Loader, Precision,
    Quantisation,
};
use burn::tensor::Device;

const MIXED: Quantisation = Quantisation { vision: Precision::Q8, text: Precision::Q4 };

/// Checkpoints of either container and layout: folder, file, whether its head is tied.
const FILES: [(&str, &str, bool); 7] = [
    ("caption", "model.safetensors", true),
    ("caption_untied", "model.safetensors", false),
    ("caption_untied", "pytorch_model.bin", false),
    ("itm", "model.safetensors", true),
    ("itm", "retrieval.pth", true),
    ("original", "model.pth", true),
    ("vqa", "model.safetensors", true),
];

/// A file of the corpus and the configuration beside it.
pub fn checkpoint(folder: &str, file: &str) -> (PathBuf, Vec<u8>, String) {
    let folder = fixtures().join("parity").join(folder);
    let path = folder.join(file);
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes, std::fs::read_to_string(folder.join("config.json")).unwrap())
}

pub fn options(quantisation: Quantisation, untied: bool) -> ConversionOptions {
    let (id, licence) = ("model".to_owned(), "MIT".to_owned());
    ConversionOptions { id, licence, quantisation, untied, source: None }
}

/// A conversion that knows where everything is.
pub fn begun(file: &str, bytes: &[u8], config: &str, options: ConversionOptions) -> Conversion {
    let mut conversion = Conversion::new(file, bytes.len() as u64, config, options).unwrap();
    while let Some(range) = conversion.wants() {
        conversion.give(&bytes[range.start as usize..range.end as usize]).unwrap();
    }
    conversion
}

/// Lengths of pieces, as unlike each other as those of a network.
fn pieces(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        [1, 7, 100, 4096, 30_000][(state >> 33) as usize % 5]
    }
}

/// The container and what is known at the end.
fn streamed(mut conversion: Conversion, bytes: &[u8], seed: u64) -> (Vec<u8>, Converted) {
    let mut next = pieces(seed);
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let end = (at + next()).min(bytes.len());
        out.extend(conversion.push(&bytes[at..end]).unwrap());
        at = end;
        assert_eq!(conversion.position(), at as u64);
    }
    assert_eq!(conversion.output_bytes(), Some(out.len() as u64));
    let converted = conversion.finish(b"[PAD]\n").unwrap();
    (out, converted)
}

/// The tensors of a container, by name.
pub fn tensors(bytes: Vec<u8>) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let container = Checkpoint::from_safetensors(bytes).unwrap();
    let tensor = |(name, tensor): (&String, &blip_web::weights::StoredTensor)| {
        (name.clone(), tensor.shape.clone(), tensor.bytes().unwrap())
    };
    container.tensors.iter().map(tensor).collect()
}

#[test]
fn every_file_streams_to_the_tensors_of_a_whole_conversion() {
    for (folder, file, is_tied) in FILES {
        let (path, bytes, config_json) = checkpoint(folder, file);
        let config = BlipConfig::from_json(&config_json).unwrap();
        let whole = Checkpoint::open(&path).unwrap();
        for (seed, precision) in
            [Precision::Q4, Precision::Q8, Precision::F16, Precision::F32].into_iter().enumerate()
        {
            let quantisation = Quantisation { vision: precision, text: precision };
            let container = Container::new(&config, &whole, quantisation).unwrap();
            assert_eq!(container.networks().tied_lm, is_tied, "{folder}/{file}");
            let mut expected = Vec::new();
            container.write("model.safetensors", &mut expected, &mut |_| {}).unwrap();
            let conversion = begun(file, &bytes, &config_json, options(quantisation, !is_tied));
            let (out, converted) = streamed(conversion, &bytes, seed as u64);
            assert_eq!(tensors(out.clone()), tensors(expected), "{folder}/{file} {quantisation}");
            converted.manifest.files.weights.verify(&out).unwrap();
            assert_eq!(converted.manifest.tasks, container.networks().tasks());
            assert_eq!(converted.manifest.config, config);
        }
    }
}

#[test]
fn what_was_streamed_loads_chunk_by_chunk() {
    for (folder, file, is_tied) in FILES {
        let (_, bytes, config) = checkpoint(folder, file);
        let conversion = begun(file, &bytes, &config, options(MIXED, !is_tied));
        let (out, converted) = streamed(conversion, &bytes, 5);
        let mut loader = Loader::new(&converted.manifest, &Device::flex());
        for piece in out.chunks(10_000) {
            loader.push(piece).unwrap();
        }
        let (_, networks) = loader.finish().unwrap();
        assert_eq!(networks.tasks(), converted.manifest.tasks, "{folder}/{file}");
    }
}

#[test]
fn a_conversion_goes_on_wherever_it_was_interrupted() {
    for (folder, file, is_tied) in FILES {
        let (_, bytes, config) = checkpoint(folder, file);
        let make = || begun(file, &bytes, &config, options(MIXED, !is_tied));
        let (expected, end) = streamed(make(), &bytes, 9);
        let mut next = pieces(folder.len() as u64);
        let (mut conversion, mut out) = (make(), Vec::new());
        let mut interruptions = 0;
        loop {
            // Far enough that something is kept, and mostly into the middle of something that is not.
            let (kept, mut pushed) = (conversion.resume_input(), 0);
            while conversion.position() < bytes.len() as u64
                && (pushed < 6 || conversion.resume_input() == kept)
            {
                let at = conversion.position() as usize;
                let piece = &bytes[at..(at + next()).min(bytes.len())];
                out.extend(conversion.push(piece).unwrap());
                pushed += 1;
            }
            if conversion.position() == bytes.len() as u64 {
                break;
            }
            let before = conversion.position();
            conversion = Conversion::resume(&conversion.checkpoint()).unwrap();
            assert!(conversion.position() == conversion.resume_input() && conversion.position() <= before);
            out.truncate(conversion.resume_output() as usize);
            interruptions += 1;
        }
        assert_eq!(out, expected, "{folder}/{file}");
        assert_eq!(conversion.finish(b"[PAD]\n").unwrap(), end);
        // At the very end, too.
        let again = Conversion::resume(&conversion.checkpoint()).unwrap();
        assert!(again.resume_output() == out.len() as u64 && interruptions > 1, "{interruptions}");
    }
}

#[test]
fn a_checkpoint_of_a_file_that_is_still_looked_at_is_one_too() {
    let (_, bytes, config) = checkpoint("original", "model.pth");
    let mut conversion =
        Conversion::new("model.pth", bytes.len() as u64, &config, options(MIXED, false)).unwrap();
    let mut asked = 0;
    while let Some(range) = conversion.wants() {
        conversion = Conversion::resume(&conversion.checkpoint()).unwrap();
        assert_eq!(conversion.wants(), Some(range.clone()));
        conversion.give(&bytes[range.start as usize..range.end as usize]).unwrap();
        asked += 1;
    }
    assert!((3..=5).contains(&asked), "{asked}");
    let mut saved = conversion.checkpoint();
    assert_eq!(Conversion::resume(&saved).unwrap().position(), 0);
    saved[50] ^= 1;
    assert_eq!(Conversion::resume(&saved).unwrap_err().kind(), ErrorKind::WeightsFormat);
    assert_eq!(Conversion::resume(b"").unwrap_err().kind(), ErrorKind::WeightsFormat);
}

#[test]
fn a_head_that_is_not_tied_says_so() {
    for file in ["model.safetensors", "pytorch_model.bin"] {
        let (_, bytes, config) = checkpoint("caption_untied", file);
        let mut conversion = begun(file, &bytes, &config, options(MIXED, false));
        let error = conversion.push(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WeightsFormat);
        assert!(error.to_string().contains("untied") && conversion.is_untied(), "{error}");
        assert!(conversion.push(b"").is_err(), "what failed is over");
    }
}

#[test]
fn the_input_is_held_to_its_length_and_digest() {
    let (_, bytes, config) = checkpoint("caption", "model.safetensors");
    let source = |sha256: &str| {
        let sha256 = Some(sha256.to_owned());
        let [repo, revision, file] = ["a/b", "main", "model.safetensors"].map(str::to_owned);
        let source = Some(ConversionSource { repo, revision, file, sha256 });
        ConversionOptions { source, ..options(MIXED, false) }
    };
    let mut conversion = begun("model.safetensors", &bytes, &config, source(&"0".repeat(64)));
    conversion.push(&bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(conversion.finish(b"x\n").unwrap_err().kind(), ErrorKind::Integrity);
    conversion.push(&bytes[bytes.len() - 1..]).unwrap();
    let error = conversion.finish(b"x\n").unwrap_err();
    assert!(error.kind() == ErrorKind::Integrity && error.to_string().contains("0000"), "{error}");
    assert_eq!(conversion.push(b"more").unwrap_err().kind(), ErrorKind::Integrity);
    let right = conversion_digest(&bytes);
    let (_, converted) = streamed(begun("model.safetensors", &bytes, &config, source(&right)), &bytes, 1);
    assert_eq!(converted.input_sha256, right);
    let origin = converted.manifest.source.unwrap();
    assert_eq!((&*origin.repo, &*origin.sha256), ("a/b", &*right));
}

fn conversion_digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_position_table_says_how_large_images_are() {
    let (_, bytes, config) = checkpoint("caption", "model.safetensors");
    let mut other: serde_json::Value = serde_json::from_str(&config).unwrap();
    let patch = other["vision_config"]["patch_size"].as_u64().unwrap();
    other["vision_config"]["image_size"] = (patch * 30).into();
    let conversion = begun("model.safetensors", &bytes, &other.to_string(), options(MIXED, false));
    let (_, converted) = streamed(conversion, &bytes, 2);
    assert_eq!(converted.manifest.config, BlipConfig::from_json(&config).unwrap());
}

#[test]
fn damaged_files_are_errors() {
    let (_, bytes, config) = checkpoint("original", "model.pth");
    let mut state = 3u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut refused = 0;
    for round in 0..400 {
        let mut damaged = bytes.clone();
        // Half of the rounds in the directory and the pickle, where most of the meaning is.
        let places = if round % 2 == 0 { 0..8000 } else { bytes.len() - 9000..bytes.len() };
        for _ in 0..=random(3) {
            let at = places.start + random(places.len());
            damaged[at] = random(256) as u8;
        }
        let outcome = (|| {
            let mut conversion =
                Conversion::new("model.pth", damaged.len() as u64, &config, options(MIXED, false))?;
            while let Some(range) = conversion.wants() {
                conversion.give(&damaged[range.start as usize..range.end as usize])?;
            }
            conversion.push(&damaged)?;
            conversion.finish(b"x\n")
        })();
        refused += usize::from(outcome.is_err());
    }
    assert!(refused > 150, "{refused}");
    for cut in [0, 1, 21, 22, 4096, bytes.len() / 2, bytes.len() - 1] {
        let outcome: blip_web::Result<()> = (|| {
            let mut conversion = Conversion::new("model.pth", cut as u64, &config, options(MIXED, false))?;
            while let Some(range) = conversion.wants() {
                conversion.give(&bytes[range.start as usize..range.end as usize])?;
            }
            Ok(())
        })();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::WeightsFormat, "{cut}");
    }
}
