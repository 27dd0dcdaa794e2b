// Word plus position embedding. The reference is `composed::embed`.
//
// One invocation a vec4 of the result; `lanes` are the vec4 of a row. Quantised codes and their
// scales lie as in `contract::Format`.
{{enable}}

struct Info {
    tokens: u32,
    lanes: u32,
    // Rows of the table and of the positions.
    vocab: u32,
    longest: u32,
    // Tokens of a sequence, and those before its first.
    seq: u32,
    past: u32,
    // u32 of a row's codes and of its scales.
    codes: u32,
    scales: u32,
    // vec4 that share a scale.
    group: u32,
}

@binding(next) var<storage, read> ids: array<u32>;
#if packed
@binding(next) var<storage, read> table: array<u32>;
#else
@binding(next) var<storage, read> table: array<vec4<{{table}}>>;
#end
#if scaled
// Pairs of f16.
@binding(next) var<storage, read> scales: array<u32>;
#end
@binding(next) var<storage, read> positions: array<vec4<{{float}}>>;
@binding(next) var<storage, read_write> result: array<vec4<{{float}}>>;
@binding(next) var<uniform> info: Info;

fn word(id: u32, lane: u32) -> vec4<f32> {
#if f16
    let at = id * info.codes + 2u * lane;
    return vec4<f32>(unpack2x16float(table[at]), unpack2x16float(table[at + 1u]));
#end
#if q8
    // Each byte to the top, so that the shift back extends its sign.
    let codes = vec4<i32>(vec4<u32>(table[id * info.codes + lane]) << vec4<u32>(24u, 16u, 8u, 0u));
    return vec4<f32>(codes >> vec4<u32>(24u)) * scale(id, lane);
#end
#if q4
    let half = table[id * info.codes + lane / 2u] >> (lane % 2u * 16u);
    let codes = (vec4<u32>(half) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
    return (vec4<f32>(codes) - 8.0) * scale(id, lane);
#end
#if !packed
    return vec4<f32>(table[id * info.lanes + lane]);
#end
}
#if scaled

fn scale(id: u32, lane: u32) -> f32 {
    let group = lane / info.group;
    return unpack2x16float(scales[id * info.scales + group / 2u])[group % 2u];
}
#end

@compute @workgroup_size({{invocations}})
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = global.y * groups.x * {{invocations}}u + global.x;
    let token = index / info.lanes;
    let lane = index % info.lanes;
    if (token >= info.tokens) {
        return;
    }
#if state
    let place = ids[0];
    let named = ids[{{first}}u + token];
#else
    let place = info.past + token % info.seq;
    let named = ids[token];
#end
    let id = select(0u, named, named < info.vocab);
    let position = min(place, info.longest - 1u);
    let sum = word(id, lane) + vec4<f32>(positions[position * info.lanes + lane]);
    result[index] = vec4<{{float}}>(sum);
}
