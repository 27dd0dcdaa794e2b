// Some rows of a tensor, bit by bit. The reference is `composed::rows`.
//
// One invocation eight bytes.

struct Info {
    // Where the first row begins, in units of eight bytes.
    first: u32,
    // Units of the result.
    total: u32,
}

@binding(next) var<storage, read> x: array<vec2<u32>>;
@binding(next) var<storage, read_write> result: array<vec2<u32>>;
@binding(next) var<uniform> info: Info;

@compute @workgroup_size({{invocations}})
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = global.y * groups.x * {{invocations}}u + global.x;
    if (index < info.total) {
        result[index] = x[info.first + index];
    }
}
