
// The highest logits of a chunk of a row, in order, and the chunk's sum of exponentials: the first
// half of `top_k` and of `advance`.
//
// Workgroup (chunk, row). Its result is COUNT keys, COUNT ids, then the key of the chunk's maximum
// and the sum of exp(logit - maximum) as bits.

struct Info {
    vocab: u32,
    // Logits of a chunk, and logits wanted of it.
    chunk: u32,
    count: u32,
#if state
    // While fewer tokens stand in a sequence, `eos` is not chosen.
    min_length: u32,
    eos: u32,
#end
}

@binding(next) var<storage, read> logits: array<{{float}}>;
#if state
@binding(next) var<storage, read> state: array<u32>;
#end
@binding(next) var<storage, read_write> result: array<u32>;
@binding(next) var<uniform> info: Info;

@compute @workgroup_size({{invocations}})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = group.y * info.vocab;
    let start = group.x * info.chunk + local;
    let stop = min((group.x + 1u) * info.chunk, info.vocab);
    let base = (group.y * groups.x + group.x) * (2u * info.count + 2u);
#if state
    // The position is that of the token whose logits these are.
    let too_short = state[0] + 1u < info.min_length;
#end

    var peak = NOTHING;
    for (var id = start; id < stop; id += INVOCATIONS) {
        peak = max(peak, ordered(f32(logits[row + id])));
    }
    peak = first_of(local, vec2<u32>(peak, 0u)).x;
    let highest = bitcast<f32>(bits_of(peak));
    var part = 0.0;
    for (var id = start; id < stop; id += INVOCATIONS) {
        let logit = f32(logits[row + id]);
        if (ordered(logit) > LEAST) {
            part += exp(logit - highest);
        }
    }
    let sum = sum_of(local, part);
    if (local == 0u) {
        result[base + 2u * info.count] = peak;
        result[base + 2u * info.count + 1u] = bitcast<u32>(sum);
    }

    // The last one taken; at first, before everything.
    var last = vec2<u32>(0xffffffffu, 0u);
    var mine = vec2<u32>(NOTHING, 0u);
    var stale = true;
    for (var i = 0u; i < info.count; i++) {
        if (stale) {
            mine = vec2<u32>(NOTHING, 0u);
            for (var id = start; id < stop; id += INVOCATIONS) {
                let other = vec2<u32>(ordered(f32(logits[row + id])), id);
#if state
                if (too_short && id == info.eos) {
                    continue;
                }
#end
                if (other.x != NOTHING && before(last, other) && before(other, mine)) {
                    mine = other;
                }
            }
        }
        last = first_of(local, mine);
        stale = all(last == mine);
        if (local == 0u) {
            result[base + i] = last.x;
            result[base + info.count + i] = last.y;
        }
    }
}
