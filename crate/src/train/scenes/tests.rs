//! The promises of the world as a whole; grammar and split have their own tests beside them.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::*;

const SEED: u64 = 7;

fn plans(split: Split, count: u64) -> impl Iterator<Item = Plan> {
    (0..count).map(move |index| Plan::new(split, SEED, index))
}

fn world() -> Option<SceneWorld> {
    let Some(icons) = std::env::var_os("BLIP_ICONS") else {
        eprintln!("skipped: BLIP_ICONS is not set (icons are installed by `cargo xtask`)");
        return None;
    };
    Some(SceneWorld::load(Path::new(&icons)).unwrap())
}

#[test]
fn no_training_scene_holds_a_held_out_combination() {
    for (index, plan) in plans(Split::Train, 20_000).enumerate() {
        assert!(plan.held_out().is_empty(), "scene {index}: {}", plan.caption());
    }
}

#[test]
fn every_held_out_scene_holds_one_that_its_caption_says() {
    let names: HashSet<String> = knowledge().held_out.into_iter().collect();
    for (index, plan) in plans(Split::HeldOut, 3_000).enumerate() {
        let held_out = plan.held_out();
        assert!(!held_out.is_empty(), "scene {index}: {}", plan.caption());
        assert!(held_out.iter().all(|name| names.contains(name)), "scene {index}: {held_out:?}");
    }
}

#[test]
fn one_two_and_three_objects_have_equal_shares_and_half_have_two_nouns() {
    for split in [Split::Train, Split::HeldOut] {
        let mut shares = [0; 4];
        let (mut several, mut mixed) = (0, 0);
        for plan in plans(split, 3_000) {
            shares[plan.objects.len()] += 1;
            let nouns: HashSet<usize> = plan.objects.iter().map(|object| object.noun).collect();
            assert_eq!(nouns.len(), plan.nouns());
            several += usize::from(plan.objects.len() > 1);
            mixed += usize::from(nouns.len() > 1);
        }
        assert_eq!(shares, [0, 1_000, 1_000, 1_000]);
        assert!(mixed >= 1_500 && mixed * 10 >= several * 8, "{mixed} of {several}");
    }
}

#[test]
fn nouns_and_colours_are_balanced_in_training() {
    let (mut nouns, mut colours) = ([0_usize; 64], [0_usize; 8]);
    for object in plans(Split::Train, 30_000).flat_map(|plan| plan.objects) {
        nouns[object.noun] += 1;
        colours[object.colour] += 1;
    }
    let within = |counts: &[usize], percent: usize| {
        let mean = counts.iter().sum::<usize>() / counts.len();
        counts.iter().all(|&count| count.abs_diff(mean) * 100 <= mean * percent)
    };
    assert!(within(&nouns, 25), "{nouns:?}");
    assert!(within(&colours, 5), "{colours:?}");
}

#[test]
fn captions_use_only_the_listed_words_and_are_short() {
    let words: HashSet<String> = words().into_iter().collect();
    let mut seen = HashSet::new();
    for split in [Split::Train, Split::HeldOut] {
        for plan in plans(split, 10_000) {
            let caption = plan.caption().replace(',', " ,");
            let count = caption.split(' ').inspect(|word| assert!(words.contains(*word), "{word:?}")).count();
            assert!(count <= 13, "{caption}");
            seen.extend(caption.split(' ').map(str::to_owned));
        }
    }
    assert_eq!(seen, words, "every listed word is used");
}

#[test]
fn objects_stay_inside_and_never_overlap() {
    for plan in plans(Split::Train, 10_000).chain(plans(Split::HeldOut, 5_000)) {
        let squares: Vec<Square> = plan.objects.iter().map(|object| object.square).collect();
        for (i, a) in squares.iter().enumerate() {
            let whole = SIZE as i32;
            assert!(a.left >= 0 && a.top >= 0 && a.side * 4 >= whole, "{plan:?}");
            assert!(a.left + a.side <= whole && a.top + a.side <= whole, "{plan:?}");
            for b in &squares[..i] {
                let apart = |p: i32, q: i32| (p - q).abs() >= a.side.max(b.side);
                assert!(apart(a.left, b.left) || apart(a.top, b.top), "{plan:?}");
            }
        }
    }
}

#[test]
fn what_the_caption_says_about_positions_is_true_of_the_squares() {
    for plan in plans(Split::Train, 10_000) {
        let end = |square: Square, relation: Relation| match relation {
            Relation::LeftOf => square.left + square.side,
            Relation::Above => square.top + square.side,
        };
        let squares: Vec<Square> = plan.objects.iter().map(|object| object.square).collect();
        match &plan.meaning {
            Meaning::Alone(_, place) => {
                let third = |start: i32| match 2 * start + squares[0].side {
                    ..=130 => Some(0),
                    170..=214 => Some(1),
                    254.. => Some(2),
                    _ => None,
                };
                assert_eq!(third(squares[0].left), Some(place.column), "{plan:?}");
                assert_eq!(third(squares[0].top), Some(place.row), "{plan:?}");
            }
            Meaning::Many(_) => {}
            Meaning::Related(first, relation, _) => {
                let (first, second) = squares.split_at(first.iter().map(|group| group.count).sum());
                for (a, b) in first.iter().flat_map(|a| second.iter().map(move |b| (*a, *b))) {
                    assert!(end(a, *relation) <= end(b, *relation) - b.side, "{plan:?}");
                }
            }
            Meaning::Row(_) => {
                let ends = squares.windows(2).all(|pair| pair[0].left + pair[0].side <= pair[1].left);
                assert!(ends, "{plan:?}");
            }
        }
        // Two different things on one side are named from left to right.
        if let Meaning::Related(first, _, second) = &plan.meaning {
            let pair = match (first.len(), second.len()) {
                (2, _) => &squares[..2],
                (_, 2) => &squares[1..],
                _ => continue,
            };
            assert!(pair[0].left + pair[0].side <= pair[1].left, "{plan:?}");
        }
    }
}

#[test]
fn plans_depend_on_split_seed_and_index_alone() {
    assert_eq!(Plan::new(Split::Train, 1, 5), Plan::new(Split::Train, 1, 5));
    assert_ne!(Plan::new(Split::Train, 1, 5), Plan::new(Split::Train, 2, 5));
    assert_ne!(Plan::new(Split::Train, 1, 5), Plan::new(Split::Train, 1, 8));
}

#[test]
fn the_first_held_out_captions_never_change() {
    let captions: Vec<String> = plans(Split::HeldOut, 6).map(|plan| plan.caption()).collect();
    let expected = [
        "a gray house in the middle",
        "a pink pine above a yellow ring",
        "two red stars left of a pink umbrella",
        "a blue anchor on the right",
        "two green umbrellas",
        "three blue pineapples",
    ];
    assert_eq!(captions, expected);
}

#[test]
fn a_missing_icon_folder_is_an_io_error() {
    let error = SceneWorld::load(Path::new("no-such-folder")).unwrap_err();
    assert_eq!(error.code(), "io");
}

#[test]
fn drawn_objects_have_the_colour_that_the_caption_says() {
    let Some(world) = world() else { return };
    // Means of the drawn pixels per colour: each must be nearer to its own body than to another's.
    let mut sums: BTreeMap<usize, [i64; 4]> = BTreeMap::new();
    for index in (0..3_000).step_by(3) {
        let plan = Plan::new(Split::Train, SEED, index);
        let image = world.scene(Split::Train, SEED, index).image;
        let object = plan.objects[0];
        let Square { left, top, side } = object.square;
        let ground = *image.get_pixel((left - 2).max(0) as u32, (top - 2).max(0) as u32);
        for (x, y) in (top..top + side).flat_map(|y| (left..left + side).map(move |x| (x, y))) {
            let pixel = image.get_pixel(x as u32, y as u32);
            let far = pixel.0.iter().zip(ground.0).any(|(a, b)| a.abs_diff(b) > 40);
            let sum = sums.entry(object.colour).or_default();
            if far {
                (0..3).for_each(|c| sum[c] += i64::from(pixel.0[c]));
                sum[3] += 1;
            }
        }
    }
    for (colour, sum) in sums {
        let mean = [0, 1, 2].map(|c| sum[c] / sum[3]);
        let distance = |other: usize| COLOURS[other].distance(mean);
        let nearest = (0..COLOURS.len()).min_by_key(|&other| distance(other)).unwrap();
        assert_eq!(COLOURS[nearest].word, COLOURS[colour].word, "mean {mean:?}");
    }
}

#[test]
fn a_scene_is_the_same_in_any_order_and_on_any_thread() {
    let Some(world) = world() else { return };
    let forward: Vec<Scene> = (0..12).map(|i| world.scene(Split::Train, SEED, i)).collect();
    let backward: Vec<Scene> = std::thread::scope(|scope| {
        let draw = || (0..12).rev().map(|i| world.scene(Split::Train, SEED, i)).collect();
        scope.spawn(draw).join().unwrap()
    });
    assert!(forward.iter().eq(backward.iter().rev()));
    assert!(forward.iter().all(|scene| scene.image.dimensions() == (SIZE, SIZE)));
}
