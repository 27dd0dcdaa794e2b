//! The rules of the scanner. Each looks at the text from the place that has been reached, and says how
//! far it matches and how much of that is the token.

mod apostrophes;
mod marks;
mod numbers;
mod stops;
mod web;
mod words;

use super::characters::{is_apostrophe, is_space};

/// What a rule found.
#[derive(Debug)]
pub(super) struct Match {
    /// How many characters it looked at; the rule that looks furthest wins.
    pub reach: usize,
    /// How many of them the token is made of.
    pub take: usize,
    /// What the token is, where it is not those characters.
    pub text: Option<String>,
}

/// A rule.
pub(super) type Rule = fn(&[char]) -> Option<Match>;

/// Every rule; of those that look equally far, the first wins.
pub(super) const RULES: [Rule; 34] = [
    space,
    words::assimilation,
    web::tag,
    web::entity,
    apostrophes::twas,
    apostrophes::auxiliary,
    apostrophes::negation,
    apostrophes::before_negation,
    apostrophes::before_auxiliary,
    words::word,
    stops::initials,
    stops::abbreviation,
    words::joined,
    words::hyphenated,
    words::slashed,
    words::capitals,
    words::before_pause,
    apostrophes::whole,
    apostrophes::elision,
    apostrophes::between_vowels,
    apostrophes::name,
    apostrophes::decade,
    apostrophes::opening,
    apostrophes::two_quotes,
    numbers::number,
    numbers::fraction,
    numbers::date,
    numbers::small,
    numbers::telephone,
    web::address,
    web::mail,
    web::file,
    web::name_or_topic,
    marks::marks,
];

impl Match {
    /// The first `length` characters are the token, if there are any.
    fn whole(length: usize) -> Option<Self> {
        Self::before(length, 0)
    }

    /// The first `take` characters are the token, if there are any, for what the next `context` are.
    fn before(take: usize, context: usize) -> Option<Self> {
        (take > 0).then_some(Self { reach: take + context, take, text: None })
    }

    /// The first `length` characters become `text`.
    fn written(length: usize, text: impl Into<String>) -> Option<Self> {
        Some(Self { reach: length, take: length, text: Some(text.into()) })
    }
}

/// The character at `index`; beyond the end, the end of the line.
fn at(text: &[char], index: usize) -> char {
    text.get(index).copied().unwrap_or('\n')
}

/// How many characters of a class there are from `from` on.
fn run(text: &[char], from: usize, class: impl Fn(char) -> bool) -> usize {
    text.iter().skip(from).take_while(|&&c| class(c)).count()
}

/// Whether the text begins with a word, in any case, its apostrophes straight or curved.
fn begins_with(text: &[char], word: &str) -> bool {
    let same = |(index, c): (usize, char)| {
        let found = at(text, index);
        found.to_ascii_lowercase() == c || c == '\'' && is_apostrophe(found)
    };
    word.chars().enumerate().all(same)
}

/// White space: no token.
fn space(text: &[char]) -> Option<Match> {
    match run(text, 0, is_space) {
        0 => None,
        length => Match::written(length, ""),
    }
}
