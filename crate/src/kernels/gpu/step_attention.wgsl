// One decoding step's self-attention with a cache: writes the new token's keys and values at the
// state's position, then softmax(q·kᵀ/√d)·v over all tokens so far. The reference is
// `composed::step_attention`.
//
// Workgroup (row, head); the work within is shared as in `attention_few`. The cache is bound once,
// as both input and output: the new token's slot is written and never read here (the new keys come
// from `qkv`), and earlier slots are read and never written, so workgroups do not interfere.
// Widths count vec4.
{{enable}}

struct Info {
    heads: u32,
    // Tokens a row of the cache has room for.
    capacity: u32,
    scale: f32,
}

// vec4 of a head.
const LANES = {{lanes}}u;
const INVOCATIONS = {{invocations}}u;
// Maxima are folded in two steps.
const SIDE = {{side}}u;
const PARTS = INVOCATIONS / LANES;
const TILE = {{tile}}u;
// Smaller than any score.
const LOWEST = -1e30;

@binding(next) var<storage, read> qkv: array<vec4<{{float}}>>;
@binding(next) var<storage, read_write> cache: array<vec4<{{float}}>>;
@binding(next) var<storage, read> state: array<u32>;
#if lineage
@binding(next) var<storage, read> lineage: array<u32>;
#end
@binding(next) var<storage, read_write> result: array<vec4<{{float}}>>;
@binding(next) var<uniform> info: Info;

var<workgroup> weights: array<f32, TILE>;
var<workgroup> folded: array<f32, INVOCATIONS>;
var<workgroup> peaks: array<f32, SIDE>;
var<workgroup> sums: array<vec4<f32>, INVOCATIONS>;

// Where the keys of an earlier token of `row` lie; its values lie `width` further.
fn slot(row: u32, token: u32, width: u32) -> u32 {
#if lineage
    return (lineage[row * info.capacity + token] * info.capacity + token) * 2u * width;
#else
    return (row * info.capacity + token) * 2u * width;
#end
}

@compute @workgroup_size({{invocations}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = group.x;
    let head = group.y;
    let width = info.heads * LANES;
    let column = head * LANES;
    // A full cache would be a mistake of the caller's; memory stays safe.
    let position = min(state[0], info.capacity - 1u);
    let new_q = row * 3u * width + column;
    let new_k = new_q + width;
    let new_v = new_k + width;
    let lane = local % LANES;
    let part = local / LANES;

    if (part == 0u) {
        let at = (row * info.capacity + position) * 2u * width + column + lane;
        cache[at] = qkv[new_k + lane];
        cache[at + width] = qkv[new_v + lane];
    }
    var q: array<vec4<f32>, LANES>;
    // The new token's own score, value and weight start the sums of the first part.
    var top = 0.0;
    for (var l = 0u; l < LANES; l++) {
        q[l] = vec4<f32>(qkv[new_q + l]) * info.scale;
        top += dot(q[l], vec4<f32>(qkv[new_k + l]));
    }
    var total = select(0.0, 1.0, local == 0u);
    var sum = select(vec4<f32>(), vec4<f32>(qkv[new_v + lane]), part == 0u);

    for (var start = 0u; start < position; start += TILE) {
        let stop = min(start + TILE, position);
        var peak = LOWEST;
        for (var token = start + local; token < stop; token += INVOCATIONS) {
            let at = slot(row, token, width) + column;
            var score = 0.0;
            for (var l = 0u; l < LANES; l++) {
                score += dot(q[l], vec4<f32>(cache[at + l]));
            }
            weights[token - start] = score;
            peak = max(peak, score);
        }
        folded[local] = peak;
        workgroupBarrier();
        if (local < SIDE) {
            for (var i = 0u; i < SIDE; i++) {
                peak = max(peak, folded[local * SIDE + i]);
            }
            peaks[local] = peak;
        }
        workgroupBarrier();
        peak = top;
        for (var i = 0u; i < SIDE; i++) {
            peak = max(peak, peaks[i]);
        }
        let decay = exp(top - peak);
        top = peak;
        total *= decay;
        sum *= decay;
        for (var token = start + local; token < stop; token += INVOCATIONS) {
            let weight = exp(weights[token - start] - peak);
            weights[token - start] = weight;
            total += weight;
        }
        workgroupBarrier();
        if (part < PARTS) {
            for (var token = start + part; token < stop; token += PARTS) {
                let at = slot(row, token, width) + column + width;
                sum += weights[token - start] * vec4<f32>(cache[at + lane]);
            }
        }
        // The next tile overwrites the weights.
        workgroupBarrier();
    }
    folded[local] = total;
    sums[local] = sum;
    workgroupBarrier();
    if (local < LANES) {
        total = 0.0;
        for (var i = 0u; i < INVOCATIONS; i++) {
            total += folded[i];
        }
        sum = vec4<f32>();
        for (var p = 0u; p < PARTS; p++) {
            sum += sums[p * LANES + local];
        }
        result[row * width + column + local] = vec4<{{float}}>(sum / total);
    }
}
