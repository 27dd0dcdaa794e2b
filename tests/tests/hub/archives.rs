//! Archives as `torch.save` writes them, of tensors that share storages.

use blip_tests::corpus::Corpus;
use blip_web::config::BlipConfig;
use blip_web::weights::{Checkpoint, Container, Conversion, ConversionOptions, Precision, Quantisation};

use super::conversions::tensors;

/// A tensor: its name, its shape, where it begins in its storage, and which storage that is.
pub type View<'a> = (&'a str, &'a [usize], usize, usize);

/// What tensors are views of.
pub struct Storage {
    /// Its class in `torch`.
    pub class: &'static str,
    /// Bytes of an element.
    pub width: usize,
    pub bytes: Vec<u8>,
}

impl Storage {
    pub fn floats(bytes: Vec<u8>) -> Self {
        Self { class: "FloatStorage", width: 4, bytes }
    }
}

/// An archive of storages and of views into them.
pub fn archive(views: &[View<'_>], storages: Vec<Storage>) -> Vec<u8> {
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let text = |pickle: &mut Vec<u8>, text: &str| {
        pickle.push(b'X');
        pickle.extend((text.len() as u32).to_le_bytes());
        pickle.extend(text.as_bytes());
    };
    let int = |pickle: &mut Vec<u8>, value: usize| {
        pickle.push(b'J');
        pickle.extend(i32::try_from(value).unwrap().to_le_bytes());
    };
    for (name, shape, offset, storage) in views {
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        let Storage { class, width, bytes } = &storages[*storage];
        pickle.extend(format!("ctorch\n{class}\n").bytes());
        text(&mut pickle, &storage.to_string());
        text(&mut pickle, "cpu");
        int(&mut pickle, bytes.len() / width);
        pickle.extend(b"tQ");
        int(&mut pickle, *offset);
        pickle.push(b'(');
        shape.iter().for_each(|size| int(&mut pickle, *size));
        pickle.extend(b"t(");
        for dimension in 1..=shape.len() {
            int(&mut pickle, shape[dimension..].iter().product());
        }
        pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    }
    // The attribute that a state dictionary has.
    pickle.extend(b"u}");
    text(&mut pickle, "_metadata");
    pickle.extend(b"ccollections\nOrderedDict\n)Rsb.");
    let mut files =
        vec![("archive/data.pkl".to_owned(), pickle), ("archive/byteorder".to_owned(), b"little".to_vec())];
    let data = |(index, storage): (usize, Storage)| (format!("archive/data/{index}"), storage.bytes);
    files.extend(storages.into_iter().enumerate().map(data));
    files.push(("archive/version".to_owned(), b"3\n".to_vec()));
    zipped(files)
}

/// Files as they are, each aligned to 64 bytes.
fn zipped(files: Vec<(String, Vec<u8>)>) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in files {
        let (header, size) = (bytes.len() as u32, (data.len() as u32).to_le_bytes());
        let padding = (64 - (bytes.len() + 30 + name.len()) % 64) % 64;
        let length = (name.len() as u16).to_le_bytes();
        let about = [&[0; 8][..], &[0; 4], &size, &size, &length].concat();
        bytes.extend([b"PK\x03\x04\0\0".as_slice(), &about, &(padding as u16).to_le_bytes()].concat());
        bytes.extend(name.as_bytes());
        bytes.extend(std::iter::repeat_n(b'Z', padding));
        bytes.extend(data);
        directory
            .extend([b"PK\x01\x02\0\0\0\0".as_slice(), &about, &[0; 12], &header.to_le_bytes()].concat());
        directory.extend(name.as_bytes());
    }
    let (start, size) = (bytes.len() as u32, directory.len() as u32);
    bytes.extend(directory);
    bytes.extend(
        [b"PK\x05\x06\0\0\0\0\0\0\0\0".as_slice(), &size.to_le_bytes(), &start.to_le_bytes(), &[0; 2]]
            .concat(),
    );
    bytes
}

#[test]
fn tensors_that_share_storages_are_each_converted_in_full() {
    let corpus = Corpus::open("caption");
    let config_json = std::fs::read_to_string(corpus.folder.join("config.json")).unwrap();
    let config = BlipConfig::from_json(&config_json).unwrap();
    let whole = Checkpoint::open(&corpus.folder.join("model.safetensors")).unwrap();
    let quantisation = Quantisation::uniform(Precision::Q8);
    let mut expected = Vec::new();
    Container::new(&config, &whole, quantisation).unwrap().write("x", &mut expected, &mut |_| {}).unwrap();

    // Two storages for everything, by turns; the head, and its bias, are views of what is there.
    let (head, table) = (
        "text_decoder.cls.predictions.decoder.weight",
        "text_decoder.bert.embeddings.word_embeddings.weight",
    );
    let mut storages = vec![Vec::new(), b"\0\0\0\0unused by any tensor".to_vec()];
    let mut views: Vec<View<'_>> = Vec::new();
    for (index, (name, tensor)) in whole.tensors.iter().filter(|(name, _)| *name != head).enumerate() {
        let storage: &mut Vec<u8> = &mut storages[index % 2];
        views.push((name, &tensor.shape, storage.len() / 4, index % 2));
        storage.extend(tensor.bytes().unwrap());
    }
    let view_of = |name: &str| views.iter().find(|view| view.0 == name).copied().unwrap();
    let (_, shape, offset, storage) = view_of(table);
    let (_, bias_shape, bias_offset, bias_storage) = view_of("text_decoder.cls.predictions.bias");
    views.push((head, shape, offset, storage));
    views.push(("text_decoder.cls.predictions.decoder.bias", bias_shape, bias_offset, bias_storage));
    // Left over from training, across several others.
    let across = [storages[0].len() / 4 - 10];
    views.push(("image_queue", &across, 5, 0));
    let bytes = archive(&views, storages.into_iter().map(Storage::floats).collect());

    let scratch = std::env::temp_dir().join(format!("blip-archive-{}.bin", std::process::id()));
    std::fs::write(&scratch, &bytes).unwrap();
    let opened = Checkpoint::open(&scratch).unwrap();
    std::fs::remove_file(&scratch).unwrap();
    let mut on_disk = Vec::new();
    Container::new(&config, &opened, quantisation).unwrap().write("x", &mut on_disk, &mut |_| {}).unwrap();
    assert_eq!(tensors(on_disk), tensors(expected.clone()));

    let (id, licence) = ("x".to_owned(), "MIT".to_owned());
    let options = ConversionOptions { id, licence, quantisation, untied: false, source: None };
    let mut conversion = Conversion::new("model.bin", bytes.len() as u64, &config_json, options).unwrap();
    while let Some(range) = conversion.wants() {
        conversion.give(&bytes[range.start as usize..range.end as usize]).unwrap();
    }
    let mut out = Vec::new();
    for piece in bytes.chunks(5003) {
        out.extend(conversion.push(piece).unwrap());
        let resumed = Conversion::resume(&conversion.checkpoint()).unwrap();
        assert_eq!(resumed.resume_input(), conversion.resume_input());
    }
    conversion.finish(b"x\n").unwrap();
    assert_eq!(tensors(out), tensors(expected));
}

#[test]
fn a_view_beyond_its_storage_is_refused() {
    let bytes = vec![0; 400];
    for (views, storages) in [
        ([("vision_proj.weight", &[11usize, 10][..], 0, 0)], vec![bytes.clone()]),
        ([("vision_proj.weight", &[10, 10][..], 1, 0)], vec![bytes]),
    ] {
        let file = archive(&views, storages.into_iter().map(Storage::floats).collect());
        let path = std::env::temp_dir().join(format!("blip-view-{}.bin", std::process::id()));
        std::fs::write(&path, file).unwrap();
        let error = Checkpoint::open(&path).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error.kind(), blip_web::ErrorKind::WeightsFormat, "{error}");
    }
}
