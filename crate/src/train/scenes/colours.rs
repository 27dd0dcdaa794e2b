//! The eight colours, each a ramp from its shadow over its body to its highlight.
//!
//! A ramp keeps an icon's shading while every pixel of it stays inside the colour's name: the
//! highlight of red stops before pink, the shadow of orange before brown.

use crate::train::random::Random;

/// One colour: the word and three points of its ramp, sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// The word of the caption.
    pub word: &'static str,
    dark: [u8; 3],
    body: [u8; 3],
    light: [u8; 3],
}

/// Every colour; a colour is its index here, and the order is part of the data.
pub const COLOURS: [Colour; 8] = [
    Colour { word: "red", dark: [84, 4, 6], body: [218, 26, 30], light: [255, 104, 88] },
    Colour { word: "orange", dark: [138, 62, 0], body: [250, 132, 10], light: [255, 190, 96] },
    Colour { word: "yellow", dark: [140, 108, 0], body: [248, 212, 28], light: [255, 242, 140] },
    Colour { word: "green", dark: [6, 66, 20], body: [36, 160, 54], light: [136, 222, 136] },
    Colour { word: "blue", dark: [8, 22, 96], body: [30, 92, 222], light: [120, 176, 255] },
    Colour { word: "purple", dark: [44, 8, 80], body: [124, 44, 184], light: [190, 136, 238] },
    Colour { word: "pink", dark: [160, 36, 100], body: [250, 116, 182], light: [255, 196, 224] },
    Colour { word: "gray", dark: [40, 40, 43], body: [124, 124, 128], light: [200, 200, 205] },
];

/// A colour for every tone, `[tone] -> RGB`: 0 is the deepest shadow, 128 the body, 255 the highlight.
pub(super) type Ramp = [[u8; 3]; 256];

impl Colour {
    /// The ramp of one object, its hue and lightness jittered inside the colour's name.
    pub(super) fn ramp(&self, random: &mut Random) -> Ramp {
        let lightness = random.between(-14, 14);
        // Gray has no hue to spare: unequal channels would name another colour.
        let spread = if self.word == "gray" { 2 } else { 8 };
        let shift: [i32; 3] = std::array::from_fn(|_| lightness + random.between(-spread, spread));
        let mut ramp = [[0; 3]; 256];
        for (tone, out) in (0_i32..).zip(&mut ramp) {
            let (from, to, step, steps) = if tone < 128 {
                (self.dark, self.body, tone, 128)
            } else {
                (self.body, self.light, tone - 128, 127)
            };
            for channel in 0..3 {
                let (from, to) = (i32::from(from[channel]), i32::from(to[channel]));
                let value = from + (to - from) * step / steps + shift[channel];
                out[channel] = value.clamp(0, 255) as u8;
            }
        }
        ramp
    }
}

#[cfg(test)]
impl Colour {
    /// Squared distance of an RGB mean from the body of the colour.
    pub(super) fn distance(&self, rgb: [i64; 3]) -> i64 {
        rgb.iter().zip(self.body).map(|(value, body)| (value - i64::from(body)).pow(2)).sum()
    }
}
