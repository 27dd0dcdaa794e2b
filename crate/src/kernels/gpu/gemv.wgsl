// Few rows on hardware: the matrix streams past once, for all {{rows}} rows. {{lanes}} neighbours share a
// row of the matrix and load 128 bytes of it side by side; each keeps {{columns}} such rows in flight.
// Their sums meet in workgroup memory.

var<workgroup> sums: array<f32, {{sums}}>;

@compute @workgroup_size({{invocations}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
#if norm
    measure(invocation);
#end
    let lane = invocation % {{lanes}}u;
    let first = (group.x * {{parts}}u + invocation / {{lanes}}u) * {{columns}}u;
    #each c    let n{c} = min(first + {c}u, info.outputs - 1u);
    #each r c    var a{r}_{c} = 0.0;
    for (var at = lane; at < info.steps; at += {{lanes}}u) {
        #each c        let code{c} = w[n{c} * info.pitch + at]{{flip}};
#if scales
        let member = at / {{inner}}u;
        let odd = (member & 1u) == 1u;
        #each c        let pair{c} = unpack2x16float(scales[n{c} * info.scale_pitch + member / 2u]);
        #each c        let scale{c} = select(pair{c}.x, pair{c}.y, odd);
        #each c        let by{c} = scale{c} * PLACES;
        #each c        let zero{c} = scale{c} * ZERO;
#if q4
        #each c        let top{c} = by{c} * (1.0 / 65536.0);
        #each c        let last{c} = vec4<f32>(zero{c}.xyz, 0.0);
#end
#end
        #each i
#if q8
        #each c        let m{c}_{i} = vec4<f32>(vec4<i32>(vec4<u32>(code{c}[{i}]) & vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u))) * by{c} + zero{c};
#end
#if q4
        #each c        let low{c}_{i} = vec4<f32>(vec4<i32>(vec4<u32>(code{c}[{i}]) & vec4<u32>(0xfu, 0xf0u, 0xf00u, 0xf000u))) * by{c} + zero{c};
        #each c        let m{c}_{i} = vec4<f32>(vec4<i32>(vec4<u32>(code{c}[{i}]) & vec4<u32>(0xf0000u, 0xf00000u, 0xf000000u, 0xf0000000u))) * top{c} + last{c};
#end
#if f16
        #each c        let m{c}_{i} = vec4<f32>(unpack2x16float(code{c}.x), unpack2x16float(code{c}.y));
#end
#if plain
        #each c        let m{c}_{i} = vec4<f32>(code{c});
#end
        #each r
#if q4
        let v{r}_{i} = load({r}u, at * 8u + {i}u * 2u);
        let u{r}_{i} = load({r}u, at * 8u + {i}u * 2u + 1u);
        #each c        a{r}_{c} += dot(v{r}_{i}, low{c}_{i}) + dot(u{r}_{i}, m{c}_{i});
#else
        let v{r}_{i} = load({r}u, at * {{words}}u + {i}u);
        #each c        a{r}_{c} += dot(v{r}_{i}, m{c}_{i});
#end
        #done
        #done
    }
    #each r c    sums[{r}u * {{pitch}}u + {c}u * {{invocations}}u + invocation] = a{r}_{c};
    workgroupBarrier();
    // Output `o` is row `o / outputs`, and within it part `o % parts` of column `o / parts`.
    for (var o = invocation; o < {{results}}u; o += {{invocations}}u) {
        let row = o / {{outputs}}u;
        let column = o % {{outputs}}u / {{parts}}u;
        let part = o % {{parts}}u;
        let start = row * {{pitch}}u + column * {{invocations}}u + part * {{lanes}}u;
        var sum = 0.0;
        for (var i = 0u; i < {{lanes}}u; i++) {
            sum += sums[start + i];
        }
        let n = (group.x * {{parts}}u + part) * {{columns}}u + column;
        if (n < info.outputs) {
            finish(row, n, sum);
        }
    }
}

// A vector of a row of `x`, as the matrix meets it.
fn load(row: u32, quad: u32) -> vec4<f32> {
#if ragged
    return select(vec4<f32>(), inside(row, min(quad, info.quads - 1u)), quad < info.quads);
#else
    return inside(row, quad);
#end
}

fn inside(row: u32, quad: u32) -> vec4<f32> {
#if staged
    return stage[row * info.quads + quad];
#else
    let plain = vec4<f32>(x[row * info.stride + quad]);
#if norm_input
    return normalised(row, quad, plain);
#else
    return plain;
#end
#end
}
