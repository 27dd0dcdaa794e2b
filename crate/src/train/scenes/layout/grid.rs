//! The layout of the smaller world: few sizes, on a grid.
//!
//! Sizes and places are multiples of [`GRID`], a patch of the embedded model's vision encoder: in the
//! hour or two that it trains on a CPU it learns shapes, not every shift of a shape by a pixel.

use super::{Square, WHOLE, near, spread, turned};
use crate::train::random::Random;
use crate::train::scenes::meaning::{Group, Meaning, Place, Relation};

/// Squares start and end on multiples of this many pixels.
const GRID: i32 = 24;

/// One square an object, in the order of the caption.
pub(super) fn squares(meaning: &Meaning, random: &mut Random) -> Vec<Square> {
    let squares = match meaning {
        Meaning::Alone(_, place) => alone(*place, random),
        Meaning::Many(group) if group.count == 2 => turned(two(random), random.coin()),
        Meaning::Many(_) => match random.below(3) {
            0 => turned(row(random), random.coin()),
            single => turned(triangle(single == 1, random), random.coin()),
        },
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
    };
    squares.into_iter().map(snapped).collect()
}

/// One object of half the image in one of nine places, in a corner also of three eighths.
fn alone(place: Place, random: &mut Random) -> Vec<Square> {
    let corner = place.column != 1 && place.row != 1;
    let side = if corner && random.coin() { 3 * GRID } else { 4 * GRID };
    // The smaller one may stand a step away from the border.
    let mut start = |third: usize| match third {
        0 => random.between(0, 4 - side / GRID) * GRID,
        1 => (WHOLE - side) / 2,
        _ => WHOLE - side - random.between(0, 4 - side / GRID) * GRID,
    };
    vec![Square { left: start(place.column), top: start(place.row), side }]
}

/// Two objects of three eighths of the image side by side.
fn two(random: &mut Random) -> Vec<Square> {
    let side = 3 * GRID;
    let lefts = spread([side, side], 8, random);
    let top = random.between(0, WHOLE - side);
    lefts.map(|left| Square { left, top: near(top, 18, side, random), side }).to_vec()
}

/// Three objects of a quarter of the image from left to right.
fn row(random: &mut Random) -> Vec<Square> {
    let side = 2 * GRID;
    let lefts = spread([side; 3], 3, random);
    let top = random.between(0, WHOLE - side);
    lefts.map(|left| Square { left, top: near(top, 14, side, random), side }).to_vec()
}

/// Three objects of three eighths of the image: one at the left and two stacked at the right of it, or
/// the two first.
fn triangle(single_first: bool, random: &mut Random) -> Vec<Square> {
    let side = 3 * GRID;
    let [left, right] = spread([side, side], 10, random);
    let (single, pair) = if single_first { (left, right) } else { (right, left) };
    let [upper, lower] = spread([side, side], 4, random);
    let top = near((WHOLE - side) / 2, 30, side, random);
    let single = Square { left: single, top, side };
    // The two share a column up to a few pixels, inside the gap between the sides.
    let pair = [upper, lower].map(|top| Square { left: near(pair, 4, side, random), top, side });
    if single_first { vec![single, pair[0], pair[1]] } else { vec![pair[0], pair[1], single] }
}

/// A length rounded down to the grid.
pub(in crate::train::scenes) fn down(length: i32) -> i32 {
    length.div_euclid(GRID) * GRID
}

/// The same square with its edges moved left and up to the grid. Squares that were disjoint stay so:
/// what starts at or beyond an edge before, starts at or beyond the moved edge after.
fn snapped(square: Square) -> Square {
    Square { left: down(square.left), top: down(square.top), side: down(square.side) }
}
