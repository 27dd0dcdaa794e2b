//! What the web brings: mark-up, entities, addresses, `@names` and `#topics`.

use super::super::characters::{is_alphanumeric, is_letter, is_space};
use super::numbers::unbroken;
use super::{Match, at, begins_with, run};

/// Characters that end an address.
fn ends_address(c: char) -> bool {
    is_space(c) || matches!(c, '"' | '<' | '>' | '|' | '(' | ')')
}

/// A tag, `<b>`; attributes have values in quotes, or none.
pub(super) fn tag(text: &[char]) -> Option<Match> {
    if at(text, 0) != '<' {
        return None;
    }
    let end = if matches!(at(text, 1), '!' | '?') && (at(text, 2).is_ascii_alphabetic() || at(text, 2) == '-')
    {
        run(text, 0, |c| c != '>')
    } else {
        element(text)?
    };
    if at(text, end) == '>' { Match::written(end + 1, unbroken(&text[..=end])) } else { None }
}

/// Where the name and the attributes of an element end.
fn element(text: &[char]) -> Option<usize> {
    let name = |from: usize| {
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.' | '-');
        if at(text, from).is_ascii_alphabetic() { run(text, from, part) } else { 0 }
    };
    let start = if at(text, 1) == '/' { 2 } else { 1 };
    let mut end = start + name(start);
    if end == start {
        return None;
    }
    loop {
        let spaces = run(text, end, is_space);
        let attribute = name(end + spaces);
        if spaces == 0 || attribute == 0 {
            end += spaces;
            return Some(end + usize::from(start == 1 && at(text, end) == '/'));
        }
        end += spaces + attribute;
        let quote = at(text, end + 1);
        if at(text, end) == '=' && matches!(quote, '"' | '\'') {
            end += 3 + run(text, end + 2, |c| c != quote);
        }
    }
}

/// Named entities for marks; numbered ones stay as they are.
pub(super) fn entity(text: &[char]) -> Option<Match> {
    for (name, meaning) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "''"), ("&mdash;", "--"), ("&ndash;", "--")]
    {
        if begins_with(text, name) {
            return Match::written(name.len(), meaning);
        }
    }
    let number = run(text, 2, |c| c.is_ascii_digit());
    if begins_with(text, "&#") && number > 0 && at(text, 2 + number) == ';' {
        Match::whole(number + 3)
    } else {
        None
    }
}

/// An address with a protocol; `www.` and a domain, or any name under the oldest domains, and a path.
pub(super) fn address(text: &[char]) -> Option<Match> {
    // The last character is no mark of a sentence.
    let tail = |from: usize| {
        let mut length = run(text, from, |c| !ends_address(c));
        while length > 0 && matches!(at(text, from + length - 1), '.' | '!' | '?' | '{' | '}' | ',' | '-') {
            length -= 1;
        }
        if length > 1 { length } else { 0 }
    };
    for protocol in ["http://", "https://"] {
        if begins_with(text, protocol) {
            let length = tail(protocol.len());
            return if length > 0 { Match::whole(protocol.len() + length) } else { None };
        }
    }
    let host = host(text)?;
    let path = if at(text, host) == '/' { tail(host + 1) } else { 0 };
    Match::whole(if path > 0 { host + 1 + path } else { host })
}

/// The length of a host's name.
fn host(text: &[char]) -> Option<usize> {
    let www = begins_with(text, "www.");
    let label = |c: char| {
        // What the original leaves out of names without `www.` is a range of ASCII, digits and capitals in it.
        let plain = !matches!(c, '`' | '\'' | '$' | ','..='_');
        !ends_address(c) && !matches!(c, '.' | '!' | '?' | '{' | '}' | ',') && (www || plain)
    };
    let (mut end, mut found) = (0, None);
    while run(text, end, label) > 0 {
        end += run(text, end, label);
        if at(text, end) != '.' {
            break;
        }
        end += 1;
        let letters = run(text, end, |c| c.is_ascii_alphabetic());
        let oldest = ["com", "net", "org", "edu"].into_iter().any(|name| begins_with(&text[end..], name));
        if www && end > 4 && letters > 1 {
            found = Some(end + letters.min(4));
        } else if oldest && !www {
            found = Some(end + 3);
        }
    }
    found
}

/// An e-mail address, perhaps in angle brackets.
pub(super) fn mail(text: &[char]) -> Option<Match> {
    let open = usize::from(at(text, 0) == '<');
    if !at(text, open).is_ascii_alphanumeric() {
        return None;
    }
    let inside = |c: char| !ends_address(c) && !matches!(c, '{' | '}');
    let label = |from: usize| run(text, from, |c| inside(c) && c != '.');
    // Labels with single stops between them, after any of the signs.
    let domain = |sign: usize| {
        let mut end = sign + 1 + label(sign + 1);
        while end > sign + 1 && at(text, end) == '.' && label(end + 1) > 0 {
            end += 1 + label(end + 1);
        }
        (end > sign + 1).then_some(end)
    };
    let signs = (open + 1..open + run(text, open, inside)).filter(|&index| at(text, index) == '@');
    let end = signs.filter_map(domain).max()?;
    Match::whole(end + usize::from(at(text, end) == '>'))
}

/// Endings of files.
const FILES: [&str; 35] = [
    "bat", "bmp", "c", "cgi", "class", "cpp", "dll", "doc", "docx", "exe", "gif", "gz", "h", "htm", "html",
    "jar", "java", "jpeg", "jpg", "mov", "mp3", "pdf", "php", "pl", "png", "ppt", "ps", "py", "sql", "tar",
    "txt", "wav", "x", "xml", "zip",
];

/// The name of a file, before white space or a mark that ends a phrase.
pub(super) fn file(text: &[char]) -> Option<Match> {
    let (mut end, mut found) = (run(text, 0, is_alphanumeric), None);
    while end > 0 && at(text, end) == '.' {
        let after = run(text, end + 1, is_alphanumeric);
        let ending: String = text.iter().skip(end + 1).take(after).collect();
        if after == 0 {
            break;
        }
        end += 1 + after;
        let ends = is_space(at(text, end)) || matches!(at(text, end), '.' | ',' | '?' | '!');
        if ends && FILES.contains(&ending.to_lowercase().as_str()) {
            found = Match::before(end, 1);
        }
    }
    found
}

/// `@name`, `#topic`.
pub(super) fn name_or_topic(text: &[char]) -> Option<Match> {
    let name = run(text, 1, |c| c.is_ascii_alphanumeric() || c == '_');
    let topic = run(text, 1, is_letter);
    match at(text, 0) {
        '@' if name > 0 && !at(text, 1).is_ascii_digit() => Match::whole(1 + name),
        '#' if topic > 0 => Match::whole(1 + topic),
        _ => None,
    }
}
