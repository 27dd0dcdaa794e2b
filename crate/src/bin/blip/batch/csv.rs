//! Comma-separated values (RFC 4180): as much as writing tables and finding where one stopped needs.

/// One record with its line break.
pub(crate) fn record(fields: &[String]) -> String {
    let quoted: Vec<String> = fields.iter().map(|field| quote(field)).collect();
    quoted.join(",") + "\n"
}

fn quote(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field.to_owned()
}

/// The whole records of a text: the first field of each, and where the record begins and ends. What
/// follows the last line break is no record.
pub(crate) fn first_fields(text: &str) -> Vec<(String, std::ops::Range<usize>)> {
    let mut records = Vec::new();
    let (mut begin, mut quoted, mut in_first) = (0, false, true);
    let mut first = String::new();
    for (at, character) in text.char_indices() {
        match character {
            '"' => {
                // The second of a pair inside quotes stands for the character.
                if in_first && !quoted && at > begin && text[..at].ends_with('"') {
                    first.push('"');
                }
                quoted = !quoted;
            }
            ',' if !quoted => in_first = false,
            '\n' if !quoted => {
                let end = at + 1;
                records.push((std::mem::take(&mut first).trim_end_matches('\r').to_owned(), begin..end));
                (begin, in_first) = (end, true);
            }
            other if in_first => first.push(other),
            _ => {}
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found_again() {
        let names = ["plain.png", "with, comma.png", "with \"quotes\".png", "two\nlines.png", ""];
        let mut text = String::new();
        for name in names {
            text += &record(&[name.to_owned(), "a \"dog\", running\nfast".to_owned()]);
        }
        let whole = text.len();
        text += "cut off, bef";
        let records = first_fields(&text);
        assert_eq!(records.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), names);
        assert_eq!(records[0].1, 0..record(&["plain.png".into(), "a \"dog\", running\nfast".into()]).len());
        assert_eq!(records[4].1.end, whole);
    }

    #[test]
    fn quotes_are_only_where_they_are_needed() {
        assert_eq!(record(&["a b".into(), "c,d".into(), "e\"f".into()]), "a b,\"c,d\",\"e\"\"f\"\n");
    }
}
