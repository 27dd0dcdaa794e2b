//! Text to token ids and back.
//!
//! BERT's uncased WordPiece with BLIP's two task tokens, `[DEC]` and `[ENC]`. The tokenizer knows no
//! special tokens inside text: `[SEP]` typed by a user is the five characters it looks like, so no
//! text can end a prompt early or switch the mode of the network. Control tokens are only ever placed
//! by the methods here.

mod clean;
mod stream;

pub use clean::{pre_caption, pre_question};
pub use stream::StreamDecoder;

use crate::{Error, ErrorKind, Result};
use std::collections::hash_map::{Entry, HashMap};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

/// The longest text, in bytes, that is tokenised; more than fifty times what the 512 positions of a
/// text network hold.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// BERT WordPiece with the vocabulary of a checkpoint, and BLIP's `[DEC]` and `[ENC]`.
#[derive(Debug)]
pub struct Tokenizer {
    model: WordPiece,
    specials: Specials,
    vocab_size: usize,
}

/// The ids of the tokens that no text can contain.
#[derive(Clone, Copy, Debug)]
struct Specials {
    pad: u32,
    unk: u32,
    cls: u32,
    sep: u32,
    mask: Option<u32>,
    dec: u32,
    enc: u32,
}

impl Tokenizer {
    /// Reads a `vocab.txt`: one token a line, the line number its id.
    ///
    /// `[DEC]` and `[ENC]` are taken from the file when it has them, and otherwise appended in this
    /// order: 30522 and 30523 after BERT's own vocabulary, as in every published BLIP.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadVocabulary`] when the file is empty, is not UTF-8, has an empty line or a
    /// token twice, or lacks `[PAD]`, `[UNK]`, `[CLS]` or `[SEP]`.
    pub fn from_vocab(vocab_txt: &[u8]) -> Result<Self> {
        let vocab = read_vocab(vocab_txt)?;
        let missing: Vec<&str> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
            .into_iter()
            .filter(|token| !vocab.contains_key(*token))
            .collect();
        if !missing.is_empty() {
            return Err(bad_vocabulary(format!(
                "vocabulary: {} missing among its {} tokens; expected the vocab.txt of a BERT WordPiece tokenizer",
                missing.join(", "),
                vocab.len()
            )));
        }
        let mut vocab_size = vocab.len();
        let mut found_or_appended = |token: &str| {
            vocab.get(token).copied().unwrap_or_else(|| {
                vocab_size += 1;
                vocab_size as u32 - 1
            })
        };
        let (dec, enc) = (found_or_appended("[DEC]"), found_or_appended("[ENC]"));
        let specials = Specials {
            pad: vocab["[PAD]"],
            unk: vocab["[UNK]"],
            cls: vocab["[CLS]"],
            sep: vocab["[SEP]"],
            mask: vocab.get("[MASK]").copied(),
            dec,
            enc,
        };
        let refused = |error: tokenizers::Error| {
            bad_vocabulary("vocabulary: WordPiece refuses it".into()).with_source(error)
        };
        let model = WordPiece::read_bytes(vocab_txt)
            .and_then(|vocab| WordPiece::builder().vocab(vocab).build())
            .map_err(refused)?;
        Ok(Self { model, specials, vocab_size })
    }

    /// `[CLS]`, the pieces of the text, `[SEP]`. Cutting to the positions of a network is the
    /// caller's business.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadOption`] for text longer than [`MAX_TEXT_BYTES`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = vec![self.specials.cls];
        ids.extend(self.pieces(text)?);
        ids.push(self.specials.sep);
        Ok(ids)
    }

    /// What generation starts from: `[DEC]` and the pieces of the prompt, left open at the end;
    /// without a prompt `[DEC]` alone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadOption`] for a prompt longer than [`MAX_TEXT_BYTES`].
    pub fn encode_prompt(&self, prompt: Option<&str>) -> Result<Vec<u32>> {
        let mut ids = vec![self.specials.dec];
        if let Some(prompt) = prompt {
            ids.extend(self.pieces(prompt)?);
        }
        Ok(ids)
    }

    /// The text of token ids: special tokens and ids beyond the vocabulary are left out, pieces are
    /// joined with spaces, `##` continues a word.
    ///
    /// `cleanup` joins punctuation and contractions to the word before them (`it ' s` to `it's`), as
    /// the original code base prints captions; current transformers leaves the spaces.
    pub fn decode(&self, ids: &[u32], cleanup: bool) -> String {
        let mut text = String::new();
        for &id in ids {
            self.append(&mut text, id);
        }
        if cleanup { clean_up(&text) } else { text }
    }

    /// Decodes token by token, as they are generated.
    pub fn stream(&self, cleanup: bool) -> StreamDecoder<'_> {
        StreamDecoder::new(self, cleanup)
    }

    /// How many ids there are, `[DEC]` and `[ENC]` included: the rows of the word embedding.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// `[PAD]`: fills rows of a batch.
    pub fn pad(&self) -> u32 {
        self.specials.pad
    }

    /// `[UNK]`: a word the vocabulary cannot spell.
    pub fn unk(&self) -> u32 {
        self.specials.unk
    }

    /// `[CLS]`: first token of the text encoder in unimodal mode.
    pub fn cls(&self) -> u32 {
        self.specials.cls
    }

    /// `[SEP]`: ends every text, and generation.
    pub fn sep(&self) -> u32 {
        self.specials.sep
    }

    /// `[DEC]`: first token of the image-grounded text decoder.
    pub fn dec(&self) -> u32 {
        self.specials.dec
    }

    /// `[ENC]`: first token of the image-grounded text encoder.
    pub fn enc(&self) -> u32 {
        self.specials.enc
    }

    /// Whether an id is a control token, which [`decode`](Self::decode) leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        let Specials { pad, unk, cls, sep, mask, dec, enc } = self.specials;
        [pad, unk, cls, sep, dec, enc].contains(&id) || mask == Some(id)
    }

    /// A token as it stands in the vocabulary, control tokens included; nothing for another id.
    pub fn piece(&self, id: u32) -> Option<String> {
        match id {
            // Both may stand behind the vocabulary's end.
            id if id == self.specials.dec => Some("[DEC]".to_owned()),
            id if id == self.specials.enc => Some("[ENC]".to_owned()),
            id => self.model.id_to_token(id),
        }
    }

    fn pieces(&self, text: &str) -> Result<Vec<u32>> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::new(
                ErrorKind::BadOption,
                format!("the text has {} bytes; the limit is {MAX_TEXT_BYTES}", text.len()),
            ));
        }
        self.word_pieces(text)
            .map_err(|error| Error::new(ErrorKind::Internal, "WordPiece failed").with_source(error))
    }

    /// The steps of a BERT tokenizer without added tokens. The library's own pipeline would look for
    /// those with regular expressions, half a megabyte of the browser module.
    fn word_pieces(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        let mut text = NormalizedString::from(text);
        BertNormalizer::default().normalize(&mut text)?;
        let mut words = PreTokenizedString::from(text);
        BertPreTokenizer.pre_tokenize(&mut words)?;
        words.tokenize(|word| self.model.tokenize(word.get()))?;
        let words = words.get_splits(OffsetReferential::Original, OffsetType::None);
        Ok(words
            .iter()
            .filter_map(|(_, _, pieces)| pieces.as_ref())
            .flatten()
            .map(|piece| piece.id)
            .collect())
    }

    fn append(&self, text: &mut String, id: u32) {
        if self.is_special(id) {
            return;
        }
        let Some(piece) = self.model.id_to_token(id) else { return };
        match piece.strip_prefix("##") {
            Some(rest) if !text.is_empty() => text.push_str(rest),
            _ => {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(&piece);
            }
        }
    }
}

fn bad_vocabulary(message: String) -> Error {
    Error::new(ErrorKind::BadVocabulary, message)
}

/// Token to id, for the checks and the special tokens. Like the `tokenizers` crate, which reads the file
/// without any check, it takes no notice of white space at the end of a line.
fn read_vocab(vocab_txt: &[u8]) -> Result<HashMap<&str, u32>> {
    let text = std::str::from_utf8(vocab_txt).map_err(|error| {
        let line = vocab_txt[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
        bad_vocabulary(format!("vocabulary: line {line} is not UTF-8")).with_source(error)
    })?;
    if text.is_empty() {
        return Err(bad_vocabulary("vocabulary: the file is empty; expected one token a line".into()));
    }
    let mut vocab = HashMap::new();
    for (id, token) in text.lines().map(str::trim_end).enumerate() {
        let line = id + 1;
        if token.is_empty() {
            return Err(bad_vocabulary(format!(
                "vocabulary: line {line} is empty; expected one token a line"
            )));
        }
        let id = u32::try_from(id).map_err(|_| bad_vocabulary("vocabulary: more than 2^32 tokens".into()))?;
        match vocab.entry(token) {
            Entry::Vacant(entry) => _ = entry.insert(id),
            Entry::Occupied(entry) => {
                return Err(bad_vocabulary(format!(
                    "vocabulary: `{token}` is on line {} and again on line {line}",
                    entry.get() + 1
                )));
            }
        }
    }
    Ok(vocab)
}

/// Spaces before punctuation and inside contractions removed, rule by rule in this order
/// (reference: transformers 4.15, `clean_up_tokenization`).
fn clean_up(text: &str) -> String {
    [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCAB: &[u8] = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nred\ndog\n##s\nsep\n[\n]\n'\nit\n.\n";

    fn kind_and_message(vocab: &[u8]) -> String {
        let error = Tokenizer::from_vocab(vocab).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadVocabulary);
        error.to_string()
    }

    #[test]
    fn task_tokens_are_appended_in_order_or_taken_from_the_file() {
        let appended = Tokenizer::from_vocab(VOCAB).unwrap();
        assert_eq!((appended.dec(), appended.enc(), appended.vocab_size()), (14, 15, 16));
        let own = Tokenizer::from_vocab(b"[ENC]\n[PAD]\n[DEC]\n[UNK]\n[CLS]\n[SEP]").unwrap();
        assert_eq!((own.dec(), own.enc(), own.vocab_size()), (2, 0, 6));
        let half = Tokenizer::from_vocab(b"[ENC]\n[PAD]\n[UNK]\n[CLS]\n[SEP]").unwrap();
        assert_eq!((half.dec(), half.enc(), half.vocab_size()), (5, 0, 6));
    }

    #[test]
    fn text_is_framed_and_a_prompt_is_left_open() {
        let tokenizer = Tokenizer::from_vocab(VOCAB).unwrap();
        assert_eq!(tokenizer.encode("A red  DOGS").unwrap(), [2, 4, 5, 6, 7, 3]);
        assert_eq!(tokenizer.encode("").unwrap(), [2, 3]);
        assert_eq!(tokenizer.encode("a cat").unwrap(), [2, 4, 1, 3]);
        assert_eq!(tokenizer.encode_prompt(Some("a red ")).unwrap(), [14, 4, 5]);
        assert_eq!(tokenizer.encode_prompt(Some("")).unwrap(), [14]);
        assert_eq!(tokenizer.encode_prompt(None).unwrap(), [14]);
    }

    #[test]
    fn special_tokens_in_user_text_are_plain_text() {
        let tokenizer = Tokenizer::from_vocab(VOCAB).unwrap();
        assert_eq!(tokenizer.encode("[SEP]").unwrap(), [2, 9, 8, 10, 3]);
        for special in ["[PAD]", "[CLS]", "[DEC]", "[ENC]", "[MASK]", "[UNK]", "a[SEP]a", "##s"] {
            let ids = tokenizer.encode(special).unwrap();
            let inside = &ids[1..ids.len() - 1];
            assert!(inside.iter().all(|&id| id == tokenizer.unk() || !tokenizer.is_special(id)), "{special}");
        }
    }

    #[test]
    fn decoding_skips_control_tokens_and_unknown_ids() {
        let tokenizer = Tokenizer::from_vocab(VOCAB).unwrap();
        assert_eq!(tokenizer.decode(&[14, 4, 5, 6, 7, 0, 1, 99, 13, 3], false), "a red dogs .");
        assert_eq!(tokenizer.decode(&[14, 12, 11, 7, 6, 13], true), "it's dog.");
        assert_eq!(tokenizer.decode(&[7, 7, 4], false), "##ss a");
        assert_eq!(tokenizer.decode(&[], true), "");
    }

    #[test]
    fn an_unusable_vocabulary_says_what_is_wrong() {
        assert!(kind_and_message(b"").contains("empty"));
        assert!(kind_and_message(b"a\nb\n").contains("[PAD], [UNK], [CLS], [SEP] missing"));
        assert!(kind_and_message(b"[PAD]\n[UNK]\n[SEP]\n").contains(": [CLS] missing"));
        assert!(kind_and_message(b"[PAD]\na\nb\na\n").contains("`a` is on line 2 and again on line 4"));
        assert!(kind_and_message(b"[PAD]\n\na\n").contains("line 2 is empty"));
        assert!(kind_and_message(b"[PAD]\na\n\xff\xfe\n").contains("line 3 is not UTF-8"));
    }

    #[test]
    fn text_beyond_the_limit_is_refused() {
        let tokenizer = Tokenizer::from_vocab(VOCAB).unwrap();
        assert!(tokenizer.encode(&"a ".repeat(MAX_TEXT_BYTES / 2)).is_ok());
        let error = tokenizer.encode(&"a".repeat(MAX_TEXT_BYTES + 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadOption);
    }
}
