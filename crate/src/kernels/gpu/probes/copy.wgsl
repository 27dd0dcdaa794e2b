// The rate at which an adapter copies: 16 bytes read and 16 written an invocation. The bar of a product
// with few rows, which does nothing but read a matrix, is a fraction of it.

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
    let at = id.y * count.x * 64u + id.x;
    if (at < arrayLength(&x)) {
        y[at] = x[at];
    }
}
