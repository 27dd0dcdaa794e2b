//! The promises of the world as a whole; grammar and split have their own tests beside them.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::*;

const SEED: u64 = 7;

const WORLDS: [World; 2] = [World::V0, World::V1];

fn plans(world: World, split: Split, count: u64) -> impl Iterator<Item = Plan> {
    (0..count).map(move |index| world.plan(split, SEED, index))
}

fn icons() -> Option<PathBuf> {
    let icons = std::env::var_os("BLIP_ICONS").map(PathBuf::from);
    if icons.is_none() {
        eprintln!("skipped: BLIP_ICONS is not set (icons are installed by `cargo xtask`)");
    }
    icons
}

/// A world with its icons, rasterised once for all tests.
fn drawn(world: World) -> Option<&'static SceneWorld> {
    static WORLDS: [OnceLock<SceneWorld>; 2] = [OnceLock::new(), OnceLock::new()];
    let icons = icons()?;
    Some(WORLDS[world as usize].get_or_init(|| SceneWorld::of(world, &icons).unwrap()))
}

#[test]
fn no_training_scene_holds_a_held_out_combination() {
    for (index, plan) in WORLDS.into_iter().flat_map(|world| plans(world, Split::Train, 20_000)).enumerate() {
        assert!(plan.held_out().is_empty(), "scene {index}: {}", plan.caption());
    }
}

#[test]
fn every_held_out_scene_holds_one_that_its_caption_says() {
    for world in WORLDS {
        let names: HashSet<String> = world.knowledge().held_out.into_iter().collect();
        for (index, plan) in plans(world, Split::HeldOut, 3_000).enumerate() {
            let held_out = plan.held_out();
            assert!(!held_out.is_empty(), "scene {index}: {}", plan.caption());
            assert!(held_out.iter().all(|name| names.contains(name)), "scene {index}: {held_out:?}");
        }
    }
}

#[test]
fn one_two_and_three_objects_have_equal_shares_and_half_have_two_nouns() {
    let both = WORLDS.into_iter().flat_map(|world| [(world, Split::Train), (world, Split::HeldOut)]);
    for (world, split) in both {
        let mut shares = [0; 4];
        let (mut several, mut mixed) = (0, 0);
        for plan in plans(world, split, 3_000) {
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
    // More nouns are seen less often each, and so less evenly.
    for (world, spread) in [(World::V0, 25), (World::V1, 40)] {
        let (mut nouns, mut colours) = (vec![0_usize; world.nouns().len()], [0_usize; 8]);
        for object in plans(world, Split::Train, 30_000).flat_map(|plan| plan.objects) {
            nouns[object.noun] += 1;
            colours[object.colour] += 1;
        }
        let within = |counts: &[usize], percent: usize| {
            let mean = counts.iter().sum::<usize>() / counts.len();
            counts.iter().all(|&count| count.abs_diff(mean) * 100 <= mean * percent)
        };
        assert!(within(&nouns, spread), "{nouns:?}");
        assert!(within(&colours, 5), "{colours:?}");
    }
}

#[test]
fn captions_use_only_the_listed_words_and_are_short() {
    for (world, longest) in [(World::V0, 13), (World::V1, 16)] {
        let words: HashSet<String> = world.words().into_iter().collect();
        let mut seen = HashSet::new();
        for plan in plans(world, Split::Train, 10_000).chain(plans(world, Split::HeldOut, 10_000)) {
            let caption = plan.caption().replace(',', " ,");
            let count = caption.split(' ').inspect(|word| assert!(words.contains(*word), "{word:?}")).count();
            assert!(count <= longest, "{caption}");
            seen.extend(caption.split(' ').map(str::to_owned));
        }
        assert_eq!(seen, words, "every listed word is used");
    }
}

#[test]
fn objects_stay_inside_and_never_overlap() {
    for world in WORLDS {
        for plan in plans(world, Split::Train, 10_000).chain(plans(world, Split::HeldOut, 5_000)) {
            let squares: Vec<Square> = plan.objects.iter().map(|object| object.square).collect();
            // A sprite may shrink by less than a factor of three.
            let smallest = if world == World::V0 { 48 } else { 44 };
            for (i, a) in squares.iter().enumerate() {
                let whole = SIZE as i32;
                assert!(a.left >= 0 && a.top >= 0 && a.side >= smallest, "{plan:?}");
                assert!(a.left + a.side <= whole && a.top + a.side <= whole, "{plan:?}");
                for b in &squares[..i] {
                    let apart = |p: i32, p_side: i32, q: i32, q_side: i32| p + p_side <= q || q + q_side <= p;
                    let columns = apart(a.left, a.side, b.left, b.side);
                    assert!(columns || apart(a.top, a.side, b.top, b.side), "{plan:?}");
                }
            }
        }
    }
}

#[test]
fn objects_of_the_larger_world_have_many_sizes_and_places() {
    let count = |world| {
        let objects = plans(world, Split::Train, 5_000).flat_map(|plan| plan.objects);
        let (mut sides, mut lefts) = (HashSet::new(), HashSet::new());
        for object in objects {
            sides.insert(object.square.side);
            lefts.insert(object.square.left);
        }
        (sides.len(), lefts.len())
    };
    assert_eq!(count(World::V0), (3, 7));
    assert_eq!(count(World::V1), (69, 149));
}

#[test]
fn what_the_caption_says_about_positions_is_true_of_the_squares() {
    for plan in WORLDS.into_iter().flat_map(|world| plans(world, Split::Train, 10_000)) {
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
                // Of two objects it is never said that one is left of the other when it is above as well.
                if let ([a], [b]) = (first, second) {
                    let other = if *relation == Relation::Above { Relation::LeftOf } else { Relation::Above };
                    let beside = |a: Square, b: Square| end(a, other) > end(b, other) - b.side;
                    assert!(beside(*a, *b) && beside(*b, *a), "{plan:?}");
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
    let plan = |seed, index| World::V0.plan(Split::Train, seed, index);
    assert_eq!(plan(1, 5), plan(1, 5));
    assert_ne!(plan(1, 5), plan(2, 5));
    assert_ne!(plan(1, 5), plan(1, 8));
}

#[test]
fn the_first_held_out_captions_never_change() {
    let captions: Vec<String> = plans(World::V0, Split::HeldOut, 6).map(|plan| plan.caption()).collect();
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

/// The samples beside the small captioner, and those of the page: the models were tested with them.
#[test]
fn the_first_held_out_pictures_never_change() {
    for (world, samples) in WORLDS.into_iter().zip(["tests/fixtures/models/captioner", "www/samples"]) {
        let Some(world) = drawn(world) else { return };
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(samples);
        for index in 0..8 {
            let sample = image::open(samples.join(format!("scene-{}.png", index + 1))).unwrap();
            let scene = world.scene(Split::HeldOut, 0, index);
            assert!(scene.image == sample.into_rgb8(), "scene {index} of {}", samples.display());
        }
    }
}

#[test]
fn a_missing_icon_folder_is_an_io_error() {
    let nowhere = Path::new("no-such-folder");
    assert_eq!(SceneWorld::of(World::V0, nowhere).unwrap_err().code(), "io");
    assert_eq!(SceneWorld::unseen(World::V1, nowhere, nowhere).unwrap_err().code(), "io");
}

#[test]
fn drawn_objects_have_the_colour_that_the_caption_says() {
    let Some(world) = drawn(World::V0) else { return };
    // Means of the drawn pixels per colour: each must be nearer to its own body than to another's.
    let mut sums: BTreeMap<usize, [i64; 4]> = BTreeMap::new();
    for index in (0..3_000).step_by(3) {
        let plan = World::V0.plan(Split::Train, SEED, index);
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
    let Some(world) = drawn(World::V0) else { return };
    let forward: Vec<Scene> = (0..12).map(|i| world.scene(Split::Train, SEED, i)).collect();
    let backward: Vec<Scene> = std::thread::scope(|scope| {
        let draw = || (0..12).rev().map(|i| world.scene(Split::Train, SEED, i)).collect();
        scope.spawn(draw).join().unwrap()
    });
    assert!(forward.iter().eq(backward.iter().rev()));
    assert!(forward.iter().all(|scene| scene.image.dimensions() == (SIZE, SIZE)));
}

#[test]
fn every_noun_of_the_larger_world_can_be_drawn_and_told_from_every_other() {
    let Some(world) = drawn(World::V1) else { return };
    let shapes: Vec<[Vec<i32>; 2]> =
        world.sprites.iter().map(|styles| [0, 1].map(|style| styles[style].thumbnail())).collect();
    let distance = |a: &[i32], b: &[i32]| -> i32 {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<i32>() / a.len() as i32
    };
    for (i, a) in shapes.iter().enumerate() {
        for (j, b) in shapes[..i].iter().enumerate() {
            let [flat, shaded] = [0, 1].map(|style| distance(&a[style], &b[style]));
            let nouns = [i, j].map(|noun| World::V1.nouns()[noun].one);
            // As far apart as the teapot and the star of the smaller world.
            assert!(flat.max(shaded) >= 34, "{nouns:?}: {flat} and {shaded}");
        }
    }
}

/// The third style is an npm package that only this asks for.
#[test]
fn the_unseen_style_draws_every_noun_of_both_worlds() {
    let Some(icons) = icons() else { return };
    let pictures = icons.join("../@lobehub/fluent-emoji-3d/assets");
    if !pictures.is_dir() {
        eprintln!("skipped: `@lobehub/fluent-emoji-3d` is not installed beside the icons");
        return;
    }
    for world in WORLDS {
        let unseen = SceneWorld::unseen(world, &icons, &pictures).unwrap();
        let (scene, seen) =
            (unseen.scene(Split::HeldOut, SEED, 5), drawn(world).unwrap().scene(Split::HeldOut, SEED, 5));
        assert_eq!(scene.caption, seen.caption);
        assert_ne!(scene.image, seen.image);
    }
}

#[test]
fn pairs_and_clips_are_drawn_as_planned() {
    for world in WORLDS {
        let Some(drawn) = drawn(world) else { return };
        let (pair, pictures) = drawn.pair(Split::Train, SEED, 4);
        assert_eq!(pair, world.pair(Split::Train, SEED, 4));
        assert_ne!(pictures[0], pictures[1]);
        for index in 0..16 {
            let (clip, frames) = drawn.clip(Split::Train, SEED, index, 4);
            assert_eq!(frames.len(), 4);
            let equal = frames.windows(2).filter(|pair| pair[0] == pair[1]).count();
            match clip.event {
                Event::Moves(_) => assert_eq!(equal, 0),
                // All but one frame are as the one before.
                _ => assert_eq!(equal, 2, "{clip:?}"),
            }
        }
    }
}
