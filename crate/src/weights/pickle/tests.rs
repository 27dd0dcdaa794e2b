//! Pickles of state dictionaries, of other things, and damaged ones.

use super::*;
use crate::weights::archive::{before_data, directory, records};

const CAPTION: &[u8] = include_bytes!("../../../../tests/fixtures/parity/original/model.pth");
const RETRIEVAL: &[u8] = include_bytes!("../../../../tests/fixtures/parity/itm/retrieval.pth");

/// The pickle in an archive.
fn pickle_of(archive: &[u8]) -> Vec<u8> {
    let place = directory(archive, 0).unwrap().unwrap();
    let found = records(&archive[place.start as usize..place.end as usize], place.start).unwrap();
    let record = found.iter().find(|record| record.name.ends_with("/data.pkl")).unwrap();
    let header = &archive[record.header as usize..];
    let data = before_data(header).unwrap();
    header[data..data + record.size as usize].to_vec()
}

/// A pickle by instructions.
#[derive(Clone)]
struct Script(Vec<u8>);

impl Script {
    fn new() -> Self {
        Self(vec![0x80, 2])
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    fn int(self, value: i32) -> Self {
        self.raw(b"J").raw(&value.to_le_bytes())
    }

    fn sizes(mut self, sizes: &[i32]) -> Self {
        self = self.raw(b"(");
        for size in sizes {
            self = self.int(*size);
        }
        self.raw(b"t")
    }

    /// `{"w": tensor}`.
    fn tensor(storage: &str, elements: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Self {
        Self::new()
            .raw(b"}")
            .text("w")
            .raw(b"ctorch._utils\n_rebuild_tensor_v2\n((")
            .text("storage")
            .raw(b"ctorch\n")
            .raw(storage.as_bytes())
            .raw(b"\n")
            .text("7")
            .text("cpu")
            .int(elements)
            .raw(b"tQ")
            .int(offset)
            .sizes(shape)
            .sizes(strides)
            .raw(b"\x89N")
            .raw(b"tRs.")
    }

    fn read(&self) -> Result<Vec<(String, Pickled)>> {
        tensors(&self.0)
    }

    fn refusal(&self) -> String {
        let error = self.read().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WeightsFormat);
        error.to_string()
    }
}

#[test]
fn a_fine_tuned_file_is_read_with_its_tied_names() {
    let found = tensors(&pickle_of(CAPTION)).unwrap();
    let by_name: HashMap<&str, &Pickled> = found.iter().map(|(name, tensor)| (&**name, tensor)).collect();
    let table = by_name["text_decoder.bert.embeddings.word_embeddings.weight"];
    let head = by_name["text_decoder.cls.predictions.decoder.weight"];
    assert_eq!(table.storage, head.storage);
    assert_eq!(table.dtype, Dtype::F32);
    assert_eq!(table.len(), table.elements);
    assert_eq!(by_name["text_decoder.bert.embeddings.position_ids"].dtype, Dtype::Other);
    assert_eq!(by_name["visual_encoder.patch_embed.proj.weight"].shape.len(), 4);
    assert!(found.iter().all(|(_, tensor)| tensor.is_contiguous));
    assert!(!by_name.contains_key("epoch"));
}

#[test]
fn a_training_file_is_read_with_its_queues() {
    let found = tensors(&pickle_of(RETRIEVAL)).unwrap();
    let temperature = found.iter().find(|(name, _)| name == "temp").unwrap();
    assert!(temperature.1.shape.is_empty());
    assert_eq!(temperature.1.len(), 1);
}

#[test]
fn storages_offsets_and_strides_are_understood() {
    let (name, tensor) = Script::tensor("HalfStorage", 20, 4, &[2, 3], &[3, 1]).read().unwrap().remove(0);
    assert_eq!((&*name, tensor.dtype, tensor.size, tensor.offset), ("w", Dtype::F16, 2, 4));
    assert!(tensor.is_contiguous);
    let turned = Script::tensor("FloatStorage", 20, 0, &[2, 3], &[1, 2]).read().unwrap();
    assert!(!turned[0].1.is_contiguous);
    let column = Script::tensor("FloatStorage", 20, 0, &[4, 1], &[1, 9]).read().unwrap();
    assert!(column[0].1.is_contiguous);
    assert!(Script::tensor("FloatStorage", 5, 0, &[2, 3], &[3, 1]).refusal().contains("storage of 5"));
    assert!(Script::tensor("FloatStorage", 6, 1, &[2, 3], &[3, 1]).refusal().contains("1 from its"));
    assert!(Script::tensor("FloatStorage", -6, 0, &[2], &[1]).refusal().contains("negative"));
    assert!(Script::tensor("FloatStorage", 6, -1, &[2], &[1]).refusal().contains("description"));
    let most = i32::MAX;
    assert!(
        Script::tensor("FloatStorage", 6, 0, &[most, most, most], &[1, 1, 1])
            .refusal()
            .contains("description")
    );
}

#[test]
fn attributes_parameters_and_newer_protocols_are_understood() {
    let mut script = Script::tensor("FloatStorage", 6, 0, &[2], &[1]);
    script.0.pop();
    // `_metadata`, an attribute of the dictionary.
    let with_attributes = script.clone().raw(b"}").text("_metadata").raw(b"}sb.");
    assert_eq!(with_attributes.read().unwrap().len(), 1);
    let mut newer = script.raw(b".");
    newer.0[1] = 4;
    newer.0.splice(2..2, [[0x95].as_slice(), &[0; 8]].concat());
    assert_eq!(newer.read().unwrap().len(), 1);
    newer.0[1] = 6;
    assert!(newer.refusal().contains("protocol 6"));
}

#[test]
fn nothing_else_can_be_named_or_called() {
    let name =
        |name: &[u8]| Script::new().raw(b"c").raw(name).raw(b"(").text("rm -rf /").raw(b"tR.").refusal();
    assert!(name(b"os\nsystem\n").contains("`os.system`"));
    assert!(name(b"builtins\neval\n").contains("`builtins.eval`"));
    assert!(name(b"torch\nload\n").contains("`torch.load`"));
    assert!(name(b"torch.storage\n_load_from_bytes\n").contains("_load_from_bytes"));
    let stacked = Script::new().text("os").text("system").raw(b"\x93.");
    assert!(stacked.refusal().contains("`os.system`"));
    assert!(Script::new().text("f").raw(b")R.").refusal().contains("cannot be called"));
    let ordered = Script::new().raw(b"ccollections\nOrderedDict\n(").int(1).raw(b"tR.");
    assert!(ordered.refusal().contains("other arguments"));
    for (instruction, label) in
        [(b"i", "0x69"), (b"o", "0x6f"), (b"P", "0x50"), (b"\x82", "0x82"), (b"\x81", "0x81")]
    {
        assert!(Script::new().raw(instruction).refusal().contains(label));
    }
}

#[test]
fn what_is_no_dictionary_of_tensors_is_refused() {
    assert!(Script::new().raw(b"N.").refusal().contains("no dictionary"));
    assert!(Script::new().raw(b"}.").refusal().contains("no tensors"));
    assert!(Script::new().raw(b".").refusal().contains("missing"));
    assert!(Script::new().raw(b"(0.").refusal().contains("0x30"));
    assert!(Script::new().text("a").raw(b"(s.").refusal().contains("missing"));
    assert!(Script::new().raw(b"h\x07.").refusal().contains("remembered as 7"));
    assert!(Script(b"not a pickle".to_vec()).refusal().contains("begin"));
    assert!(Script(Vec::new()).refusal().contains("ends within"));
    let twice = Script::tensor("FloatStorage", 6, 0, &[2], &[1]);
    let (head, tail) = twice.0.split_at(2);
    let entry = &tail[1..tail.len() - 1];
    let twice = Script([head, b"}", entry, entry, b"."].concat());
    assert!(twice.refusal().contains("`w` twice"));
}

#[test]
fn what_refers_to_itself_ends() {
    // A dictionary that is its own `model`.
    let circle = Script::new().raw(b"}q\x00").text("model").raw(b"h\x00s.");
    assert!(circle.refusal().contains("no tensors"));
}

#[test]
fn memory_is_bounded() {
    let many = Script::new().raw(&vec![b'}'; MOST_VALUES + 1]).raw(b".");
    assert!(many.refusal().contains("more than"));
    let same = Script::new().raw(b"}q\x00").raw(&b"h\x00".repeat(MOST_VALUES)).raw(b".");
    assert!(same.refusal().contains("more than"));
    // Without a value more: names for one that is there, and groups without an end.
    let named = Script::new().raw(b"}").raw(&vec![0x94; MOST_VALUES + 1]).raw(b".");
    assert!(named.refusal().contains("more than"));
    let begun = Script::new().raw(&vec![b'('; MOST_VALUES + 1]).raw(b"}.");
    assert!(begun.refusal().contains("more than"));
    let long = Script::new().raw(b"X\xFF\xFF\xFF\xFFabc");
    assert!(long.refusal().contains("ends within"));
}

#[test]
fn random_damage_is_an_error_or_another_dictionary() {
    let mut state = 7u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let whole = pickle_of(CAPTION);
    let (mut refused, mut read) = (0, 0);
    for _ in 0..6000 {
        let mut pickle = whole.clone();
        for _ in 0..=random(4) {
            let at = random(pickle.len());
            match random(4) {
                0 => pickle[at] = random(256) as u8,
                1 => pickle.truncate(at.max(1)),
                2 => drop(pickle.splice(at..(at + random(9)).min(pickle.len()), [])),
                _ => {
                    let from = random(pickle.len());
                    let piece = pickle[from..(from + random(40)).min(pickle.len())].to_vec();
                    pickle.splice(at..at, piece);
                }
            }
            if pickle.is_empty() {
                pickle.push(0);
            }
        }
        match tensors(&pickle) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WeightsFormat);
                refused += 1;
            }
            Ok(_) => read += 1,
        }
    }
    assert!(refused > 3000 && read > 100, "{refused} {read}");
}
