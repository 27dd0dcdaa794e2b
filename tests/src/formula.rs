//! Numbers from a formula, the twin of `fixtures/formula.py`: the same f32 values with nothing to commit.
//!
//! `fixtures/README.md` defines it. Every step is an integer operation or one correctly rounded f32
//! operation, so both sides agree to the last bit.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// FNV-1a, 64 bits.
pub fn fnv1a(name: &str) -> u64 {
    name.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

/// Element `index` of the splitmix64 stream that `seed` starts.
pub fn bits(seed: u64, index: u64) -> u64 {
    let z = seed.wrapping_add((index + 1).wrapping_mul(GOLDEN));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `[-1, 1)` on a grid of 2⁻²³, exact.
pub fn uniform(seed: u64, index: u64) -> f32 {
    let top = (bits(seed, index) >> 40) as i32 - (1 << 23);
    top as f32 * 2f32.powi(-23)
}

/// The values of a tensor by its Hugging Face name; LayerNorm weights lie around 1.
pub fn weight(name: &str, shape: &[usize]) -> Vec<f32> {
    let is_norm_weight = is_norm(name) && name.ends_with("weight");
    let (seed, half_width) = (fnv1a(name), half_width(name, shape));
    let value = |index| {
        let value = uniform(seed, index) * half_width;
        if is_norm_weight { 1.0 + value } else { value }
    };
    (0..shape.iter().product::<usize>() as u64).map(value).collect()
}

/// Normalised pixels `[3, size, size]`: squares of `cell` pixels of one colour, with fine noise on top.
pub fn image(name: &str, size: usize, cell: usize) -> Vec<f32> {
    let (coarse, fine) = (fnv1a(&format!("{name}.coarse")), fnv1a(&format!("{name}.fine")));
    let grid = size / cell;
    let pixel = |index: usize| {
        let (channel, y, x) = (index / (size * size), index / size % size, index % size);
        let square = (channel * grid + y / cell) * grid + x / cell;
        1.5 * uniform(coarse, square as u64) + 0.5 * uniform(fine, index as u64)
    };
    (0..3 * size * size).map(pixel).collect()
}

fn is_norm(name: &str) -> bool {
    name.to_lowercase().contains("norm")
}

/// Half the width of the interval a tensor is drawn from, by the kind of tensor.
fn half_width(name: &str, shape: &[usize]) -> f32 {
    let ends = |suffixes: [&str; 2]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    let power = if is_norm(name) {
        if name.ends_with("weight") { -3 } else { -4 }
    } else if shape.len() <= 1 {
        -6
    } else if ends(["class_embedding", "position_embedding"]) {
        -1
    } else if ends(["word_embeddings.weight", "position_embeddings.weight"]) {
        -4
    } else if shape[1..].iter().product::<usize>() > 1024 {
        -5
    } else {
        -4
    };
    2f32.powi(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_test_values_of_its_two_parts_hold() {
        // FNV's own table; splitmix64's reference sequence for the seed 1234567.
        assert_eq!(fnv1a(""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_F739_67E8);
        assert_eq!(bits(1_234_567, 0), 6_457_827_717_110_365_317);
        assert_eq!(bits(1_234_567, 1), 3_203_168_211_198_807_973);
    }

    #[test]
    fn values_are_those_of_the_python_twin() {
        let values = weight("vision_model.post_layernorm.weight", &[3]);
        assert_eq!(values, PYTHON_NORM);
        let values = weight("text_decoder.bert.embeddings.word_embeddings.weight", &[3, 1]);
        assert_eq!(values, PYTHON_WORDS);
        let pixels = image("base.image", 384, 16);
        assert_eq!([pixels[0], pixels[200_000], pixels[442_367]], PYTHON_PIXELS);
    }

    const PYTHON_NORM: [f32; 3] = [0.93688977, 1.0938629, 1.0358832];
    const PYTHON_WORDS: [f32; 3] = [-0.0060517043, 0.05475329, -0.0007363036];
    const PYTHON_PIXELS: [f32; 3] = [1.6103706, -1.1589108, 0.6388876];
}
