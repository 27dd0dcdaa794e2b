//! Rows put together: embeddings, and the vision transformer's first input.

/// Sums of a table's row and a position's, `[tokens, width]`.
///
/// `pairs` gives each token's id and position; `row(id, to)` writes the table's row `id`. An id
/// outside `0..vocab` is read as 0.
///
/// # Panics
/// When a position is outside `positions: [longest, width]`.
pub fn embed(
    pairs: impl ExactSizeIterator<Item = (i32, usize)>,
    vocab: usize,
    row: impl Fn(usize, &mut [f32]),
    positions: &[f32],
    width: usize,
) -> Vec<f32> {
    let mut out = vec![0.0; pairs.len() * width];
    for ((id, position), out) in pairs.zip(out.chunks_exact_mut(width)) {
        // A negative id is a large one.
        let id = id as usize;
        row(if id < vocab { id } else { 0 }, out);
        let place = &positions[position * width..][..width];
        out.iter_mut().zip(place).for_each(|(x, place)| *x += place);
    }
    out
}

/// For each of `batch` images the class token, then its patches, with the positions added:
/// `[batch·patches, width]`, `[width]`, `[1 + patches, width]` to `[batch·(1 + patches), width]`.
pub fn assemble(patches: &[f32], class: &[f32], positions: &[f32], batch: usize) -> Vec<f32> {
    assert_eq!(patches.len() + batch * class.len(), batch * positions.len(), "a position for every token");
    let mut out = Vec::with_capacity(batch * positions.len());
    for image in patches.chunks_exact(patches.len() / batch) {
        let tokens = class.iter().chain(image);
        out.extend(tokens.zip(positions).map(|(token, position)| token + position));
    }
    out
}

/// Each row of `a` with the same row of `b` behind it, rows of these widths.
pub fn join(a: &[f32], b: &[f32], [left, right]: [usize; 2]) -> Vec<f32> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    for (a, b) in a.chunks_exact(left).zip(b.chunks_exact(right)) {
        out.extend_from_slice(a);
        out.extend_from_slice(b);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_joined_one_to_one() {
        let out = join(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0], [2, 1]);
        assert_eq!(out, [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
    }

    #[test]
    fn an_embedding_is_a_row_plus_a_position() {
        let positions: Vec<f32> = (0..12).map(|i| i as f32 * 100.0).collect();
        let row = |id: usize, to: &mut [f32]| to.fill(id as f32);
        let pairs = [(4, 0), (2, 3), (-1, 1), (5, 1)];
        let out = embed(pairs.into_iter(), 5, row, &positions, 3);
        assert_eq!(out[..6], [4.0, 104.0, 204.0, 902.0, 1002.0, 1102.0]);
        assert_eq!(out[6..9], [300.0, 400.0, 500.0], "a negative id is read as 0");
        assert_eq!(out[9..], out[6..9], "and so is one beyond the table");
    }

    #[test]
    fn every_image_gets_a_class_token() {
        let out = assemble(&[1.0, 2.0, 3.0, 4.0], &[9.0], &[0.1, 0.2, 0.3], 2);
        assert_eq!(out, [9.1, 1.2, 2.3, 9.1, 3.2, 4.3]);
    }
}
