//! Apostrophes: in contractions, possessives, elisions, years, and words that have one.

use super::super::characters::{is_apostrophe, is_digit, is_letter, is_loose_apostrophe, is_space};
use super::super::lexicon;
use super::words::word_length;
use super::{Match, at, begins_with, run};

/// What a contraction adds to a word.
const AUXILIARIES: [&str; 6] = ["'ll", "'ve", "'re", "'s", "'m", "'d"];

fn auxiliary_length(text: &[char]) -> usize {
    AUXILIARIES.iter().find(|word| begins_with(text, word)).map_or(0, |word| word.len())
}

/// The characters with straight apostrophes.
fn straight(text: &[char]) -> String {
    let plain = |&c: &char| match c {
        _ if is_apostrophe(c) => '\'',
        _ if is_loose_apostrophe(c) => '`',
        _ => c,
    };
    text.iter().map(plain).collect()
}

/// `'t` of `'tis` and `'twas`; only with a straight apostrophe.
pub(super) fn twas(text: &[char]) -> Option<Match> {
    if at(text, 0) != '\'' {
        return None;
    }
    ["'tis", "'twas"]
        .iter()
        .find(|word| begins_with(text, word))
        .and_then(|word| Match::before(2, word.len() - 2))
}

/// `'s`, `'ll` and their like; not before a letter, where a straight apostrophe is rather a quote.
pub(super) fn auxiliary(text: &[char]) -> Option<Match> {
    let length = auxiliary_length(text);
    let ends = !at(text, length).is_ascii_alphabetic();
    let found = length > 0 && (ends || at(text, 0) != '\'');
    found.then(|| Match {
        reach: length + usize::from(ends),
        take: length,
        text: Some(straight(&text[..length])),
    })
}

/// The word before `'s`, `'ll` and their like.
pub(super) fn before_auxiliary(text: &[char]) -> Option<Match> {
    let length = word_length(text);
    match auxiliary_length(text.get(length..).unwrap_or_default()) {
        0 => None,
        auxiliary => Match::before(length, auxiliary),
    }
}

fn is_negation(text: &[char]) -> bool {
    matches!(at(text, 0), 'n' | 'N') && is_loose_apostrophe(at(text, 1)) && matches!(at(text, 2), 't' | 'T')
}

/// `n't`.
pub(super) fn negation(text: &[char]) -> Option<Match> {
    if is_negation(text) { Match::written(3, straight(&text[..3])) } else { None }
}

/// The word before `n't`, as `do` in `don't`.
pub(super) fn before_negation(text: &[char]) -> Option<Match> {
    let letters = run(text, 0, |c| c.is_ascii_alphabetic());
    let word = letters.checked_sub(1)?;
    let ends_in_n = word > 0 && matches!(at(text, word - 1), 'n' | 'N');
    if !ends_in_n && is_negation(&text[word..]) { Match::before(word, 3) } else { None }
}

/// Words with an apostrophe in or around them that stay whole.
pub(super) fn whole(text: &[char]) -> Option<Match> {
    Match::whole(lexicon::apostrophe_word(|word| begins_with(text, word))?)
}

/// `d'`, `j'`, `l'`; `y'` before a letter.
pub(super) fn elision(text: &[char]) -> Option<Match> {
    if !is_apostrophe(at(text, 1)) {
        return None;
    }
    match at(text, 0) {
        'd' | 'D' | 'j' | 'J' | 'l' | 'L' => Match::whole(2),
        'y' | 'Y' if at(text, 2).is_alphabetic() => Match::before(2, 1),
        _ => None,
    }
}

fn between_vowels_length(text: &[char]) -> usize {
    let letters = run(text, 0, is_letter);
    let vowel = |index: usize| matches!(at(text, index).to_ascii_lowercase(), 'a' | 'e' | 'i' | 'o' | 'u');
    let before = letters > 1 && (vowel(letters - 1) || at(text, letters - 1).eq_ignore_ascii_case(&'y'));
    let after = vowel(letters + 1) || at(text, letters + 1).is_ascii_uppercase();
    if before && is_loose_apostrophe(at(text, letters)) && after {
        letters + 1 + run(text, letters + 1, is_letter)
    } else {
        0
    }
}

/// A name with one letter before its apostrophe, as in `M'Gregor`.
pub(super) fn name(text: &[char]) -> Option<Match> {
    let letters = run(text, 2, is_letter);
    let first = matches!(at(text, 0), 'n' | 'A'..='H' | 'J'..='X' | 'Z');
    let found = first && is_loose_apostrophe(at(text, 1)) && letters > 1;
    if found { Match::whole(2 + letters) } else { None }
}

/// An apostrophe between vowels, or a vowel and a capital, as in `hawai'i`.
pub(super) fn between_vowels(text: &[char]) -> Option<Match> {
    Match::whole(between_vowels_length(text))
}

/// `'80s`, and `'80` before white space.
pub(super) fn decade(text: &[char]) -> Option<Match> {
    let digits = is_apostrophe(at(text, 0)) && is_digit(at(text, 1)) && is_digit(at(text, 2));
    if digits && at(text, 2) == '0' && matches!(at(text, 3), 's' | 'S') {
        Match::whole(4)
    } else if digits && is_space(at(text, 3)) {
        Match::before(3, 1)
    } else {
        None
    }
}

/// A quote before a word of two letters or more, which is no contraction.
pub(super) fn opening(text: &[char]) -> Option<Match> {
    let more =
        |c: char| c.is_ascii_alphabetic() || matches!(c, '"' | '`' | '\u{2018}' | '\u{201c}' | '\u{201d}');
    let found = at(text, 0) == '\'' && at(text, 1).is_ascii_alphabetic() && more(at(text, 2));
    found.then(|| Match { reach: 3, take: 1, text: Some(String::new()) })
}

/// Two quotes. They are taken for one, even where the result is none that counts as punctuation.
pub(super) fn two_quotes(text: &[char]) -> Option<Match> {
    let written = |c: char| match c {
        '`' | '\u{2018}' | '\u{201b}' => Some("`"),
        '\u{2019}' => Some("'"),
        '\u{201c}' => Some("``"),
        '\u{201d}' => Some("''"),
        _ => None,
    };
    if at(text, 0) == '\'' && at(text, 1) == '\'' {
        return Match::written(2, "''");
    }
    Match::written(2, [written(at(text, 0))?, written(at(text, 1))?].concat())
}
