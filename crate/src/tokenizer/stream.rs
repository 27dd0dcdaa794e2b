//! Text while it is being generated, in parts that are never taken back.

use super::{Tokenizer, clean_up};

/// What the text may end in and still lose a space when more follows: beginnings of the contractions
/// that the clean-up joins.
const UNDECIDED: [&str; 6] = [" n '", " n'", " n", " '", " 'v", " 'r"];

/// Turns token ids into pieces of text; joined, they equal [`Tokenizer::decode`] of all ids.
///
/// ```
/// # use blip_web::tokenizer::Tokenizer;
/// let tokenizer = Tokenizer::from_vocab(b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nred\ndog\n##s\n")?;
/// let mut stream = tokenizer.stream(true);
/// let parts: Vec<String> = [4, 5, 6, 7].into_iter().map(|id| stream.push(id)).collect();
/// assert_eq!(parts, ["a", " red", " dog", "s"]);
/// assert_eq!(stream.finish(), "");
/// # Ok::<(), blip_web::Error>(())
/// ```
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    cleanup: bool,
    /// Everything so far, before the clean-up.
    raw: String,
    /// Bytes of the cleaned text that were handed out.
    sent: usize,
}

impl<'a> StreamDecoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, cleanup: bool) -> Self {
        Self { tokenizer, cleanup, raw: String::new(), sent: 0 }
    }

    /// The text that this token settles: often its own, nothing while a contraction is undecided.
    pub fn push(&mut self, id: u32) -> String {
        self.tokenizer.append(&mut self.raw, id);
        let text = self.text();
        let held = match UNDECIDED.iter().find(|tail| self.cleanup && text.ends_with(*tail)) {
            Some(tail) => tail.len(),
            None => 0,
        };
        self.take(&text, text.len() - held)
    }

    /// The rest of the text.
    pub fn finish(mut self) -> String {
        let text = self.text();
        self.take(&text, text.len())
    }

    fn text(&self) -> String {
        if self.cleanup { clean_up(&self.raw) } else { self.raw.clone() }
    }

    fn take(&mut self, text: &str, end: usize) -> String {
        let start = self.sent.min(end);
        self.sent = self.sent.max(end);
        text[start..end].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_join_to_the_whole_for_every_short_sequence() {
        let tokens = ["do", "n", "'", "t", "s", "ve", ".", ",", "##t", "##s", "##v", "##e"];
        let vocab = format!("[PAD]\n[UNK]\n[CLS]\n[SEP]\n{}", tokens.join("\n"));
        let tokenizer = Tokenizer::from_vocab(vocab.as_bytes()).unwrap();
        let count = tokens.len() as u32;
        for cleanup in [false, true] {
            for length in 1..=5 {
                for index in 0..count.pow(length) {
                    let ids: Vec<u32> =
                        (0..length).map(|place| 4 + index / count.pow(place) % count).collect();
                    let mut stream = tokenizer.stream(cleanup);
                    let mut joined: String = ids.iter().map(|&id| stream.push(id)).collect();
                    joined += &stream.finish();
                    assert_eq!(joined, tokenizer.decode(&ids, cleanup), "{ids:?}");
                }
            }
        }
    }

    #[test]
    fn only_undecided_contractions_wait() {
        let tokenizer = Tokenizer::from_vocab(b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nit\n'\ns\n.\nred").unwrap();
        let mut stream = tokenizer.stream(true);
        let parts: Vec<String> = [9, 4, 5, 6, 8, 7, 3].into_iter().map(|id| stream.push(id)).collect();
        assert_eq!(parts, ["", "it", "", "'s", " red", ".", ""]);
        let mut stream = tokenizer.stream(false);
        assert_eq!((stream.push(4), stream.push(5)), ("it".into(), " '".into()));
    }
}
