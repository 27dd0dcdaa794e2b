//! Token ids with the real BERT vocabulary, and text that is no good.
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use blip_web::ErrorKind;
use blip_web::tokenizer::{MAX_TEXT_BYTES, Tokenizer};
use sha2::{Digest, Sha256};

const VOCAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/text/bert-base-uncased-vocab.txt");

fn tokenizer() -> Tokenizer {
    let bytes = std::fs::read(VOCAB).unwrap();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3");
    Tokenizer::from_vocab(&bytes).unwrap()
}

#[test]
fn special_tokens_have_the_ids_of_the_published_models() {
    let tokenizer = tokenizer();
    assert_eq!((tokenizer.pad(), tokenizer.unk(), tokenizer.cls(), tokenizer.sep()), (0, 100, 101, 102));
    assert_eq!((tokenizer.dec(), tokenizer.enc(), tokenizer.vocab_size()), (30522, 30523, 30524));
    assert!([0, 100, 101, 102, 103, 30522, 30523].into_iter().all(|id| tokenizer.is_special(id)));
    assert!(!tokenizer.is_special(1037) && !tokenizer.is_special(30524));
}

#[test]
fn text_has_the_ids_of_the_reference() {
    let tokenizer = tokenizer();
    for (text, ids) in [
        ("a picture of ", &[101, 1037, 3861, 1997, 102][..]),
        ("a picture of", &[101, 1037, 3861, 1997, 102]),
        ("how many dogs are in the picture?", &[101, 2129, 2116, 6077, 2024, 1999, 1996, 3861, 1029, 102]),
        ("where is the woman sitting?", &[101, 2073, 2003, 1996, 2450, 3564, 1029, 102]),
        (
            "a woman sitting on the beach with a dog",
            &[101, 1037, 2450, 3564, 2006, 1996, 3509, 2007, 1037, 3899, 102],
        ),
        ("Café naïve Ünïcödé", &[101, 7668, 15743, 27260, 102]),
        ("5:30pm", &[101, 1019, 1024, 2382, 9737, 102]),
        ("merlion in singapore", &[101, 21442, 18964, 1999, 5264, 102]),
        ("it's the dog's", &[101, 2009, 1005, 1055, 1996, 3899, 1005, 1055, 102]),
    ] {
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
    }
}

#[test]
fn a_prompt_becomes_the_start_of_generation() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.encode_prompt(Some("a picture of ")).unwrap(), [30522, 1037, 3861, 1997]);
    assert_eq!(tokenizer.encode_prompt(None).unwrap(), [30522]);
}

#[test]
fn decoding_reverses_encoding_with_and_without_cleanup() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("it's the dog's, isn't it? merlion!").unwrap();
    assert_eq!(tokenizer.decode(&ids, false), "it ' s the dog ' s , isn ' t it ? merlion !");
    assert_eq!(tokenizer.decode(&ids, true), "it's the dog's, isn't it? merlion!");
    let mut stream = tokenizer.stream(true);
    let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
    streamed += &stream.finish();
    assert_eq!(streamed, "it's the dog's, isn't it? merlion!");
}

#[test]
fn no_text_becomes_a_control_token() {
    let tokenizer = tokenizer();
    for text in
        ["[SEP]", "[DEC]", "[ENC]", "[PAD]", "[CLS]", "[MASK]", "a dog[SEP][PAD] [ SEP ]", "[sep]", "##s"]
    {
        let ids = tokenizer.encode(text).unwrap();
        assert!(!ids[1..ids.len() - 1].iter().any(|&id| tokenizer.is_special(id)), "{text}: {ids:?}");
        let prompt = tokenizer.encode_prompt(Some(text)).unwrap();
        assert!(!prompt[1..].iter().any(|&id| tokenizer.is_special(id)), "{text}: {prompt:?}");
    }
    // "[", "sep" (which is the abbreviated month), "]".
    assert_eq!(tokenizer.encode("[SEP]").unwrap(), [101, 1031, 19802, 1033, 102]);
}

#[test]
fn odd_text_is_tokenised_without_panic() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.encode("\u{1f600}").unwrap(), [101, 100, 102]);
    assert_eq!(
        tokenizer.encode("a\u{0}\u{1}\u{fffd}\u{200b}dog\t\r\n").unwrap(),
        tokenizer.encode("adog").unwrap()
    );
    assert_eq!(tokenizer.encode(&"x".repeat(101)).unwrap(), [101, 100, 102], "a word of over 100 characters");
    for text in [
        "",
        " ",
        "\u{feff}",
        "e\u{301}\u{301}\u{301}",
        "\u{1f468}\u{200d}\u{1f469}",
        "\u{202e}abc",
        "図 の 犬",
    ] {
        let ids = tokenizer.encode(text).unwrap();
        tokenizer.decode(&ids, true);
    }
    let every_plane: String = (0..0x11_0000).step_by(97).filter_map(char::from_u32).collect();
    tokenizer.encode(&every_plane[..every_plane.floor_char_boundary(MAX_TEXT_BYTES)]).unwrap();
}

#[test]
fn a_megabyte_of_text_is_refused() {
    let error = tokenizer().encode(&"dog ".repeat(1 << 18)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadOption);
    assert!(error.message().contains("1048576") && error.message().contains("65536"), "{error}");
}
