
// Merges the chunks of `best` into the next token of every row, records it and moves the decoding
// state on. The reference is `composed::advance`.
//
// One workgroup in all, as the position may only move once every row is done. `history` holds the
// bits of an f32 beside each token.

struct Info {
    rows: u32,
    chunks: u32,
    eos: u32,
    // Positions that the history has room for.
    capacity: u32,
}

@binding(next) var<storage, read> best: array<u32>;
@binding(next) var<storage, read_write> state: array<u32>;
@binding(next) var<storage, read_write> history: array<u32>;
@binding(next) var<uniform> info: Info;

// Of a list of one.
const STRIDE = 4u;
const TOKENS = {{first}}u;

@compute @workgroup_size({{invocations}})
fn main(@builtin(local_invocation_index) local: u32) {
    let position = state[0];
    for (var row = 0u; row < info.rows; row++) {
        var mine = vec2<u32>(NOTHING, 0u);
        var peak = NOTHING;
        var part = 0.0;
        if (local < info.chunks) {
            let list = (row * info.chunks + local) * STRIDE;
            mine = vec2<u32>(best[list], best[list + 1u]);
            peak = best[list + 2u];
            part = bitcast<f32>(best[list + 3u]);
        }
        let chosen = first_of(local, mine);
        let top = first_of(local, vec2<u32>(peak, 0u)).x;
        let highest = bitcast<f32>(bits_of(top));
        if (peak > LEAST) {
            part *= exp(bitcast<f32>(bits_of(peak)) - highest);
        }
        let sum = sum_of(local, part);
        if (local == 0u) {
            let flag = TOKENS + info.rows + row;
            var token = chosen.y;
            var score = bitcast<f32>(bits_of(chosen.x)) - (highest + log(sum));
            if (state[flag] != 0u) {
                token = info.eos;
                score = 0.0;
            }
            if (token == info.eos) {
                state[flag] = 1u;
            }
            state[TOKENS + row] = token;
            if (position < info.capacity) {
                let at = 2u * (position * info.rows + row);
                history[at] = token;
                history[at + 1u] = bitcast<u32>(score);
            }
        }
    }
    // Every invocation has read the position before the first barrier.
    if (local == 0u) {
        state[0] = position + 1u;
    }
}
