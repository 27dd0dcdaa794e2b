{{enable}}
// The order of logits, shared by `best`, `top_k` and `advance`: by value, and of equals the lower id
// first. Values are compared as integers, because WGSL may assume that there are no NaNs; a NaN
// comes after everything.

// Where no logit is.
const NOTHING = 0u;
// `ordered` of minus infinity.
const LEAST = 0x00800000u;
// Its bits as an f32.
const MINUS_INFINITY = 0xff800000u;

// A number that orders as `value` does.
fn ordered(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    let magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return NOTHING;
    }
    // Both zeros are equal.
    return select(0x80000000u + magnitude, 0x80000000u - magnitude, bits != magnitude);
}

// The bits of the value that `ordered` made `key` of.
fn bits_of(key: u32) -> u32 {
    if (key == NOTHING) {
        return MINUS_INFINITY;
    }
    return select(0x80000000u | (0x80000000u - key), key - 0x80000000u, key >= 0x80000000u);
}

// A logit: its key and its id.
fn before(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}

// The maximum is folded over the workgroup in two steps of SIDE.
const SIDE = {{side}}u;
const INVOCATIONS = {{side}}u * {{side}}u;
var<workgroup> heads: array<vec2<u32>, INVOCATIONS>;
var<workgroup> leaders: array<vec2<u32>, SIDE>;

// The first in order of what the invocations bring.
fn first_of(local: u32, mine: vec2<u32>) -> vec2<u32> {
    heads[local] = mine;
    workgroupBarrier();
    if (local < SIDE) {
        var leader = heads[local * SIDE];
        for (var i = 1u; i < SIDE; i++) {
            let other = heads[local * SIDE + i];
            if (before(other, leader)) {
                leader = other;
            }
        }
        leaders[local] = leader;
    }
    workgroupBarrier();
    var leader = leaders[0];
    for (var i = 1u; i < SIDE; i++) {
        if (before(leaders[i], leader)) {
            leader = leaders[i];
        }
    }
    return leader;
}

var<workgroup> parts: array<f32, INVOCATIONS>;

// The sum of what the invocations bring.
fn sum_of(local: u32, mine: f32) -> f32 {
    parts[local] = mine;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < INVOCATIONS; i++) {
        sum += parts[i];
    }
    return sum;
}
