//! The 64 nouns of the scene world and the two drawings behind each of them.
//!
//! Chosen by eye: shapes that stay apart as silhouettes of about 25 pixels, and that look alike in
//! both icon sets. A noun is its index in [`NOUNS`]; the order is part of the data (seeds mean it).

/// One noun: how it is written and which icon shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noun {
    /// The singular, one lower-case word.
    pub one: &'static str,
    /// The plural, one lower-case word.
    pub many: &'static str,
    /// The icon's name, the same in both icon sets.
    pub icon: &'static str,
}

const fn noun(one: &'static str, many: &'static str, icon: &'static str) -> Noun {
    Noun { one, many, icon }
}

/// Every noun the world can draw and name.
pub const NOUNS: [Noun; 64] = [
    noun("apple", "apples", "red-apple"),
    noun("banana", "bananas", "banana"),
    noun("pineapple", "pineapples", "pineapple"),
    noun("carrot", "carrots", "carrot"),
    noun("mushroom", "mushrooms", "mushroom"),
    noun("donut", "donuts", "doughnut"),
    noun("cupcake", "cupcakes", "cupcake"),
    noun("car", "cars", "automobile"),
    noun("bike", "bikes", "bicycle"),
    noun("tractor", "tractors", "tractor"),
    noun("plane", "planes", "airplane"),
    noun("helicopter", "helicopters", "helicopter"),
    noun("rocket", "rockets", "rocket"),
    noun("boat", "boats", "sailboat"),
    noun("key", "keys", "key"),
    noun("umbrella", "umbrellas", "umbrella"),
    noun("fish", "fish", "fish"),
    noun("snail", "snails", "snail"),
    noun("whale", "whales", "spouting-whale"),
    noun("octopus", "octopuses", "octopus"),
    noun("crab", "crabs", "crab"),
    noun("butterfly", "butterflies", "butterfly"),
    noun("snake", "snakes", "snake"),
    noun("turtle", "turtles", "turtle"),
    noun("duck", "ducks", "duck"),
    noun("flamingo", "flamingos", "flamingo"),
    noun("penguin", "penguins", "penguin"),
    noun("owl", "owls", "owl"),
    noun("elephant", "elephants", "elephant"),
    noun("giraffe", "giraffes", "giraffe"),
    noun("rabbit", "rabbits", "rabbit"),
    noun("spider", "spiders", "spider"),
    noun("tree", "trees", "deciduous-tree"),
    noun("pine", "pines", "evergreen-tree"),
    noun("palm", "palms", "palm-tree"),
    noun("cactus", "cactuses", "cactus"),
    noun("tulip", "tulips", "tulip"),
    noun("leaf", "leaves", "maple-leaf"),
    noun("house", "houses", "house"),
    noun("castle", "castles", "castle"),
    noun("guitar", "guitars", "guitar"),
    noun("trumpet", "trumpets", "trumpet"),
    noun("drum", "drums", "drum"),
    noun("bell", "bells", "bell"),
    noun("anchor", "anchors", "anchor"),
    noun("balloon", "balloons", "balloon"),
    noun("crown", "crowns", "crown"),
    noun("ring", "rings", "ring"),
    noun("diamond", "diamonds", "gem-stone"),
    noun("shirt", "shirts", "t-shirt"),
    noun("dress", "dresses", "dress"),
    noun("boot", "boots", "womans-boot"),
    noun("hat", "hats", "top-hat"),
    noun("hammer", "hammers", "hammer"),
    noun("pencil", "pencils", "pencil"),
    noun("phone", "phones", "telephone"),
    noun("camera", "cameras", "camera"),
    noun("chair", "chairs", "chair"),
    noun("heart", "hearts", "red-heart"),
    noun("star", "stars", "star"),
    noun("cloud", "clouds", "cloud"),
    noun("snowflake", "snowflakes", "snowflake"),
    noun("teapot", "teapots", "teapot"),
    noun("mug", "mugs", "beer-mug"),
];
