//! The nouns of the worlds, and the drawings behind them.
//!
//! A noun is its index in a world's list; the order is part of the data (seeds mean it).

mod v0;
mod v1;

pub use v0::NOUNS;

/// One noun: how it is written and which icon shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noun {
    /// The singular, lower case, one or two words.
    pub one: &'static str,
    /// The plural, lower case.
    pub many: &'static str,
    /// The icon's name, the same in both icon sets.
    pub icon: &'static str,
}

impl Noun {
    /// The singular with its article: "a car", "an owl".
    pub(super) fn with_article(self) -> String {
        // By sound, where the first letter misleads.
        let vowel = match self.one {
            "ufo" | "unicorn" => false,
            "hourglass" => true,
            one => one.starts_with(['a', 'e', 'i', 'o', 'u']),
        };
        format!("{} {}", if vowel { "an" } else { "a" }, self.one)
    }

    /// Singular or plural.
    pub(super) fn counted(self, count: usize) -> &'static str {
        if count == 1 { self.one } else { self.many }
    }

    /// Whether two nouns have a word in common, as "hat" and "sun hat" have.
    pub(super) fn resembles(self, other: Self) -> bool {
        self.one.split(' ').any(|word| other.one.split(' ').any(|another| word == another))
    }
}

const fn noun(one: &'static str, many: &'static str, icon: &'static str) -> Noun {
    Noun { one, many, icon }
}

/// The nouns of the larger world: those of the smaller one, then the others.
pub static NOUNS_V1: [Noun; 360] = {
    let mut all = [NOUNS[0]; 360];
    let mut i = 0;
    while i < all.len() {
        all[i] = if i < NOUNS.len() { NOUNS[i] } else { v1::ADDED[i - NOUNS.len()] };
        i += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn nouns_and_icons_are_unique_and_plain_lower_case_words() {
        let plain =
            |text: &str| text.split(' ').all(|w| !w.is_empty() && w.chars().all(|c| c.is_ascii_lowercase()));
        assert!(NOUNS_V1.iter().all(|noun| plain(noun.one) && plain(noun.many)));
        let ones: HashSet<_> = NOUNS_V1.iter().map(|noun| noun.one).collect();
        let many: HashSet<_> = NOUNS_V1.iter().map(|noun| noun.many).collect();
        let icons: HashSet<_> = NOUNS_V1.iter().map(|noun| noun.icon).collect();
        assert_eq!([ones.len(), many.len(), icons.len()], [NOUNS_V1.len(); 3]);
        assert_eq!(NOUNS_V1[..NOUNS.len()], NOUNS);
    }

    #[test]
    fn articles_follow_the_sound() {
        let article = |one| NOUNS_V1.iter().find(|noun| noun.one == one).unwrap().with_article();
        assert_eq!(article("owl"), "an owl");
        assert_eq!(article("unicorn"), "a unicorn");
        assert_eq!(article("hourglass"), "an hourglass");
        assert_eq!(article("juice box"), "a juice box");
    }

    #[test]
    fn a_hat_resembles_a_sun_hat_and_no_boat() {
        let find = |one| *NOUNS_V1.iter().find(|noun| noun.one == one).unwrap();
        assert!(find("hat").resembles(find("sun hat")));
        assert!(!find("hat").resembles(find("boat")));
    }
}
