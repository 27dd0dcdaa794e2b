//! Galleries against plain arithmetic, and files that are not as they should be.

use super::scan::{STRIDE, Scan};
use super::vector::Query;
use super::*;

/// Numbers in −1..1 that depend on the seed only.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn vector(&mut self, width: usize) -> Vec<f32> {
        (0..width).map(|_| self.float()).collect()
    }
}

fn hash(number: usize) -> ContentHash {
    ContentHash::of(&number.to_le_bytes())
}

/// A gallery of random vectors, and those.
fn random(entries: usize, width: usize) -> (Gallery, Vec<Vec<f32>>) {
    let mut numbers = Numbers(7);
    let mut gallery = Gallery::new(width, "model").unwrap();
    let vectors: Vec<_> = (0..entries).map(|_| numbers.vector(width)).collect();
    for (number, vector) in vectors.iter().enumerate() {
        assert!(gallery.add(hash(number), &format!("{number}.png"), vector).unwrap());
    }
    (gallery, vectors)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn scores_are_cosines_at_any_width() {
    for width in [1, 2, 63, 64, 65, 256, 4096] {
        let (gallery, vectors) = random(40, width);
        let query = Numbers(99).vector(width);
        let hits = gallery.search(&query, 40).unwrap();
        assert_eq!(hits.len(), 40);
        for hit in &hits {
            let number: usize = hit.key.trim_end_matches(".png").parse().unwrap();
            let expected = cosine(&query, &vectors[number]);
            // Half a code of each of both sides, added up at random.
            assert!((f64::from(hit.score) - expected).abs() < 0.006, "{width}: {} {expected}", hit.score);
        }
        assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
    }
}

#[test]
fn products_are_exact_on_every_instruction_set() {
    let mut numbers = Numbers(3);
    for width in [1usize, 64, 200, 4096] {
        let stride = width.next_multiple_of(STRIDE);
        // The largest values of either sign as well: nothing may saturate.
        let query = match width {
            4096 => vec![1.0; width],
            _ => numbers.vector(width),
        };
        let query = Query::of(&query, stride).unwrap();
        let rows = 9;
        let mut codes: Vec<u8> = (0..rows * stride).map(|_| numbers.next() as u8).collect();
        codes[..stride].fill(127);
        codes[stride..2 * stride].fill(0x80);
        let sums: Vec<i32> =
            codes.chunks(stride).map(|row| row.iter().map(|code| i32::from(*code as i8)).sum()).collect();
        let mut expected = vec![0; rows];
        Scan { query: &query, codes: &codes, sums: &sums, out: &mut expected }.plain();
        #[cfg(feature = "flex")]
        for level in crate::kernels::cpu::isa::Level::available() {
            let mut found = vec![0; rows];
            let scan = Scan { query: &query, codes: &codes, sums: &sums, out: &mut found };
            crate::kernels::cpu::isa::dispatch_at(level, scan);
            assert_eq!(found, expected, "{level:?}, width {width}");
        }
    }
}

#[test]
fn eight_bits_find_what_floats_find() {
    // Pictures of a kind are near each other, as embeddings are; within a kind the order is close.
    let (width, entries, k) = (256, 20_000, 10);
    let mut numbers = Numbers(11);
    let kinds: Vec<_> = (0..200).map(|_| numbers.vector(width)).collect();
    let mut gallery = Gallery::new(width, "model").unwrap();
    let mut vectors = Vec::new();
    for number in 0..entries {
        let noise = numbers.vector(width);
        let vector: Vec<f32> =
            kinds[number % kinds.len()].iter().zip(noise).map(|(kind, noise)| kind + 0.7 * noise).collect();
        gallery.add(hash(number), &number.to_string(), &vector).unwrap();
        vectors.push(vector);
    }
    let (mut same, queries) = (0, 50);
    for kind in &kinds[..queries] {
        let query: Vec<f32> = kind.iter().map(|x| x + 0.5 * numbers.float()).collect();
        let mut order: Vec<usize> = (0..entries).collect();
        let scores: Vec<f64> = vectors.iter().map(|vector| cosine(&query, vector)).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let best: Vec<String> = order[..k].iter().map(usize::to_string).collect();
        same += gallery.search(&query, k).unwrap().iter().filter(|hit| best.contains(&hit.key)).count();
    }
    let recall = same as f64 / (k * queries) as f64;
    eprintln!("recall at {k} of eight bits: {recall:.3}");
    assert!(recall >= 0.95, "recall {recall}");
}

#[test]
fn equal_scores_come_by_hash_whatever_the_order() {
    let forwards: Vec<usize> = (0..50).collect();
    let backwards: Vec<usize> = (0..50).rev().collect();
    let [first, second] = [forwards, backwards].map(|order| {
        let mut gallery = Gallery::new(3, "model").unwrap();
        for number in order {
            gallery.add(hash(number), &number.to_string(), &[1.0, 2.0, 3.0]).unwrap();
        }
        gallery.search(&[1.0, 0.0, 0.0], 7).unwrap()
    });
    assert_eq!(first, second);
    assert!(first.is_sorted_by(|a, b| a.hash < b.hash));
}

#[test]
fn a_content_is_there_once_until_it_is_removed() {
    let (mut gallery, vectors) = random(5, 8);
    assert!(!gallery.add(hash(3), "again", &vectors[0]).unwrap());
    assert_eq!(gallery.key(&hash(3)), Some("3.png"));
    assert!(gallery.remove(&hash(1)) && !gallery.remove(&hash(1)));
    assert_eq!((gallery.len(), gallery.contains(&hash(1))), (4, false));
    for (number, vector) in vectors.iter().enumerate().filter(|(number, _)| *number != 1) {
        // The one that moved into the gap is found as the others are.
        let best = &gallery.search(vector, 1).unwrap()[0];
        assert_eq!((best.hash, best.key.as_str()), (hash(number), format!("{number}.png").as_str()));
    }
    gallery.replace(hash(3), "new", &vectors[1]).unwrap();
    assert_eq!((gallery.len(), gallery.key(&hash(3))), (4, Some("new")));
    assert_eq!(gallery.search(&vectors[1], 1).unwrap()[0].key, "new");
    assert!(gallery.rename(&hash(3), "0.png").unwrap() && !gallery.rename(&hash(1), "x").unwrap());
    assert_eq!(gallery.remove_key("0.png"), 2);
    assert_eq!(gallery.len(), 2);
    assert!(gallery.remove(&hash(2)) && gallery.remove(&hash(4)) && gallery.is_empty());
    assert_eq!(gallery.search(&vectors[0], 3).unwrap(), []);
}

#[test]
fn a_search_can_be_among_some() {
    let (gallery, vectors) = random(100, 16);
    let even = |entry: Entry<'_>| entry.key.trim_end_matches(".png").parse::<usize>().unwrap() % 2 == 0;
    let some = gallery.search_among(&vectors[1], 10, &mut { even }).unwrap();
    let expected: Vec<_> = gallery.search(&vectors[1], 100).unwrap();
    let expected: Vec<_> =
        expected.into_iter().filter(|hit| even(Entry { hash: hit.hash, key: &hit.key })).take(10).collect();
    assert_eq!(some, expected);
    assert_eq!(gallery.search(&vectors[1], 0).unwrap(), []);
}

#[test]
fn what_has_no_direction_is_refused() {
    let mut gallery = Gallery::new(2, "model").unwrap();
    let refused: [&[f32]; 5] = [&[0.0, 0.0], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0], &[1.0], &[1.0; 3]];
    for vector in refused {
        assert_eq!(gallery.add(hash(0), "a", vector).unwrap_err().code(), "bad-option");
        assert_eq!(gallery.search(vector, 1).unwrap_err().code(), "bad-option");
    }
    let long = "k".repeat(LONGEST_KEY + 1);
    assert_eq!(gallery.add(hash(0), &long, &[1.0, 1.0]).unwrap_err().code(), "bad-option");
    assert_eq!(gallery.replace(hash(0), &long, &[1.0, 1.0]).unwrap_err().code(), "bad-option");
    assert!(gallery.is_empty());
    for width in [0, 4097, usize::MAX] {
        assert_eq!(Gallery::new(width, "model").unwrap_err().code(), "bad-option");
    }
    // Only the direction counts, at any length that a float has.
    gallery.add(hash(0), "a", &[f32::MAX, -f32::MAX]).unwrap();
    let score = gallery.search(&[1e-40, -1e-40], 1).unwrap()[0].score;
    assert!((score - 1.0).abs() < 1e-3, "{score}");
}

#[test]
fn hashes_are_those_everybody_computes() {
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let hash = ContentHash::of(b"abc");
    assert_eq!(hash.to_string(), text);
    assert_eq!(text.to_uppercase().parse::<ContentHash>().unwrap(), hash);
    for wrong in ["", &text[1..], &format!("{text}0"), &text.replace('b', "g"), &"é".repeat(32)] {
        assert!(wrong.parse::<ContentHash>().is_err(), "{wrong}");
    }
}

#[test]
fn a_file_holds_everything_and_does_not_tell_the_order() {
    let (mut gallery, vectors) = random(30, 70);
    let bytes = gallery.to_bytes();
    let again = Gallery::from_bytes(&bytes, Some("model")).unwrap();
    assert_eq!(again.to_bytes(), bytes);
    assert_eq!(again.search(&vectors[4], 30).unwrap(), gallery.search(&vectors[4], 30).unwrap());
    // Taken out and put back, it stands elsewhere.
    let record = gallery.record(&hash(2)).unwrap();
    assert!(gallery.remove(&hash(2)) && gallery.record(&hash(2)).is_none());
    let record = Record::from_bytes(&record.to_bytes()).unwrap();
    gallery.restore(hash(2), "2.png", &record).unwrap();
    assert_eq!(gallery.to_bytes(), bytes);
    assert!(Gallery::from_bytes(&Gallery::new(70, "").unwrap().to_bytes(), None).unwrap().is_empty());
}

#[test]
fn a_file_of_another_model_version_or_kind_is_refused() {
    let bytes = random(3, 4).0.to_bytes();
    let error = Gallery::from_bytes(&bytes, Some("other")).unwrap_err();
    assert_eq!(error.code(), "bad-option");
    assert!(error.message().contains("`model`") && error.message().contains("`other`"), "{error}");
    let mut newer = bytes.clone();
    newer[8] = 2;
    assert_eq!(Gallery::from_bytes(&newer, None).unwrap_err().code(), "bad-option");
    for other in [&b""[..], b"blip", b"\x89PNG\r\n\x1a\n and so on"] {
        assert_eq!(Gallery::from_bytes(other, None).unwrap_err().code(), "bad-option");
    }
}

#[test]
fn any_damage_to_a_file_is_an_error() {
    let bytes = random(5, 9).0.to_bytes();
    for end in 12..bytes.len() {
        assert_eq!(Gallery::from_bytes(&bytes[..end], None).unwrap_err().code(), "integrity", "{end}");
    }
    let mut numbers = Numbers(5);
    for _ in 0..2000 {
        let mut damaged = bytes.clone();
        let at = numbers.next() as usize % bytes.len();
        damaged[at] ^= 1 << (numbers.next() % 8);
        Gallery::from_bytes(&damaged, None).unwrap_err();
    }
}

#[test]
fn a_forged_file_neither_panics_nor_reserves_what_it_has_not() {
    let bytes = random(5, 9).0.to_bytes();
    let mut numbers = Numbers(6);
    let mut read = 0;
    for round in 0..20_000 {
        let mut forged = bytes[..bytes.len() - 32].to_vec();
        if round % 2 == 0 {
            // A field of the header, or a key's length, of any size.
            let at = [12, 16, 20, 24 + 5 + 36][round / 2 % 4];
            let number = numbers.next() as u32 >> (numbers.next() % 32);
            forged[at..at + 4].copy_from_slice(&number.to_le_bytes());
        } else {
            for _ in 0..3 {
                let at = 12 + numbers.next() as usize % (forged.len() - 12);
                forged[at] = numbers.next() as u8;
            }
            forged.truncate(forged.len() - numbers.next() as usize % 3);
        }
        let digest = ContentHash::of(&forged);
        forged.extend_from_slice(&digest.0);
        if let Ok(gallery) = Gallery::from_bytes(&forged, None) {
            gallery.search(&vec![1.0; gallery.width()], 3).unwrap();
            assert_eq!(gallery.to_bytes(), forged);
            read += 1;
        }
    }
    // Codes and keys may be anything.
    assert!(read > 100, "{read}");
}
