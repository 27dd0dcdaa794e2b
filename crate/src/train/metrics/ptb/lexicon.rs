//! Words that are exceptions.

/// Abbreviations that keep their full stop, whatever their case, and stand before something.
const LEADING_ABBREVIATIONS: &[&str] = &[
    "adj", "adm", "adv", "alex", "assoc", "asst", "atty", "ave", "brig", "capt", "cf", "cie", "cmdr", "col",
    "comdr", "cpl", "dept", "det", "dr", "drs", "elec", "ens", "ft", "gen", "gov", "govs", "hon", "insp",
    "invt", "jos", "lieut", "lt", "maj", "messrs", "mfg", "mlle", "mme", "mr", "mrs", "ms", "msgr", "mt",
    "mtg", "natl", "pfc", "ph", "pres", "prof", "profs", "pvt", "rep", "reps", "rev", "sen", "sens", "sfc",
    "sgt", "spc", "st", "ste",
];

/// Abbreviations that keep their full stop, whatever their case, and may end a sentence.
const ABBREVIATIONS: &[&str] = &[
    "al", "ala", "apr", "ariz", "assn", "aug", "bhd", "bldg", "blvd", "bros", "calif", "co", "colo", "conn",
    "corp", "cos", "ct", "dak", "dec", "esq", "est", "etc", "ext", "feb", "fla", "fri", "ga", "inc", "ind",
    "intl", "jan", "jr", "jul", "jun", "kan", "kans", "ky", "ltd", "mar", "md", "mich", "minn", "mo", "mon",
    "mont", "neb", "nev", "nov", "oct", "okla", "penn", "plc", "ppte", "ppty", "pte", "ptes", "pty", "ptys",
    "rd", "rt", "sep", "sept", "seq", "sq", "sr", "supt", "sys", "tel", "tenn", "thu", "thurs", "treas",
    "tue", "tues", "univ", "va", "vs", "vt", "wed", "wis", "wisc", "wm", "wyo",
];

/// Abbreviations that are words unless they begin with a capital.
const CAPITALISED_ABBREVIATIONS: &[&str] =
    &["ark", "az", "del", "ill", "la", "mass", "miss", "ore", "pa", "tex", "wash"];

/// Abbreviations that keep their full stop before a number.
const NUMBERED_ABBREVIATIONS: &[&str] = &["art", "ca", "fig", "figs", "no", "nos", "op", "pp", "prop"];

/// Words that begin a sentence rather than follow an initial: before them a full stop after one letter ends
/// a sentence.
const SENTENCE_STARTS: &[&str] = &[
    "A",
    "About",
    "According",
    "Additionally",
    "After",
    "An",
    "As",
    "At",
    "But",
    "Earlier",
    "He",
    "Her",
    "Here",
    "However",
    "If",
    "In",
    "It",
    "Last",
    "Many",
    "More",
    "Mr.",
    "Ms.",
    "Now",
    "Once",
    "One",
    "Other",
    "Our",
    "She",
    "Since",
    "So",
    "Some",
    "Such",
    "That",
    "The",
    "Their",
    "Then",
    "There",
    "These",
    "They",
    "This",
    "We",
    "What",
    "When",
    "While",
    "Yet",
    "You",
];

/// Words written as one that are two, and where they part.
const ASSIMILATIONS: &[(&str, usize)] =
    &[("cannot", 3), ("gonna", 3), ("gotta", 3), ("lemme", 3), ("gimme", 3), ("wanna", 3)];

/// Words with an apostrophe in or around them that stay whole; longer ones first.
const APOSTROPHE_WORDS: &[&str] = &[
    "nor'easter",
    "somethin'",
    "s'mores",
    "dunkin'",
    "c'mon",
    "ma'am",
    "ev'ry",
    "'cause",
    "c'est",
    "'till",
    "o'o",
    "e'er",
    "li'l",
    "ol'",
    "'til",
    "'em",
    "'n'",
    "'n",
];

/// Abbreviations that are words when their other letters are capitals, too.
const SMALL_ABBREVIATIONS: &[&str] = &["mfg", "mtg", "ppte", "ppty", "pte", "ptes", "pty", "ptys"];

/// What an abbreviation that keeps its full stop may stand before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Abbreviation {
    /// More of the sentence.
    Leading,
    /// A number.
    Numbered,
    /// Anything: it may end the sentence.
    Final,
}

/// The kind of abbreviation that a word and its full stop are.
pub(super) fn abbreviation(word: &str) -> Option<Abbreviation> {
    let lower = word.to_lowercase();
    if word[1..] != lower[1..] && SMALL_ABBREVIATIONS.contains(&lower.as_str()) {
        return None;
    }
    let listed = |list: &[&str]| list.contains(&lower.as_str());
    if listed(LEADING_ABBREVIATIONS) {
        Some(Abbreviation::Leading)
    } else if listed(ABBREVIATIONS)
        || word.starts_with(char::is_uppercase) && listed(CAPITALISED_ABBREVIATIONS)
    {
        Some(Abbreviation::Final)
    } else if listed(NUMBERED_ABBREVIATIONS) {
        Some(Abbreviation::Numbered)
    } else {
        None
    }
}

/// Whether a word begins a sentence.
pub(super) fn starts_sentence(word: &str) -> bool {
    let same = |start: &&str| start.eq_ignore_ascii_case(word);
    word.starts_with(char::is_uppercase) && SENTENCE_STARTS.iter().any(same)
}

/// Where a word parts in two, and how long it is.
pub(super) fn assimilation(starts_with: impl Fn(&str) -> bool) -> Option<(usize, usize)> {
    let found = ASSIMILATIONS.iter().find(|(word, _)| starts_with(word));
    found.map(|&(word, part)| (part, word.len()))
}

/// The length of a word with an apostrophe that stays whole.
pub(super) fn apostrophe_word(starts_with: impl Fn(&str) -> bool) -> Option<usize> {
    APOSTROPHE_WORDS.iter().find(|word| starts_with(word)).map(|word| word.len())
}
