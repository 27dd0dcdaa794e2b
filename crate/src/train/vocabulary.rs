//! The WordPiece vocabulary of a small language.

/// The lines of a `vocab.txt`: BERT's special tokens, the words, then every character as a piece,
/// so that unseen words split instead of becoming `[UNK]`; `[DEC]` and `[ENC]` come last, as in BLIP.
pub fn vocabulary(words: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).to_vec();
    let letters = 'a'..='z';
    let pieces = letters.clone().map(String::from).chain(letters.map(|letter| format!("##{letter}")));
    for word in words.iter().cloned().chain(pieces) {
        if !lines.contains(&word) {
            lines.push(word);
        }
    }
    lines.extend(["[DEC]", "[ENC]"].map(str::to_owned));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_the_task_tokens_come_last() {
        let lines = vocabulary(&["a".into(), "red".into(), "red".into(), ",".into()]);
        assert_eq!(&lines[..8], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", ","]);
        assert_eq!(lines.iter().filter(|line| *line == "a").count(), 1);
        assert_eq!(&lines[lines.len() - 2..], ["[DEC]", "[ENC]"]);
    }
}
