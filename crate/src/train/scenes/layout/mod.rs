//! Where the objects of a scene stand: disjoint squares inside the image.
//!
//! Both layouts leave clear margins between what different captions say: a single object's thirds
//! are at least 20 pixels apart, the sides of a relation never share a row or column of pixels, and
//! what is left of something is never clearly above it as well.

mod free;
mod grid;

pub(super) use grid::down as on_grid;

use super::meaning::Meaning;
use super::{SIZE, World};
use crate::train::random::Random;

/// Width and height of the image.
pub(super) const WHOLE: i32 = SIZE as i32;

/// A square of the image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Square {
    /// Left edge.
    pub left: i32,
    /// Upper edge.
    pub top: i32,
    /// Width and height.
    pub side: i32,
}

impl Square {
    pub(super) fn swapped(self) -> Self {
        Self { left: self.top, top: self.left, side: self.side }
    }

    /// Whether two squares keep `gap` pixels between them in rows or in columns.
    fn is_apart(self, other: Self, gap: i32) -> bool {
        let before = |start: i32, side: i32, next: i32| start + side + gap <= next;
        before(self.left, self.side, other.left)
            || before(other.left, other.side, self.left)
            || before(self.top, self.side, other.top)
            || before(other.top, other.side, self.top)
    }
}

/// One square an object, in the order of the caption.
pub(super) fn squares(world: World, meaning: &Meaning, random: &mut Random) -> Vec<Square> {
    match world {
        World::V0 => grid::squares(meaning, random),
        World::V1 => free::squares(meaning, random),
    }
}

fn turned(squares: Vec<Square>, turn: bool) -> Vec<Square> {
    if turn { squares.into_iter().map(Square::swapped).collect() } else { squares }
}

/// Starts of `sides` one after the other, the free room beyond `gap` shared out at random.
fn spread<const N: usize>(sides: [i32; N], gap: i32, random: &mut Random) -> [i32; N] {
    let mut free = WHOLE - sides.iter().sum::<i32>() - gap * (N as i32 - 1);
    let mut at = 0;
    sides.map(|side| {
        let skip = random.between(0, free);
        free -= skip;
        let start = at + skip;
        at = start + side + gap;
        start
    })
}

/// A start within `reach` of `start` that keeps the square inside the image.
fn near(start: i32, reach: i32, side: i32, random: &mut Random) -> i32 {
    (start + random.between(-reach, reach)).clamp(0, WHOLE - side)
}
