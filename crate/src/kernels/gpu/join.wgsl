// Rows of two tensors beside each other, bit by bit. The reference is `composed::join`.
//
// One invocation eight bytes.

struct Info {
    // Widths of both in units of eight bytes.
    left: u32,
    right: u32,
    // Units of the result.
    total: u32,
}

@binding(next) var<storage, read> a: array<vec2<u32>>;
@binding(next) var<storage, read> b: array<vec2<u32>>;
@binding(next) var<storage, read_write> result: array<vec2<u32>>;
@binding(next) var<uniform> info: Info;

@compute @workgroup_size({{invocations}})
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = global.y * groups.x * {{invocations}}u + global.x;
    if (index >= info.total) {
        return;
    }
    let width = info.left + info.right;
    let row = index / width;
    let column = index % width;
    if (column < info.left) {
        result[index] = a[row * info.left + column];
    } else {
        result[index] = b[row * info.right + column - info.left];
    }
}
