// Many rows on hardware: a workgroup of 16 × 8 invocations computes 64 × 64 outputs, each of them 8 rows
// of 4 columns in registers. 32 columns of both operands at a time lie in workgroup memory, the matrix
// already dequantised, by column: `rows_of[k]` is 16 vectors of four rows. Vector `v` of column `k` stands
// at place `v ^ (k / 4)`, so that the eight invocations that write neighbouring columns of one vector
// reach eight different banks.

var<workgroup> rows_of: array<vec4<f32>, 512>;
var<workgroup> outputs_of: array<vec4<f32>, 512>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    // Each invocation brings a block of 4 × 4 of each operand; neighbours stand side by side in memory.
    let quad = invocation % 8u;
    let four = invocation / 8u;
    let place = quad * 64u + (four ^ quad);
    #each i    let x{i} = min(tile.y * 64u + four * 4u + {i}u, info.rows - 1u) * info.stride;
    #each i    let n{i} = min(tile.x * 64u + four * 4u + {i}u, info.outputs - 1u);
    // And computes rows `8 * high ..` of columns `4 * wide ..`.
    let wide = invocation % 16u;
    let high = invocation / 16u;
    #each i    var a{i} = vec4<f32>();
    #each i    var b{i} = vec4<f32>();
    for (var step = 0u; step < info.steps; step++) {
        let at = step * 8u + quad;
#if ragged
        let inside = at < info.quads;
        let column = min(at, info.quads - 1u);
        #each i        let v{i} = select(vec4<f32>(), vec4<f32>(x[x{i} + column]), inside);
#else
        let column = at;
        #each i        let v{i} = vec4<f32>(x[x{i} + at]);
#end
#if scales
        let member = step / {{inner}}u;
        let odd = (member & 1u) == 1u;
        #each i        let pair{i} = unpack2x16float(scales[n{i} * info.scale_pitch + member / 2u]);
        #each i        let scale{i} = select(pair{i}.x, pair{i}.y, odd);
#end
#if q8
        #each i        let code{i} = vec4<u32>(w[n{i} * info.pitch + at] ^ 0x00808080u) & vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u);
        #each i        let m{i} = (vec4<f32>(vec4<i32>(code{i})) * PLACES + ZERO) * scale{i};
#end
#if q4
        // Two neighbours share a word; each moves its half to the low places.
        let shift = 16u * (at & 1u);
        #each i        let code{i} = vec4<u32>(w[n{i} * info.pitch + at / 2u] >> shift) & vec4<u32>(0xfu, 0xf0u, 0xf00u, 0xf000u);
        #each i        let m{i} = (vec4<f32>(code{i}) * PLACES + ZERO) * scale{i};
#end
#if f16
        #each i        let code{i} = w[n{i} * info.pitch + column];
        #each i        let m{i} = vec4<f32>(unpack2x16float(code{i}.x), unpack2x16float(code{i}.y));
#end
#if plain
        #each i        let m{i} = vec4<f32>(w[n{i} * info.pitch + column]);
#end
        workgroupBarrier();
        #each i        rows_of[place + {i}u * 16u] = vec4<f32>(v0[{i}], v1[{i}], v2[{i}], v3[{i}]);
        #each i        outputs_of[place + {i}u * 16u] = vec4<f32>(m0[{i}], m1[{i}], m2[{i}], m3[{i}]);
        workgroupBarrier();
        for (var k = 0u; k < 32u; k++) {
            let start = k * 16u;
            let twist = k / 4u;
            let right = outputs_of[start + (wide ^ twist)];
            let upper = rows_of[start + ((high * 2u) ^ twist)];
            let lower = rows_of[start + ((high * 2u + 1u) ^ twist)];
            #each i            a{i} += upper[{i}] * right;
            #each i            b{i} += lower[{i}] * right;
        }
    }
    let row = tile.y * 64u + high * 8u;
    let n = tile.x * 64u + wide * 4u;
    #each i    store(row + {i}u, n, a{i});
    #each i    store(row + 4u + {i}u, n, b{i});
}

fn store(row: u32, n: u32, sums: vec4<f32>) {
    if (row >= info.rows) {
        return;
    }
    for (var i = 0u; i < min(4u, max(n, info.outputs) - n); i++) {
        finish(row, n + i, sums[i]);
    }
}
