//! The cleaning of captions and questions that BLIP's own data loaders do before tokenising.
//!
//! transformers does none of it; which task cleans what is the task's business.

/// Words kept by [`pre_question`].
const QUESTION_WORDS: usize = 50;

/// A caption as BLIP's loaders clean it: lower case, the characters `.!"()*#:;~` to spaces, runs of
/// white space to one space, at most `max_words` words (30 in pre-training and on COCO and Flickr,
/// 40 for NLVR2 and video).
///
/// A single tab or line break inside the text survives, as in the reference.
pub fn pre_caption(text: &str, max_words: usize) -> String {
    let spaced: Vec<char> =
        text.to_lowercase().chars().map(|c| if is_cleaned(c) { ' ' } else { c }).collect();
    let mut collapsed = String::with_capacity(spaced.len());
    for run in spaced.chunk_by(|a, b| is_space(*a) && is_space(*b)) {
        match run {
            [first, _, ..] if is_space(*first) => collapsed.push(' '),
            run => collapsed.extend(run),
        }
    }
    first_words(collapsed.trim_end_matches('\n').trim_matches(' '), max_words)
}

/// A question as BLIP's loaders clean it: lower case, the characters `.!"()*#:;~` deleted, trailing
/// spaces stripped, at most 50 words. White space inside is left as it is.
pub fn pre_question(text: &str) -> String {
    let kept: String = text.to_lowercase().chars().filter(|c| !is_cleaned(*c)).collect();
    first_words(kept.trim_end_matches(' '), QUESTION_WORDS)
}

fn is_cleaned(c: char) -> bool {
    matches!(c, '.' | '!' | '"' | '(' | ')' | '*' | '#' | ':' | ';' | '~')
}

/// What Python's `\s` matches: Unicode's white space and four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// Words are what single spaces part, so that two spaces enclose an empty word.
fn first_words(text: &str, count: usize) -> String {
    text.split(' ').take(count).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_equals_the_vectors_of_the_reference() {
        for (text, caption, question) in [
            (
                "A man, (riding) a \"horse\"... at 5:30pm!",
                "a man, riding a horse at 5 30pm",
                "a man, riding a horse at 530pm",
            ),
            ("A.B.C  D", "a b c d", "abc  d"),
            ("x \n", "x", "x \n"),
            ("", "", ""),
            ("...", "", ""),
            ("what's up, doc? - a/b", "what's up, doc? - a/b", "what's up, doc? - a/b"),
            ("one\ttwo \t three\n", "one\ttwo three", "one\ttwo \t three\n"),
        ] {
            assert_eq!(pre_caption(text, 50), caption, "caption of {text:?}");
            assert_eq!(pre_question(text), question, "question of {text:?}");
        }
    }

    #[test]
    fn words_beyond_the_limit_are_dropped() {
        assert_eq!(pre_caption("one two three", 2), "one two");
        assert_eq!(pre_caption("one two three", 3), "one two three");
        assert_eq!(pre_caption("one", 0), "");
        let long = vec!["word"; 60].join(" ");
        assert_eq!(pre_question(&long).split(' ').count(), 50);
    }
}
