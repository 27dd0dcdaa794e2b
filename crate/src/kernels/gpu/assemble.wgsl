// The class token in front of the patches of each image, plus positions. The reference is
// `composed::assemble`.
//
// One invocation a vec4 of the result.
{{enable}}

struct Info {
    // vec4 of a row.
    lanes: u32,
    // Rows of an image: the class token and its patches.
    rows: u32,
    // vec4 of the result.
    total: u32,
}

@binding(next) var<storage, read> patches: array<vec4<{{float}}>>;
@binding(next) var<storage, read> class_token: array<vec4<{{constant}}>>;
@binding(next) var<storage, read> positions: array<vec4<{{constant}}>>;
@binding(next) var<storage, read_write> result: array<vec4<{{float}}>>;
@binding(next) var<uniform> info: Info;

@compute @workgroup_size({{invocations}})
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let index = global.y * groups.x * {{invocations}}u + global.x;
    if (index >= info.total) {
        return;
    }
    let lane = index % info.lanes;
    let row = index / info.lanes;
    let place = row % info.rows;
    var sum = vec4<f32>(positions[place * info.lanes + lane]);
    if (place == 0u) {
        sum += vec4<f32>(class_token[lane]);
    } else {
        // One class token stands before each image's patches, this image's included.
        sum += vec4<f32>(patches[(row - row / info.rows - 1u) * info.lanes + lane]);
    }
    result[index] = vec4<{{float}}>(sum);
}
