//! The vocabulary of a model repository becomes that of a model directory.

use crate::config::BlipConfig;
use crate::{Error, ErrorKind, Result};

/// BLIP's task tokens, in the order in which the reference appends them to BERT's vocabulary.
const TASK_TOKENS: [&str; 2] = ["[DEC]", "[ENC]"];

/// A `vocab.txt` with `[DEC]` and `[ENC]` at its end, where it lacks them: the published ones are
/// BERT's own.
///
/// # Errors
/// [`ErrorKind::BadVocabulary`] when it is not text, or `[DEC]` is not the token that the configuration
/// begins sequences with.
pub fn complete_vocabulary(vocab: &[u8], config: &BlipConfig) -> Result<Vec<u8>> {
    let refused = |message: String| Error::new(ErrorKind::BadVocabulary, message);
    let text =
        std::str::from_utf8(vocab).map_err(|_| refused("vocabulary: it is not UTF-8 text".to_owned()))?;
    let mut lines: Vec<&str> = text.lines().collect();
    for token in TASK_TOKENS {
        if !lines.contains(&token) {
            lines.push(token);
        }
    }
    let (bos, size) = (config.text_config.bos_token_id as usize, config.text_config.vocab_size);
    if lines.get(bos) != Some(&TASK_TOKENS[0]) || lines.len() > size {
        return Err(refused(format!(
            "vocabulary: {} tokens with {} as number {bos}, expected [DEC] there and at most {size}",
            lines.len(),
            lines.get(bos).map_or("nothing", |token| *token),
        )));
    }
    let mut complete = lines.join("\n");
    complete.push('\n');
    Ok(complete.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_tokens_are_appended_once() {
        let config = BlipConfig::tiny(6, 4, 3);
        let complete = complete_vocabulary(b"[PAD]\r\n[UNK]\n[CLS]\n[SEP]", &config).unwrap();
        assert_eq!(complete, b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[DEC]\n[ENC]\n");
        assert_eq!(complete_vocabulary(&complete, &config).unwrap(), complete);
        for wrong in [&b"[PAD]\n"[..], b"a\nb\nc\nd\ne", b"\xFF", b""] {
            let error = complete_vocabulary(wrong, &config).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadVocabulary);
        }
        assert!(complete_vocabulary(b"a\nb\nc\nd\n", &BlipConfig::tiny(5, 4, 3)).is_err());
    }
}
