//! Runs of marks, and faces made of them.

use super::numbers::unbroken;
use super::{Match, at, run};

/// A face, or a run of one mark that is one token.
pub(super) fn marks(text: &[char]) -> Option<Match> {
    let face = front(text).max(sideways(text));
    if face > 0 {
        return Match::written(face, unbroken(&text[..face]));
    }
    let first = at(text, 0);
    let same = run(text, 0, |c| c == first);
    match first {
        '?' | '!' => Match::whole(run(text, 0, |c| matches!(c, '?' | '!'))),
        '*' | '#' | '@' | '_' => Match::whole(same),
        '<' | '>' if same > 1 => Match::whole(2),
        // Two to four are one dash, more are a line.
        '-' if (2..=4).contains(&same) => Match::written(same, "--"),
        '-' if same > 4 => Match::whole(same),
        // An ellipsis may have four points.
        '.' if same > 2 => Match::written(same.min(4), "..."),
        // Escaped.
        '\\' if at(text, 1) == '*' => Match::whole(2),
        _ => None,
    }
}

/// The length of a face seen from the side: `:-)`.
fn sideways(text: &[char]) -> usize {
    let brow = usize::from(matches!(at(text, 0), '<' | '>'));
    if !matches!(at(text, brow), ':' | ';' | '=') {
        return 0;
    }
    let nose = usize::from(matches!(at(text, brow + 1), '-' | 'o' | '*' | '\''));
    let mouth = matches!(
        at(text, brow + 1 + nose),
        '(' | ')' | 'D' | 'd' | 'P' | 'p' | 'O' | '@' | '\\' | '{' | '|' | '[' | ']'
    );
    let length = brow + nose + 2;
    if mouth && !at(text, length).is_alphanumeric() { length } else { 0 }
}

/// The length of a face seen from the front: `^_^`, or `(-.-)`, `(^^)` and their like in brackets.
fn front(text: &[char]) -> usize {
    let eye = |index: usize| matches!(at(text, index), '^' | '-' | '=' | '~' | '<' | '>' | '\'' | 'x');
    if at(text, 0) == '(' {
        let close = if at(text, 3) == ')' { 3 } else { 4 };
        let nose = match at(text, 2) {
            '-' => at(text, 1) != '-' && at(text, 3) != '-',
            c => matches!(c, '_' | '.'),
        };
        let found = eye(1) && eye(close - 1) && at(text, close) == ')' && (close == 3 || nose);
        return if found { close + 1 } else { 0 };
    }
    if eye(0) && at(text, 1) == '_' && eye(2) { 3 } else { 0 }
}
