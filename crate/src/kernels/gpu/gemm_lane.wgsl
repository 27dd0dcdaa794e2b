// Products for renderers on the CPU: one invocation computes a tile of {{rows}} rows and {{columns}}
// columns in registers, without workgroup memory. Neighbours stand beside each other along the
// outputs, so that all of them want the same `x`; a load costs as much as many multiplications there,
// and a tile of this size needs few. The loop takes {{step}} columns a step: twice as many make it
// outgrow the cache of instructions in SwiftShader, where the same tile takes 1.6 times as long.

@compute @workgroup_size({{invocations}})
fn main(
    @builtin(workgroup_id) tile: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
#if subgroups
    @builtin(subgroup_invocation_id) place: u32,
#end
) {
#if norm
    measure(lane);
#end
    let row = tile.y * {{rows}}u;
    #each c    let n{c} = (tile.x * {{columns}}u + {c}u) * {{invocations}}u + lane;
    #each c    let w{c} = min(n{c}, info.outputs - 1u) * info.pitch;
#if subgroups
    // Each of eight neighbours loads one number of the row, and hands it to the others.
    #each r    let x{r} = min(row + {r}u, info.rows - 1u) * (info.stride * 4u) + (place & 7u);
#else
    #each r    let x{r} = min(row + {r}u, info.rows - 1u) * info.stride;
#end
    #each r c    var a{r}_{c} = 0.0;
    for (var outer = 0u; outer < info.steps; outer++) {
#if scales
        let odd = (outer & 1u) == 1u;
        #each c        let pair{c} = unpack2x16float(scales[min(n{c}, info.outputs - 1u) * info.scale_pitch + outer / 2u]);
        #each c        let scale{c} = select(pair{c}.x, pair{c}.y, odd);
        #each c        let by{c} = scale{c} * PLACES;
        #each c        let zero{c} = scale{c} * ZERO;
#if q4
        #each c        let top{c} = by{c} * (1.0 / 65536.0);
        #each c        let last{c} = vec4<f32>(zero{c}.xyz, 0.0);
#end
#end
        for (var inner = 0u; inner < {{inner}}u; inner++) {
            let at = outer * {{inner}}u + inner;
#if q8
            #each p c            let code{c}_{p} = vec4<u32>(w[w{c} + {{quads}}u * at + {p}u] ^ 0x00808080u) & vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u);
            #each p c            let m{c}_{p} = vec4<f32>(vec4<i32>(code{c}_{p})) * by{c} + zero{c};
#end
#if q4
            #each c            let code{c} = vec4<u32>(w[w{c} + at] ^ 0x80000000u);
            #each c            let m{c}_0 = vec4<f32>(vec4<i32>(code{c} & vec4<u32>(0xfu, 0xf0u, 0xf00u, 0xf000u))) * by{c} + zero{c};
            #each c            let m{c}_1 = vec4<f32>(vec4<i32>(code{c} & vec4<u32>(0xf0000u, 0xf00000u, 0xf000000u, 0xf0000000u))) * top{c} + last{c};
#end
#if f16
            #each p c            let code{c}_{p} = w[w{c} + {{column}}];
            #each p c            let m{c}_{p} = vec4<f32>(unpack2x16float(code{c}_{p}.x), unpack2x16float(code{c}_{p}.y));
#end
#if plain
            #each p c            let m{c}_{p} = vec4<f32>(w[w{c} + {{column}}]);
#end
            #each r
#if subgroups
            let own{r} = f32(x[x{r} + 8u * at]);
            let v{r}_0 = vec4<f32>(subgroupBroadcast(own{r}, 0u), subgroupBroadcast(own{r}, 1u), subgroupBroadcast(own{r}, 2u), subgroupBroadcast(own{r}, 3u));
            let v{r}_1 = vec4<f32>(subgroupBroadcast(own{r}, 4u), subgroupBroadcast(own{r}, 5u), subgroupBroadcast(own{r}, 6u), subgroupBroadcast(own{r}, 7u));
#else
#if staged
            #each p            let normed{r}_{p} = stage[{r}u * info.quads + {{column}}];
#else
            #each p            let plain{r}_{p} = vec4<f32>(x[x{r} + {{column}}]);
#if norm_input
            #each p            let normed{r}_{p} = normalised({r}u, {{column}}, plain{r}_{p});
#else
            #each p            let normed{r}_{p} = plain{r}_{p};
#end
#end
#if ragged
            #each p            let v{r}_{p} = select(vec4<f32>(), normed{r}_{p}, {{quads}}u * at + {p}u < info.quads);
#else
            #each p            let v{r}_{p} = normed{r}_{p};
#end
#end
            #each c p            a{r}_{c} += dot(v{r}_{p}, m{c}_{p});
            #done
        }
    }
    #each r c    if (row + {r}u < info.rows && n{c} < info.outputs) { finish(row + {r}u, n{c}, a{r}_{c}); }
}
