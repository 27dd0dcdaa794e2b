//! What works on rows: norms, embeddings, the start of an image's sequence.

use half::f16;

use super::super::embed::{assemble, embed};
use super::super::launch::Float;
use super::super::layer_norm::{layer_norm, normalise};
use super::super::rows::rows;
use super::{Gpu, Noise, assert_close, read};
use crate::kernels::{EmbedSpec, Format, MatrixTensors, Place, state};

#[test]
fn layer_norm_is_its_definition() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(4);
    for (rows, width) in [(1, 4), (3, 7), (5, 64), (2, 768), (1, 1030), (40000, 4)] {
        for offset in [0.0, 100.0] {
            for (float, adapter) in gpu.kinds() {
                adapter.set();
                // Far from zero the variance must not cancel.
                let values: Vec<f32> = noise.floats(rows * width, 2.0).iter().map(|x| x + offset).collect();
                let (x, x64) = gpu.floats(&values, float);
                let (norm, norm64) = gpu.floats(&noise.floats(2 * width, 1.0), Float::F32);
                let found = read(&layer_norm(x, norm, rows, width, 1e-6));
                let mut expected = Vec::new();
                for row in x64.chunks_exact(width) {
                    let mean = row.iter().sum::<f64>() / width as f64;
                    let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                    let scaled = |(i, x): (usize, &f64)| {
                        (x - mean) / (variance + 1e-6).sqrt() * norm64[i] + norm64[width + i]
                    };
                    expected.extend(row.iter().enumerate().map(scaled));
                }
                // An f32 near 100 has steps of 8e-6, which the mean shares.
                let float = if offset > 0.0 { Float::F16 } else { float };
                assert_close(&found, &expected, float, &format!("{rows} x {width} + {offset} {adapter:?}"));
            }
        }
    }
}

#[test]
fn normalise_divides_by_the_length_and_leaves_zeros() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(5);
    for (rows, width) in [(1, 4), (3, 7), (4, 256)] {
        for (float, adapter) in gpu.kinds() {
            adapter.set();
            let mut values = noise.floats(rows * width, 2.0);
            values[..width].fill(0.0);
            let (x, x64) = gpu.floats(&values, float);
            let found = read(&normalise(x, rows, width));
            let mut expected = Vec::new();
            for row in x64.chunks_exact(width) {
                let length = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
                expected.extend(row.iter().map(|x| x / length));
            }
            assert_close(&found, &expected, float, &format!("{rows} x {width} {adapter:?}"));
        }
    }
}

#[test]
fn embed_reads_every_format_at_every_place() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(6);
    for (format, group, width, vocab) in [
        (Format::Float, 0, 12, 5),
        (Format::F16, 0, 64, 9),
        (Format::Q8, 32, 96, 11),
        (Format::Q8, 64, 128, 7),
        (Format::Q8, 32, 40, 7),
        (Format::Q4, 32, 96, 11),
        (Format::Q4, 32, 40, 3),
        (Format::Q4, 32, 256, 300),
    ] {
        for place in [Place::Sequence { seq: 3, past: 2 }, Place::State] {
            for (float, adapter) in gpu.kinds() {
                adapter.set();
                let tokens = 6;
                let (table, table64) = table(&gpu, &mut noise, format, group, width, vocab, float);
                let longest = 9;
                let (positions, positions64) = gpu.floats(&noise.floats(longest * width, 1.0), float);
                let mut named: Vec<i32> = (0..tokens).map(|_| noise.below(vocab) as i32).collect();
                named[1] = vocab as i32 + 3;
                let place_of = |token: usize| match place {
                    Place::Sequence { seq, past } => past + token % seq,
                    Place::State => 4,
                };
                let ids = match place {
                    Place::Sequence { .. } => gpu.ints(&named),
                    Place::State => {
                        let mut state = vec![4, 0, 0, 0];
                        state.extend(&named);
                        state.resize(state::len(tokens), 0);
                        gpu.ints(&state)
                    }
                };
                let spec = EmbedSpec { tokens, width, format, group, vocab, place };
                let found = embed(ids, table, positions, spec);
                let mut expected = Vec::new();
                for (token, id) in named.iter().enumerate() {
                    let id = if (*id as usize) < vocab { *id as usize } else { 0 };
                    for i in 0..width {
                        expected.push(table64[id * width + i] + positions64[place_of(token) * width + i]);
                    }
                }
                assert_close(&read(&found), &expected, float, &format!("{spec:?} {float:?}"));
            }
        }
    }
}

/// A random table in `format`, and its values.
fn table(
    gpu: &Gpu,
    noise: &mut Noise,
    format: Format,
    group: usize,
    width: usize,
    vocab: usize,
    float: Float,
) -> (MatrixTensors<burn::backend::Cube>, Vec<f64>) {
    if format == Format::Float {
        let (table, values) = gpu.floats(&noise.floats(vocab * width, 2.0), float);
        return (MatrixTensors::Float(table), values);
    }
    if format == Format::F16 {
        let halves: Vec<f16> = noise.floats(vocab * width, 2.0).iter().copied().map(f16::from_f32).collect();
        let words: Vec<i32> =
            halves.chunks_exact(2).map(|pair| words_of([pair[0].to_bits(), pair[1].to_bits()])).collect();
        return (
            MatrixTensors::Packed(gpu.ints(&words), None),
            halves.iter().copied().map(f64::from).collect(),
        );
    }
    let padded = width.next_multiple_of(group);
    let groups = padded / group;
    let (mut codes, mut scales, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..vocab {
        let scale: Vec<f16> =
            (0..groups).map(|_| f16::from_f32(0.001 + noise.float().abs() / 100.0)).collect();
        let high = |pair: &[f16]| pair.get(1).map_or(0, |scale| scale.to_bits());
        scales.extend(scale.chunks(2).map(|pair| words_of([pair[0].to_bits(), high(pair)])));
        let row: Vec<i32> = (0..padded)
            .map(|i| match format {
                _ if i >= width => 0,
                Format::Q8 => noise.below(255) as i32 - 127,
                _ => noise.below(16) as i32 - 8,
            })
            .collect();
        values.extend((0..width).map(|i| f64::from(row[i]) * f64::from(scale[i / group])));
        match format {
            Format::Q8 => codes.extend(
                row.as_chunks::<4>()
                    .0
                    .iter()
                    .map(|code| i32::from_le_bytes(code.map(|code| code as i8 as u8))),
            ),
            _ => codes.extend(row.as_chunks::<8>().0.iter().map(|code| {
                let nibble = |(i, code): (usize, &i32)| ((code + 8) as u32) << (4 * i);
                code.iter().enumerate().map(nibble).sum::<u32>().cast_signed()
            })),
        }
    }
    (MatrixTensors::Packed(gpu.ints(&codes), Some(gpu.ints(&scales))), values)
}

fn words_of([low, high]: [u16; 2]) -> i32 {
    (u32::from(low) | u32::from(high) << 16).cast_signed()
}

#[test]
fn assemble_puts_the_class_token_before_each_image() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(7);
    for (batch, patches, width) in [(1, 1, 4), (3, 5, 12), (2, 49, 768)] {
        for (float, _) in gpu.kinds() {
            let (x, x64) = gpu.floats(&noise.floats(batch * patches * width, 1.0), float);
            let (class, class64) = gpu.floats(&noise.floats(width, 1.0), Float::F32);
            let (positions, positions64) = gpu.floats(&noise.floats((patches + 1) * width, 1.0), Float::F32);
            let found = read(&assemble(x, class, positions, batch, width));
            let mut expected = Vec::new();
            for image in x64.chunks_exact(patches * width) {
                let tokens = class64.iter().chain(image);
                expected.extend(tokens.zip(&positions64).map(|(token, position)| token + position));
            }
            assert_close(&found, &expected, float, &format!("{batch} x {patches} x {width}"));
        }
    }
}

#[test]
fn some_rows_are_copied_as_they_are() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(6);
    // The last needs more workgroups than one dimension has.
    for (all, width, first, count) in [(1, 4, 0, 1), (9, 12, 3, 4), (7, 768, 6, 1), (40_000, 128, 1, 39_999)]
    {
        for (float, adapter) in gpu.kinds() {
            adapter.set();
            let (x, x64) = gpu.floats(&noise.floats(all * width, 2.0), float);
            let found = read(&rows(x, first, count, width));
            let expected = &x64[first * width..][..count * width];
            assert!(found.iter().zip(expected).all(|(a, b)| a == b), "{count} of {all} x {width}");
            assert_eq!(found.len(), expected.len());
        }
    }
}
