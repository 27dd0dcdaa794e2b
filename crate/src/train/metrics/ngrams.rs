//! Counts of the n-grams of captions, up to four words.

use std::collections::HashMap;

/// The longest n-grams.
pub(super) const LONGEST: usize = 4;

/// Numbers for words and for n-grams, in the order in which they are met.
#[derive(Debug, Default)]
pub(super) struct Ngrams<'a> {
    words: HashMap<&'a str, u32>,
    numbers: HashMap<[u32; LONGEST], u32>,
    orders: Vec<u8>,
}

/// The n-grams of one caption.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// How many words there are.
    pub words: usize,
    /// Numbers of n-grams, ascending, and how often each occurs.
    pub grams: Vec<(u32, u32)>,
}

impl<'a> Ngrams<'a> {
    /// Counts the n-grams of a caption, whose words are what white space parts.
    pub(super) fn count(&mut self, caption: &'a str) -> Counts {
        let mut words = Vec::new();
        for word in caption.split_whitespace() {
            // 0 is the place after the last word of a shorter n-gram.
            let next = self.words.len() as u32 + 1;
            words.push(*self.words.entry(word).or_insert(next));
        }
        let mut met = Vec::new();
        for start in 0..words.len() {
            let mut gram = [0; LONGEST];
            for (order, &word) in words[start..].iter().take(LONGEST).enumerate() {
                gram[order] = word;
                let next = self.orders.len() as u32;
                let number = *self.numbers.entry(gram).or_insert(next);
                if number == next {
                    self.orders.push(order as u8);
                }
                met.push(number);
            }
        }
        met.sort_unstable();
        let grams = met.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as u32)).collect();
        Counts { words: words.len(), grams }
    }

    /// How many words an n-gram has, less one.
    pub(super) fn order(&self, number: u32) -> usize {
        usize::from(self.orders[number as usize])
    }

    /// How many n-grams have been met.
    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }
}

/// The n-grams of `a` that `b` has as well: number, count in `a`, count in `b`.
pub(super) fn common<'c>(a: &'c Counts, b: &'c Counts) -> impl Iterator<Item = (u32, u32, u32)> + 'c {
    let mut others = b.grams.iter().peekable();
    a.grams.iter().filter_map(move |&(number, count)| {
        while others.next_if(|(other, _)| *other < number).is_some() {}
        others.next_if(|(other, _)| *other == number).map(|&(_, other)| (number, count, other))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ngram_up_to_four_words_is_counted() {
        let mut ngrams = Ngrams::default();
        let counts = ngrams.count("a b a b a");
        // a, b; ab, ba; aba, bab; abab, baba.
        assert_eq!((counts.words, counts.grams.len(), ngrams.len()), (5, 8, 8));
        let of_order = |order| {
            counts.grams.iter().filter(|(n, _)| ngrams.order(*n) == order).map(|(_, c)| *c).sum::<u32>()
        };
        assert_eq!([0, 1, 2, 3].map(of_order), [5, 4, 3, 2]);
        assert!(counts.grams.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn what_two_captions_share_is_found() {
        let mut ngrams = Ngrams::default();
        let a = ngrams.count("the cat the dog");
        let b = ngrams.count("a dog and the cat");
        let mut shared: Vec<_> =
            common(&a, &b).map(|(n, in_a, in_b)| (ngrams.order(n), in_a, in_b)).collect();
        shared.sort_unstable();
        assert_eq!(shared, [(0, 1, 1), (0, 1, 1), (0, 2, 1), (1, 1, 1)]);
        assert_eq!(common(&Counts::default(), &a).count(), 0);
    }
}
