//! Files that arrive in pieces: any pieces give the same model, and nothing that arrives can do harm.

use blip_tests::corpus::Corpus;
use blip_tests::place::slow;
use blip_web::ErrorKind;
use blip_web::config::BlipConfig;
use blip_web::model::Networks;
use blip_web::weights::manifest::{Chunks, FileEntry, Files};
use blip_web::weights::{
    Checkpoint, Container, Dtype, Loader, Manifest, NamedTensors, Precision, Quantisation, StoredTensor,
    named_tensors, random_checkpoint, schema,
};
use burn::tensor::Device;
use sha2::{Digest, Sha256};

use super::containers::written;

const PLAIN: Quantisation = Quantisation::uniform(Precision::F32);
const MIXED: Quantisation = Quantisation { vision: Precision::Q8, text: Precision::Q4 };

/// A manifest of these weights, with digests of chunks of that size.
fn manifest(config: &BlipConfig, bytes: &[u8], chunk: Option<usize>) -> Manifest {
    let hex =
        |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut weights = FileEntry::of("model.safetensors", bytes);
    weights.chunks =
        chunk.map(|size| Chunks { size: size as u64, sha256: bytes.chunks(size).map(hex).collect() });
    Manifest {
        format_version: 2,
        id: "test".to_owned(),
        tasks: vec!["caption".to_owned()],
        config: config.clone(),
        files: Files { weights, vocab: FileEntry::of("vocab.txt", b"") },
        quantisation: MIXED,
        licence: "MIT".to_owned(),
        knows: None,
        networks: Vec::new(),
        source: None,
    }
}

/// Hands over `bytes` in pieces of that many.
fn load(manifest: &Manifest, bytes: &[u8], piece: usize) -> blip_web::Result<NamedTensors> {
    let mut loader = Loader::new(manifest, &Device::flex());
    for piece in bytes.chunks(piece) {
        loader.push(piece)?;
    }
    let (model, _) = loader.finish()?;
    named_tensors(&model)
}

fn caption(quantisation: Quantisation) -> (BlipConfig, Vec<u8>) {
    let corpus = Corpus::open("caption");
    let bytes = written(&corpus.config, &corpus.checkpoint(), quantisation);
    (corpus.config, bytes)
}

#[test]
fn a_file_gives_the_same_model_in_whatever_pieces_it_arrives() {
    let (config, bytes) = caption(PLAIN);
    let expected = load(&manifest(&config, &bytes, None), &bytes, bytes.len()).unwrap();
    for chunk in [None, Some(1000), Some(4 << 20)] {
        let manifest = manifest(&config, &bytes, chunk);
        for piece in [7, 1000, 4096, 65_537, bytes.len()] {
            assert!(load(&manifest, &bytes, piece).unwrap() == expected, "{chunk:?} {piece}");
        }
    }
}

#[test]
fn files_in_the_layout_of_others_are_streamed_too() {
    for name in ["caption", "caption_untied", "itm", "vqa"] {
        let corpus = Corpus::open(name);
        let bytes = std::fs::read(corpus.folder.join("model.safetensors")).unwrap();
        let streamed = load(&manifest(&corpus.config, &bytes, Some(4096)), &bytes, 999).unwrap();
        let loaded = named_tensors(&corpus.load(&Device::flex()).0).unwrap();
        assert!(streamed == loaded, "{name}");
    }
}

#[test]
fn bytes_that_are_not_the_manifests_are_refused() {
    let (config, bytes) = caption(MIXED);
    for chunk in [None, Some(4096)] {
        let manifest = manifest(&config, &bytes, chunk);
        let refused = |bytes: &[u8]| load(&manifest, bytes, 1000).unwrap_err();
        for place in [0, 8, 100, bytes.len() / 2, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert_eq!(refused(&damaged).kind(), ErrorKind::Integrity, "{chunk:?} {place}");
        }
        for length in [0, 1, 7, 8, 9, 5000, bytes.len() - 1] {
            let error = refused(&bytes[..length]);
            assert_eq!(error.kind(), ErrorKind::Integrity, "{chunk:?} {length}: {error}");
        }
        assert_eq!(refused(&[&bytes[..], b"x"].concat()).kind(), ErrorKind::Integrity, "{chunk:?}");
    }
}

#[test]
fn a_damaged_chunk_is_refused_when_it_is_complete() {
    let (config, mut bytes) = caption(MIXED);
    let manifest = manifest(&config, &bytes, Some(4096));
    bytes[5000] ^= 1;
    let mut loader = Loader::new(&manifest, &Device::flex());
    loader.push(&bytes[..8191]).unwrap();
    assert_eq!(loader.push(&bytes[8191..8192]).unwrap_err().kind(), ErrorKind::Integrity);
    assert!(loader.push(&bytes[8192..]).is_err(), "a loader that failed takes nothing more");
    assert!(loader.finish().is_err());
}

/// A generator of hostile edits.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

#[test]
fn hostile_files_whose_digests_are_right_are_errors_and_never_panics() {
    let (config, bytes) = caption(MIXED);
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut draw = Draw(1);
    let (mut refused, mut accepted) = (0, 0);
    for round in 0..400 {
        let mut hostile = bytes.clone();
        match round % 5 {
            // Anywhere in the header, its length included.
            0 => {
                let place = draw.below(header);
                hostile[place] = draw.below(256) as u8;
            }
            // A digit of a shape or an offset becomes another.
            1 => {
                let digits: Vec<usize> = (8..header).filter(|at| hostile[*at].is_ascii_digit()).collect();
                hostile[digits[draw.below(digits.len())]] = b'0' + draw.below(10) as u8;
            }
            2 => hostile.truncate(draw.below(bytes.len())),
            3 => hostile[..8].copy_from_slice(&(1u64 << draw.below(64)).to_le_bytes()),
            // Values: codes may be any, so only what is no number is refused.
            _ => {
                for _ in 0..64 {
                    let place = header + draw.below(bytes.len() - header);
                    hostile[place] = draw.below(256) as u8;
                }
            }
        }
        let chunk = (round % 2 == 0).then_some(4096);
        match load_only(&manifest(&config, &hostile, chunk), &hostile) {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert!(error.code().starts_with("weights-") || error.code() == "integrity", "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 200 && accepted > 0, "{refused} refused, {accepted} accepted");
}

fn load_only(manifest: &Manifest, bytes: &[u8]) -> blip_web::Result<Networks> {
    let mut loader = Loader::new(manifest, &Device::flex());
    for piece in bytes.chunks(3000) {
        loader.push(piece)?;
    }
    Ok(loader.finish()?.1)
}

#[test]
fn a_header_that_promises_more_than_the_file_has_allocates_nothing() {
    let (config, _) = caption(PLAIN);
    let name = "vision_model.embeddings.class_embedding";
    let header =
        format!(r#"{{"{name}":{{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}}}"#);
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 64]].concat();
    let error = load_only(&manifest(&config, &bytes, None), &bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WeightsFormat, "{error}");
    assert!(error.to_string().contains("cut short"), "{error}");
}

#[test]
fn the_host_holds_about_the_largest_tensor() {
    let mut config = BlipConfig::tiny(3000, 2998, 3);
    config.text_config.num_hidden_layers = 6;
    let bytes = written(&config, &random_checkpoint(&config, 5), Quantisation::uniform(Precision::Q8));
    let manifest = manifest(&config, &bytes, Some(64 << 10));
    let mut loader = Loader::new(&manifest, &Device::flex());
    for piece in bytes.chunks(10_000) {
        loader.push(piece).unwrap();
    }
    let peak = loader.peak();
    // The word embedding with its scales, and a chunk.
    let largest = 3000 * 160 + 3000 * 5 * 2 + (64 << 10);
    assert!(
        peak >= largest && peak < largest + 20_000,
        "{peak} of {} bytes, expected {largest}",
        bytes.len()
    );
    assert!(bytes.len() > 6 * peak);
    loader.finish().unwrap();
}

#[test]
fn base_holds_at_most_64_megabytes() {
    if !slow() {
        return;
    }
    let config = BlipConfig::base();
    let zeros = zero_checkpoint(&config);
    let container = Container::new(&config, &zeros, Quantisation::uniform(Precision::Q8)).unwrap();
    let weights = container.write("model.safetensors", &mut std::io::sink(), &mut |_| {}).unwrap();
    assert!(weights.bytes <= 242_000_000, "{}", weights.bytes);
    let mut manifest = manifest(&config, &[], None);
    manifest.files.weights = weights;
    let mut loader = Loader::new(&manifest, &Device::flex());
    container.write("model.safetensors", &mut Pushing(&mut loader), &mut |_| {}).unwrap();
    assert!(loader.peak() <= 64_000_000, "{}", loader.peak());
    loader.finish().unwrap();
}

/// What is written goes straight into a loader.
struct Pushing<'a>(&'a mut Loader);

impl std::io::Write for Pushing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.push(bytes).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn zero_checkpoint(config: &BlipConfig) -> Checkpoint {
    let names = random_checkpoint(config, 0).tensors.into_iter();
    let zeros = names.map(|(name, tensor)| {
        let bytes = tensor.elements() * 4;
        (name, StoredTensor::new(tensor.shape, Dtype::F32, move || Ok(vec![0; bytes])))
    });
    Checkpoint { tensors: zeros.collect() }
}

#[test]
fn every_parameter_of_a_model_is_made_of_tensors_with_names() {
    let config = BlipConfig::base();
    let networks = Networks { text_encoder: true, itc: true, itm: true, ..Networks::caption(768) };
    let parameters = schema(&config, &networks, &Device::flex());
    let parts: usize = parameters.iter().map(|parameter| parameter.parts.len()).sum();
    assert!(parts > parameters.len(), "some are made of several");
}
