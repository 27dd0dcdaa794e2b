//! Full stops that belong to the word before them.

use super::super::characters::{is_digit, is_space};
use super::super::lexicon::{self, Abbreviation};
use super::{Match, at, begins_with, run};

/// The length of `a.`, `a.b.`, `a.b.c.` and so on; 0 for anything else.
pub(super) fn initials_length(text: &[char]) -> usize {
    let pair = |from: usize| at(text, from).is_ascii_alphabetic() && at(text, from + 1) == '.';
    let mut length = 0;
    while pair(length) {
        length += 2;
    }
    length
}

/// Initials. A single one ends a sentence where the next word begins one.
pub(super) fn initials(text: &[char]) -> Option<Match> {
    if begins_with(text, "ph.d.") {
        return Match::whole(5);
    }
    let length = initials_length(text);
    if length == 2 {
        let spaces = run(text, 2, is_space);
        let word = run(text, 2 + spaces, |c| c.is_ascii_alphabetic() || c == '.');
        let next: String = text.iter().skip(2 + spaces).take(word).collect();
        if spaces > 0 && is_space(at(text, 2 + spaces + word)) && lexicon::starts_sentence(&next) {
            return None;
        }
    }
    Match::whole(length)
}

/// An abbreviation.
pub(super) fn abbreviation(text: &[char]) -> Option<Match> {
    let letters = run(text, 0, |c| c.is_ascii_alphabetic());
    if letters < 2 || at(text, letters) != '.' {
        return None;
    }
    let word: String = text[..letters].iter().collect();
    match lexicon::abbreviation(&word)? {
        Abbreviation::Leading => Match::whole(letters + 1),
        Abbreviation::Final => Match::before(letters + 1, 2),
        Abbreviation::Numbered => {
            let gap = usize::from(is_space(at(text, letters + 1)));
            let number = is_digit(at(text, letters + 1 + gap));
            if number { Match::before(letters + 1, gap + 1) } else { None }
        }
    }
}
