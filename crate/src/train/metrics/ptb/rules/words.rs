//! Words, and what is joined to one by hyphens, slashes and signs.

use super::super::characters::{is_alphanumeric, is_letter, is_loose_apostrophe};
use super::super::lexicon;
use super::{Match, at, begins_with, run};

/// The length of a word: letters and digits; after a letter also `.`, `!` or `?` between letters, as in
/// `readme.md`.
pub(super) fn word_length(text: &[char]) -> usize {
    let mut length = run(text, 0, is_alphanumeric);
    if !is_letter(at(text, 0)) {
        return length;
    }
    while matches!(at(text, length), '.' | '!' | '?') && is_letter(at(text, length + 1)) {
        length += 1 + run(text, length + 1, is_alphanumeric);
    }
    length
}

/// A word.
pub(super) fn word(text: &[char]) -> Option<Match> {
    Match::whole(word_length(text))
}

/// The first half of `cannot`, `gonna` and their like.
pub(super) fn assimilation(text: &[char]) -> Option<Match> {
    let (part, length) = lexicon::assimilation(|word| begins_with(text, word))?;
    Match::before(part, length - part)
}

/// The length of words joined by hyphens or underscores, each perhaps with `d'`, `l'` or `o'` before it.
fn joined_length(text: &[char]) -> usize {
    let part = |from: usize| {
        let elided = matches!(at(text, from), 'd' | 'D' | 'l' | 'L' | 'o' | 'O')
            && is_loose_apostrophe(at(text, from + 1));
        match run(text, from + 2, is_alphanumeric) {
            after if elided && after > 1 => 2 + after,
            _ => run(text, from, is_alphanumeric),
        }
    };
    let mut length = part(0);
    while length > 0
        && matches!(at(text, length), '-' | '_' | '\u{2010}' | '\u{2011}')
        && part(length + 1) > 0
    {
        length += 1 + part(length + 1);
    }
    length
}

/// Words joined by hyphens or underscores.
pub(super) fn joined(text: &[char]) -> Option<Match> {
    Match::whole(joined_length(text))
}

/// The length of plain letters and digits joined by hyphens; the first part may have stops and commas, as in
/// `u.s.-made`, and the others may be initials.
fn hyphenated_length(text: &[char]) -> usize {
    let plain = |c: char| c.is_ascii_alphanumeric();
    if !plain(at(text, 0)) {
        return 0;
    }
    let mut length = run(text, 0, |c| plain(c) || matches!(c, '.' | ','));
    let mut found = 0;
    while at(text, length) == '-' {
        let rest = text.get(length + 1..).unwrap_or_default();
        let initials = super::stops::initials_length(rest);
        let part = if initials > 2 { initials } else { run(rest, 0, plain) };
        if part == 0 {
            break;
        }
        length += 1 + part;
        found = length;
    }
    found
}

/// Plain letters and digits joined by hyphens.
pub(super) fn hyphenated(text: &[char]) -> Option<Match> {
    Match::whole(hyphenated_length(text))
}

/// Two or three words with slashes between them, as in `and/or`.
pub(super) fn slashed(text: &[char]) -> Option<Match> {
    let part = |from: usize| {
        let mut length = run(text, from, |c| c.is_ascii_alphanumeric());
        for _ in 0..2 {
            let after = run(text, from + length + 1, |c| c.is_ascii_alphabetic());
            if length > 0 && at(text, from + length) == '-' && after > 0 {
                length += 1 + after;
            }
        }
        length
    };
    let mut length = part(0);
    let mut parts = 1;
    while length > 0 && parts < 3 {
        let slash = match (at(text, length), at(text, length + 1)) {
            ('/', _) => 1,
            ('\\', '/') => 2,
            _ => break,
        };
        match part(length + slash) {
            0 => break,
            next => length += slash + next,
        }
        parts += 1;
    }
    if parts > 1 { Match::whole(length) } else { None }
}

/// Capitals with `&` or `+` between them (`AT&T`), or a dollar sign after them (`US$`); `C++`, `C#`, `F#`.
pub(super) fn capitals(text: &[char]) -> Option<Match> {
    let capital = |c: char| c.is_ascii_uppercase();
    if ["c++", "c#", "f#"].into_iter().any(|name| begins_with(text, name)) {
        return Match::whole(if at(text, 1) == '+' { 3 } else { 2 });
    }
    let mut length = run(text, 0, capital);
    if length > 0 && at(text, length) == '$' {
        return Match::whole(length + 1);
    }
    let first = length;
    while length > 0 && matches!(at(text, length), '&' | '+') && run(text, length + 1, capital) > 0 {
        length += 1 + run(text, length + 1, capital);
    }
    if length > first { Match::whole(length) } else { None }
}

/// A word with its full stop, where a comma, semicolon or colon says that no sentence ends.
pub(super) fn before_pause(text: &[char]) -> Option<Match> {
    let lengths = [word_length(text), joined_length(text), hyphenated_length(text)];
    let pauses = |&length: &usize| {
        length > 0 && at(text, length) == '.' && matches!(at(text, length + 1), ',' | ';' | ':')
    };
    let length = lengths.into_iter().filter(pauses).max()?;
    Match::before(length + 1, 1)
}
