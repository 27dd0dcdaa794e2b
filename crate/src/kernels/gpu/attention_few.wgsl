// softmax(q·kᵀ/√d)·v by head for few queries: the workgroup shares the keys of one query, because
// with one invocation a query most of the device would idle. The reference is `composed::attention`.
//
// Workgroup (row, head) of PARTS·LANES invocations at least. A tile of keys is scored, one key an
// invocation; then invocation (part, lane) sums one vec4 of the values of every PARTS-th key.
// Strides and offsets count vec4.
{{enable}}

struct Info {
    queries: u32,
    keys: u32,
    heads: u32,
    q_stride: u32,
    q_offset: u32,
    kv_stride: u32,
    // 0 where all sequences share their keys.
    kv_batch_stride: u32,
    k_offset: u32,
    v_offset: u32,
    // Keys before the first query.
    past: u32,
    // Elements from one sequence's flags to the next.
    pads_stride: u32,
    scale: f32,
}

// vec4 of a head.
const LANES = {{lanes}}u;
const INVOCATIONS = {{invocations}}u;
// Maxima are folded in two steps.
const SIDE = {{side}}u;
const PARTS = INVOCATIONS / LANES;
const TILE = {{tile}}u;
// Smaller than any score; masked keys weigh nothing beside a key that is seen, and equally otherwise.
const LOWEST = -1e30;

@binding(next) var<storage, read> queries: array<vec4<{{float}}>>;
@binding(next) var<storage, read> pairs: array<vec4<{{float}}>>;
#if pads
@binding(next) var<storage, read> pads: array<i32>;
#end
@binding(next) var<storage, read_write> result: array<vec4<{{float}}>>;
@binding(next) var<uniform> info: Info;

var<workgroup> weights: array<f32, TILE>;
var<workgroup> folded: array<f32, INVOCATIONS>;
var<workgroup> peaks: array<f32, SIDE>;
var<workgroup> sums: array<vec4<f32>, INVOCATIONS>;

@compute @workgroup_size({{invocations}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = group.x;
    let head = group.y;
    let sequence = row / info.queries;
    let q_base = row * info.q_stride + info.q_offset + head * LANES;
    let kv_base = sequence * info.kv_batch_stride + head * LANES;
#if causal
    let end = min(info.keys, info.past + row % info.queries + 1u);
#else
    let end = info.keys;
#end
    let lane = local % LANES;
    let part = local / LANES;

    var q: array<vec4<f32>, LANES>;
    for (var l = 0u; l < LANES; l++) {
        q[l] = vec4<f32>(queries[q_base + l]) * info.scale;
    }
    var top = LOWEST;
    var total = 0.0;
    var sum = vec4<f32>();
    for (var start = 0u; start < end; start += TILE) {
        let stop = min(start + TILE, end);
        var peak = LOWEST;
        for (var key = start + local; key < stop; key += INVOCATIONS) {
            let at = kv_base + key * info.kv_stride + info.k_offset;
            var score = 0.0;
            for (var l = 0u; l < LANES; l++) {
                score += dot(q[l], vec4<f32>(pairs[at + l]));
            }
#if pads
            if (pads[sequence * info.pads_stride + key] != 0) {
                score = LOWEST;
            }
#end
            weights[key - start] = score;
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
        for (var key = start + local; key < stop; key += INVOCATIONS) {
            let weight = exp(weights[key - start] - peak);
            weights[key - start] = weight;
            total += weight;
        }
        workgroupBarrier();
        if (part < PARTS) {
            for (var key = start + part; key < stop; key += PARTS) {
                let at = kv_base + key * info.kv_stride + info.v_offset;
                sum += weights[key - start] * vec4<f32>(pairs[at + lane]);
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
        result[(row * info.heads + head) * LANES + local] = vec4<{{float}}>(sum / total);
    }
}
