//! Classes of characters, and what a character becomes that stands alone.

/// The characters of a caption: a line, entities that stand for plain characters replaced, soft hyphens
/// gone, and nothing above the Basic Multilingual Plane, which the original cannot tokenise.
pub(super) fn prepared(caption: &str) -> Vec<char> {
    let caption =
        caption.replace("&amp;", "&").replace("&AMP;", "&").replace("&apos;", "'").replace("&nbsp;", " ");
    let line = caption.chars().filter(|&c| c != '\u{ad}');
    line.map(|c| if is_space(c) || c > '\u{ffff}' { ' ' } else { c }).collect()
}

/// Whether tokens end here.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || c.is_control() && !matches!(c, '\u{80}' | '\u{85}' | '\u{91}'..='\u{97}')
}

/// A letter of any script, or a mark over one.
pub(super) fn is_letter(c: char) -> bool {
    match c {
        '\0'..='\u{7f}' => c.is_ascii_alphabetic(),
        // Accents that stand for themselves, and those that combine with the letter before.
        '\u{2c2}'..='\u{36f}' => true,
        // Points of Hebrew and Arabic, and what joins letters in the scripts of India.
        '\u{591}'..='\u{5bd}'
        | '\u{5bf}'
        | '\u{5c1}'..='\u{5c2}'
        | '\u{64b}'..='\u{65e}'
        | '\u{93c}'
        | '\u{94d}'
        | '\u{9bc}'
        | '\u{9cd}'
        | '\u{a3c}'
        | '\u{a4d}'
        | '\u{abc}'
        | '\u{acd}'
        | '\u{bcd}'
        | '\u{c4d}'
        | '\u{d4d}'
        | '\u{e47}'..='\u{e4e}' => true,
        // Roman numerals and letters in circles.
        '\u{2160}'..='\u{2bff}' => false,
        _ => c.is_alphabetic(),
    }
}

/// A decimal digit: ours, and those of the larger scripts that have their own.
pub(super) fn is_digit(c: char) -> bool {
    matches!(c,
        '0'..='9' | '\u{660}'..='\u{669}' | '\u{6f0}'..='\u{6f9}' | '\u{966}'..='\u{96f}'
        | '\u{9e6}'..='\u{9ef}' | '\u{e50}'..='\u{e59}' | '\u{ff10}'..='\u{ff19}')
}

/// A letter or a digit.
pub(super) fn is_alphanumeric(c: char) -> bool {
    is_letter(c) || is_digit(c)
}

/// An apostrophe.
pub(super) fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2019}' | '\u{92}')
}

/// An apostrophe, or an opening quote somebody took for one.
pub(super) fn is_loose_apostrophe(c: char) -> bool {
    is_apostrophe(c) || matches!(c, '`' | '\u{2018}' | '\u{201b}' | '\u{91}')
}

/// Symbols that are tokens of their own, first and last of each range; what is in none is dropped.
const SYMBOLS: [(char, char); 39] = [
    ('\u{a1}', '\u{a1}'),
    ('\u{a5}', '\u{a9}'),
    ('\u{ac}', '\u{ac}'),
    ('\u{ae}', '\u{b4}'),
    ('\u{b6}', '\u{b9}'),
    ('\u{bf}', '\u{bf}'),
    ('\u{d7}', '\u{d7}'),
    ('\u{f7}', '\u{f7}'),
    ('\u{37e}', '\u{37e}'),
    ('\u{387}', '\u{387}'),
    ('\u{2016}', '\u{2017}'),
    ('\u{201a}', '\u{201a}'),
    ('\u{201e}', '\u{2023}'),
    ('\u{2030}', '\u{2038}'),
    ('\u{203b}', '\u{203b}'),
    ('\u{203e}', '\u{2042}'),
    ('\u{2044}', '\u{2044}'),
    ('\u{2070}', '\u{2070}'),
    ('\u{2074}', '\u{207e}'),
    ('\u{2080}', '\u{208e}'),
    ('\u{20a4}', '\u{20a4}'),
    ('\u{2100}', '\u{2101}'),
    ('\u{2103}', '\u{2106}'),
    ('\u{2108}', '\u{2109}'),
    ('\u{2114}', '\u{2114}'),
    ('\u{2116}', '\u{2118}'),
    ('\u{211e}', '\u{2123}'),
    ('\u{2140}', '\u{2144}'),
    ('\u{2155}', '\u{215e}'),
    ('\u{2190}', '\u{2bff}'),
    ('\u{3001}', '\u{3002}'),
    ('\u{3012}', '\u{3012}'),
    ('\u{30fb}', '\u{30fb}'),
    ('\u{ff01}', '\u{ff0f}'),
    ('\u{ff1a}', '\u{ff20}'),
    ('\u{ff3b}', '\u{ff40}'),
    ('\u{ff5b}', '\u{ff65}'),
    ('\u{ffe0}', '\u{ffe1}'),
    ('\u{ffe5}', '\u{ffe6}'),
];

/// What a character becomes that belongs to no longer token; none where it disappears.
pub(super) fn symbol(c: char) -> Option<String> {
    let text = match c {
        '(' => "-lrb-",
        ')' => "-rrb-",
        '[' => "-lsb-",
        ']' => "-rsb-",
        '{' => "-lcb-",
        '}' => "-rcb-",
        '¢' => "cents",
        '£' => "#",
        '€' | '¤' | '\u{20a0}' | '\u{80}' => "$",
        '¼' => "1/4",
        '½' => "1/2",
        '¾' => "3/4",
        '⅓' => "1/3",
        '⅔' => "2/3",
        '"' => return None,
        _ if c.is_ascii_graphic() || SYMBOLS.iter().any(|&(first, last)| (first..=last).contains(&c)) => {
            return Some(c.to_lowercase().collect());
        }
        _ => return None,
    };
    Some(text.to_owned())
}
