
// Merges the chunks of `best` into the highest logits of a row, in order, their ids as floats, and
// the row's log-sum-exp. The reference is `composed::top_k`.
//
// One workgroup a row; each invocation walks down one chunk's list.

struct Info {
    chunks: u32,
    count: u32,
}

@binding(next) var<storage, read> best: array<u32>;
// The bits of f32, as an infinity cannot be written in WGSL.
@binding(next) var<storage, read_write> result: array<u32>;
@binding(next) var<uniform> info: Info;

@compute @workgroup_size({{invocations}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let stride = 2u * info.count + 2u;
    let list = (group.x * info.chunks + local) * stride;
    let base = group.x * (2u * info.count + 1u);
    let walks = local < info.chunks;

    var peak = NOTHING;
    var part = 0.0;
    if (walks) {
        peak = best[list + 2u * info.count];
        part = bitcast<f32>(best[list + 2u * info.count + 1u]);
    }
    let top = first_of(local, vec2<u32>(peak, 0u)).x;
    let highest = bitcast<f32>(bits_of(top));
    if (peak > LEAST) {
        part *= exp(bitcast<f32>(bits_of(peak)) - highest);
    }
    let sum = sum_of(local, part);
    if (local == 0u) {
        result[base + 2u * info.count] = select(MINUS_INFINITY, bitcast<u32>(highest + log(sum)), top > LEAST);
    }

    var taken = 0u;
    for (var i = 0u; i < info.count; i++) {
        var mine = vec2<u32>(NOTHING, 0u);
        if (walks && taken < info.count) {
            mine = vec2<u32>(best[list + taken], best[list + info.count + taken]);
        }
        let next = first_of(local, mine);
        if (next.x != NOTHING && all(next == mine)) {
            taken++;
        }
        if (local == 0u) {
            result[base + i] = bits_of(next.x);
            result[base + info.count + i] = bitcast<u32>(f32(next.y));
        }
    }
}
