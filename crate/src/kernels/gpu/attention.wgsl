// softmax(q·kᵀ/√d)·v by head, in one pass over the keys with a running maximum
// (Milakov and Gimelshein 2018; Dao et al. 2022). The reference is `composed::attention`.
//
// One invocation a query: workgroup (x, head, sequence) has queries x·QUERIES and on. Four keys are
// scored at a time, so that the sums are rescaled once for four. Strides and offsets count vec4.
// With `tiled`, the workgroup shares tiles of keys and values; without, there is no barrier.
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
const QUERIES = {{queries}}u;
// Smaller than any score; masked keys weigh nothing beside a key that is seen, and equally otherwise.
const LOWEST = -1e30;

@binding(next) var<storage, read> queries: array<vec4<{{float}}>>;
@binding(next) var<storage, read> pairs: array<vec4<{{float}}>>;
#if pads
@binding(next) var<storage, read> pads: array<i32>;
#end
@binding(next) var<storage, read_write> result: array<vec4<{{float}}>>;
@binding(next) var<uniform> info: Info;
#if tiled

const TILE = {{tile}}u;
var<workgroup> tile_k: array<vec4<{{float}}>, TILE * LANES>;
var<workgroup> tile_v: array<vec4<{{float}}>, TILE * LANES>;

fn key_at(i: u32) -> vec4<f32> {
    return vec4<f32>(tile_k[i]);
}

fn value_at(i: u32) -> vec4<f32> {
    return vec4<f32>(tile_v[i]);
}
#else

fn key_at(i: u32) -> vec4<f32> {
    return vec4<f32>(pairs[i + info.k_offset]);
}

fn value_at(i: u32) -> vec4<f32> {
    return vec4<f32>(pairs[i + info.v_offset]);
}
#end

@compute @workgroup_size({{queries}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let head = group.y;
    let sequence = group.z;
    let query = group.x * QUERIES + local;
    // Invocations past the last query repeat it, so that none is idle at a barrier.
    let row = sequence * info.queries + min(query, info.queries - 1u);
    let kv_base = sequence * info.kv_batch_stride + head * LANES;

    var q: array<vec4<f32>, LANES>;
    var sum: array<vec4<f32>, LANES>;
    let q_base = row * info.q_stride + info.q_offset + head * LANES;
    for (var l = 0u; l < LANES; l++) {
        q[l] = vec4<f32>(queries[q_base + l]) * info.scale;
        sum[l] = vec4<f32>();
    }
    var top = LOWEST;
    var total = 0.0;

#if causal
    let end = min(info.keys, info.past + min((group.x + 1u) * QUERIES, info.queries));
    let seen = min(info.keys, info.past + query + 1u);
#else
    let end = info.keys;
    let seen = info.keys;
#end
#if tiled
    for (var start = 0u; start < end; start += TILE) {
        workgroupBarrier();
        for (var i = local; i < TILE * LANES; i += QUERIES) {
            // Past the last key stands the last once more; its weight will be zero.
            let at = kv_base + min(start + i / LANES, info.keys - 1u) * info.kv_stride + i % LANES;
            tile_k[i] = pairs[at + info.k_offset];
            tile_v[i] = pairs[at + info.v_offset];
        }
        workgroupBarrier();
        let stop = min(start + TILE, end);
        for (var key = start; key < stop; key += 4u) {
            let a = (key - start) * LANES;
            let b = a + LANES;
            let c = b + LANES;
            let d = c + LANES;
#else
        for (var key = 0u; key < end; key += 4u) {
            let last = info.keys - 1u;
            let a = kv_base + key * info.kv_stride;
            let b = kv_base + min(key + 1u, last) * info.kv_stride;
            let c = kv_base + min(key + 2u, last) * info.kv_stride;
            let d = kv_base + min(key + 3u, last) * info.kv_stride;
#end
            var score = vec4<f32>();
            for (var l = 0u; l < LANES; l++) {
                score += vec4<f32>(
                    dot(q[l], key_at(a + l)),
                    dot(q[l], key_at(b + l)),
                    dot(q[l], key_at(c + l)),
                    dot(q[l], key_at(d + l)),
                );
            }
            let ids = vec4<u32>(key, key + 1u, key + 2u, key + 3u);
#if pads
            let flags = sequence * info.pads_stride + min(ids, vec4<u32>(info.keys - 1u));
            let padded = vec4<i32>(pads[flags.x], pads[flags.y], pads[flags.z], pads[flags.w]) != vec4<i32>();
            score = select(score, vec4<f32>(LOWEST), padded);
#end
            let there = ids < vec4<u32>(seen);
            score = select(vec4<f32>(LOWEST), score, there);
            let peak = max(max(max(score.x, score.y), max(score.z, score.w)), top);
            let decay = exp(top - peak);
            let weight = select(vec4<f32>(), exp(score - vec4<f32>(peak)), there);
            top = peak;
            total = total * decay + dot(weight, vec4<f32>(1.0));
            for (var l = 0u; l < LANES; l++) {
                sum[l] = sum[l] * decay
                    + weight.x * value_at(a + l)
                    + weight.y * value_at(b + l)
                    + weight.z * value_at(c + l)
                    + weight.w * value_at(d + l);
            }
        }
#if tiled
    }
#end
    if (query < info.queries) {
        let base = (row * info.heads + head) * LANES;
        for (var l = 0u; l < LANES; l++) {
            result[base + l] = vec4<{{float}}>(sum[l] / total);
        }
    }
}
