//! The layout of the larger world: every object has a size of its own and stands at any pixel.

use super::{Square, WHOLE, near, spread, turned};
use crate::train::random::Random;
use crate::train::scenes::meaning::{Group, Meaning, Place, Relation};

/// Sizes of a single object.
const ALONE: (i32, i32) = (56, 112);
/// Sizes of each of two objects.
const TWO: (i32, i32) = (48, 84);
/// Sizes of each of three objects. Below 44 a sprite would shrink by more than a factor of three.
const THREE: (i32, i32) = (44, 64);
/// Pixels between two objects.
const GAP: i32 = 4;
/// Pixels between the two sides of a relation.
const WIDE_GAP: i32 = 10;

/// One square an object, in the order of the caption.
pub(super) fn squares(meaning: &Meaning, random: &mut Random) -> Vec<Square> {
    match meaning {
        Meaning::Alone(_, place) => alone(*place, random),
        Meaning::Many(group) => scattered(group.count, random),
        Meaning::Row(_) => row(random),
        Meaning::Related(first, relation, second) => {
            let count = |side: &[Group]| side.iter().map(|group| group.count).sum();
            let (first, second): (usize, usize) = (count(first), count(second));
            let squares = match (first + second, relation) {
                (2, _) => two(random),
                (_, Relation::LeftOf) if random.coin() => row(random),
                (_, _) => triangle(first == 1, random),
            };
            turned(squares, *relation == Relation::Above)
        }
    }
}

fn size((smallest, largest): (i32, i32), random: &mut Random) -> i32 {
    random.between(smallest, largest)
}

/// One object whose centre is well inside one of the nine places.
fn alone(place: Place, random: &mut Random) -> Vec<Square> {
    let side = size(ALONE, random);
    // Starts that keep twice the centre at most 130, within 172 to 212, or at least 254.
    let mut start = |third: usize| match third {
        0 => random.between(0, (130 - side) / 2),
        1 => (random.between(172, 212) - side) / 2,
        _ => random.between((255 - side) / 2, WHOLE - side),
    };
    vec![Square { left: start(place.column), top: start(place.row), side }]
}

/// Some objects anywhere.
fn scattered(count: usize, random: &mut Random) -> Vec<Square> {
    let sizes = if count == 2 { TWO } else { THREE };
    for _ in 0..40 {
        let mut squares: Vec<Square> = Vec::with_capacity(count);
        for _ in 0..count {
            let side = size(sizes, random);
            let free = WHOLE - side;
            squares.push(Square { left: random.between(0, free), top: random.between(0, free), side });
        }
        let apart = |i: usize| squares[..i].iter().all(|other| squares[i].is_apart(*other, GAP));
        if (1..count).all(apart) {
            return squares;
        }
    }
    let squares = if count == 2 { two(random) } else { row(random) };
    turned(squares, random.coin())
}

/// Two objects side by side, their middles nearly on one line.
fn two(random: &mut Random) -> Vec<Square> {
    let sides = [0; 2].map(|_: i32| size(TWO, random));
    on_a_line(sides, WIDE_GAP, random).to_vec()
}

/// Three objects from left to right.
fn row(random: &mut Random) -> Vec<Square> {
    // Three of the largest would not leave the room for the gaps.
    let sides = [0; 3].map(|_: i32| size((THREE.0, 58), random));
    on_a_line(sides, GAP, random).to_vec()
}

/// One after the other from left to right, middles at most 12 pixels off a common line.
fn on_a_line<const N: usize>(sides: [i32; N], gap: i32, random: &mut Random) -> [Square; N] {
    let lefts = spread(sides, gap, random);
    let largest = sides.into_iter().max().expect("there is at least one object");
    let line = random.between(largest / 2, WHOLE - largest / 2);
    let mut i = 0;
    lefts.map(|left| {
        let side = sides[i];
        i += 1;
        Square { left, top: near(line - side / 2, 12, side, random), side }
    })
}

/// One object at the left and two stacked at the right of it, or the two first.
fn triangle(single_first: bool, random: &mut Random) -> Vec<Square> {
    let single = size(TWO, random);
    let pair = [0; 2].map(|_: i32| size((THREE.0, 76), random));
    // The two stand in a column that is a little wider than the wider of them.
    let column = pair[0].max(pair[1]) + random.between(0, 12);
    let widths = if single_first { [single, column] } else { [column, single] };
    let [left, right] = spread(widths, WIDE_GAP, random);
    let (single_left, column_left) = if single_first { (left, right) } else { (right, left) };
    let tops = spread(pair, GAP, random);
    // Between the two, so that it is beside both and neither above nor below them.
    let between = (tops[0] + pair[0] + tops[1]) / 2;
    let single =
        Square { left: single_left, top: near(between - single / 2, 10, single, random), side: single };
    let mut stacked = |i: usize| {
        let side = pair[i];
        Square { left: column_left + random.between(0, column - side), top: tops[i], side }
    };
    let pair = [stacked(0), stacked(1)];
    if single_first { vec![single, pair[0], pair[1]] } else { vec![pair[0], pair[1], single] }
}
