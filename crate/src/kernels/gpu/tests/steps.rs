//! Steps of decoding one after the other: nothing about a step depends on its position, so that it can
//! be recorded once and replayed.
#![allow(unsafe_code, reason = "cubecl's replay of a recorded graph is an unsafe function")]

use burn_cubecl::tensor::CubeTensor;

use super::super::attention::step_attention;
use super::super::choose::advance;
use super::super::embed::embed;
use super::super::launch::Float;
use super::super::layer_norm::layer_norm;
use super::{Gpu, Noise, read_ints};
use crate::kernels::{AdvanceSpec, EmbedSpec, Format, MatrixTensors, Place, StepAttentionSpec, state};

const WIDTH: usize = 64;
const CAPACITY: usize = 12;

/// A model of one attention layer whose vocabulary is as large as it is wide.
struct Toy {
    table: CubeTensor,
    positions: CubeTensor,
    norm: CubeTensor,
    cache: CubeTensor,
    state: CubeTensor,
    history: CubeTensor,
}

impl Toy {
    fn new(gpu: &Gpu) -> Self {
        let mut noise = Noise(10);
        let mut floats = |count| gpu.floats(&noise.floats(count, 2.0), Float::F32).0;
        let mut now = vec![0; state::len(1)];
        now[state::TOKENS] = 5;
        Self {
            table: floats(WIDTH * 3 * WIDTH),
            positions: floats(CAPACITY * 3 * WIDTH),
            norm: floats(2 * WIDTH),
            cache: floats(CAPACITY * 2 * WIDTH),
            state: gpu.ints(&now),
            history: gpu.ints(&[0; 2 * CAPACITY]),
        }
    }

    fn step(&self) {
        let embed_spec = EmbedSpec {
            tokens: 1,
            width: 3 * WIDTH,
            format: Format::Float,
            group: 0,
            vocab: WIDTH,
            place: Place::State,
        };
        let table = MatrixTensors::Float(self.table.clone());
        let qkv = embed(self.state.clone(), table, self.positions.clone(), embed_spec);
        let step_spec = StepAttentionSpec { rows: 1, capacity: CAPACITY, heads: 2, head_dim: WIDTH / 2 };
        let (context, _) = step_attention(qkv, self.cache.clone(), self.state.clone(), None, step_spec);
        let logits = layer_norm(context, self.norm.clone(), 1, WIDTH, 1e-6);
        let advance_spec =
            AdvanceSpec { rows: 1, vocab: WIDTH, eos: WIDTH as u32, min_length: 0, capacity: CAPACITY };
        advance(logits, self.state.clone(), self.history.clone(), advance_spec);
    }
}

#[test]
fn a_recorded_step_replays_as_the_next_steps() {
    let Some(gpu) = Gpu::open() else { return };
    let plain = Toy::new(&gpu);
    for _ in 0..CAPACITY {
        plain.step();
    }
    let expected = read_ints(&plain.history);
    let tokens: std::collections::BTreeSet<i32> = expected.iter().copied().step_by(2).collect();
    assert!(tokens.len() > 2, "the toy says something: {tokens:?}");

    let toy = Toy::new(&gpu);
    let client = toy.state.client.clone();
    client.graph_prepare().unwrap();
    for _ in 0..2 {
        toy.step();
    }
    client.start_capture().unwrap();
    toy.step();
    let graph = client.stop_capture().unwrap();
    for _ in 2..CAPACITY {
        // SAFETY: `toy` holds every tensor that outlives a step, and the graph holds the rest; all of it
        // is used on this thread's stream only.
        unsafe { graph.replay() }.unwrap();
    }
    assert_eq!(read_ints(&toy.history), expected);
    assert_eq!(read_ints(&toy.state)[state::POSITION], CAPACITY as i32);
}
