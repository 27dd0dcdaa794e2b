//! Numbers: with signs, stops, commas and colons; fractions; telephone numbers.

use super::super::characters::{is_digit, is_space};
use super::{Match, at, run};

/// Between the parts of what is one number: a space, which becomes a no-break space, or a hyphen.
fn is_gap(c: char) -> bool {
    c == '-' || c != '\n' && is_space(c)
}

/// The characters with no-break spaces, and brackets as they are always written.
pub(super) fn unbroken(text: &[char]) -> String {
    let mut written = String::new();
    for &c in text {
        match c {
            '(' => written.push_str("-lrb-"),
            ')' => written.push_str("-rrb-"),
            _ if is_space(c) => written.push('\u{a0}'),
            _ => written.push(c),
        }
    }
    written
}

/// `5`, `-5.5`, `1,000`, `5:30`, `.5`.
pub(super) fn number(text: &[char]) -> Option<Match> {
    let sign = usize::from(matches!(at(text, 0), '+' | '-'));
    let mut length = sign + run(text, sign, is_digit);
    while matches!(at(text, length), '.' | ',' | ':' | '\u{2044}') && is_digit(at(text, length + 1)) {
        length += 1 + run(text, length + 1, is_digit);
    }
    if length > sign { Match::whole(length) } else { None }
}

/// `3/4`, `1 3/4`, `1-3/4`.
pub(super) fn fraction(text: &[char]) -> Option<Match> {
    let simple = |from: usize| {
        let digits = run(text, from, is_digit);
        let slash = from + digits + usize::from(at(text, from + digits) == '\\');
        let below = run(text, slash + 1, is_digit).min(4);
        let found = (1..=4).contains(&digits) && at(text, slash) == '/' && below > 0;
        if found { slash + 1 + below } else { 0 }
    };
    let whole = run(text, 0, is_digit);
    let mixed = if (1..=4).contains(&whole) && is_gap(at(text, whole)) { simple(whole + 1) } else { 0 };
    match mixed.max(simple(0)) {
        0 => None,
        length => Match::written(length, unbroken(&text[..length])),
    }
}

/// `25/12/2010`, `25-12-10`.
pub(super) fn date(text: &[char]) -> Option<Match> {
    let digits = |from: usize| run(text, from, is_digit);
    let mut length = 0;
    for _ in 0..2 {
        let part = digits(length);
        if !(1..=2).contains(&part) || !matches!(at(text, length + part), '/' | '-') {
            return None;
        }
        length += part + 1;
    }
    match digits(length) {
        0 | 1 => None,
        year => Match::whole(length + year.min(4)),
    }
}

/// Superscripts or subscripts.
pub(super) fn small(text: &[char]) -> Option<Match> {
    let upper = run(text, 0, |c| matches!(c, '¹' | '²' | '³' | '\u{2070}'..='\u{207b}'));
    let lower = run(text, 0, |c| matches!(c, '\u{2080}'..='\u{208b}'));
    Match::whole(upper.max(lower))
}

/// A telephone number, and what looks like one: `(555) 123-4567`, `55 123 456`.
pub(super) fn telephone(text: &[char]) -> Option<Match> {
    // An area code in brackets, or one or two groups with a gap after each.
    let mut starts = Vec::new();
    let area = run(text, 1, is_digit);
    if at(text, 0) == '(' && (2..=3).contains(&area) && at(text, 1 + area) == ')' {
        starts.push(2 + area);
        starts.push(2 + area + usize::from(is_gap(at(text, 2 + area))));
    }
    let mut from = run(text, 0, |c| c == '+').min(2);
    for _ in 0..2 {
        let digits = run(text, from, is_digit);
        if !(2..=4).contains(&digits) || !is_gap(at(text, from + digits)) {
            break;
        }
        from += digits + 1;
        starts.push(from);
    }
    let length = starts.into_iter().map(|start| subscriber(text, start)).max()?;
    if length == 0 { None } else { Match::written(length, unbroken(&text[..length])) }
}

/// Where a subscriber's number ends that begins at `start`: three or four digits, a gap perhaps, three to
/// five digits. 0 if there is none.
fn subscriber(text: &[char], start: usize) -> usize {
    let digits = run(text, start, is_digit);
    if digits >= 6 {
        return start + digits.min(9);
    }
    let after = run(text, start + digits + 1, is_digit);
    let found = (3..=4).contains(&digits) && is_gap(at(text, start + digits)) && after >= 3;
    if found { start + digits + 1 + after.min(5) } else { 0 }
}
