// What every kernel of `linear` shares: bindings, norms, the non-linearity, the end of an output.

{{enable}}
struct Info {
    // Of the result and of `x`.
    rows: u32,
    // Of the matrix.
    outputs: u32,
    // Vectors of four that a row of `x` holds, and from one row to the next.
    quads: u32,
    stride: u32,
    // Elements of `w` and of `scales` from one row of the matrix to the next.
    pitch: u32,
    scale_pitch: u32,
    // How often the kernel's loop over the columns runs.
    steps: u32,
    epsilon: f32,
}

@binding(next) var<storage, read> x: array<{{x}}>;
@binding(next) var<storage, read> w: array<{{w}}>;
#if scales
@binding(next) var<storage, read> scales: array<u32>;
#end
#if bias
@binding(next) var<storage, read> bias: array<f32>;
#end
#if norm
@binding(next) var<storage, read> norm: array<{{norm}}>;
#end
#if residual
@binding(next) var<storage, read> residual: array<{{float}}>;
#end
@binding(next) var<storage, read_write> y: array<{{float}}>;
@binding(next) var<uniform> info: Info;
#if quantised

// Codes are masked where they stand, never shifted, and their place (a power of two) is taken back
// with the scale: software renderers emulate shifts, and hardware loses nothing.
const PLACES = {{places}};
// The stored value 0 is `-ZERO`, but in the highest place, which reads as a signed number.
const ZERO = {{zero}};
#end
#if gelu

// x·Φ(x). The error function is Abramowitz and Stegun's 7.1.26, off by at most 1.5e-7.
fn gelu(v: f32) -> f32 {
    let z = abs(v) * 0.70710678;
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    let tail = 0.5 * series * exp(-z * z);
    return v * select(1.0 - tail, tail, v < 0.0);
}
#end
#if norm

// A row's mean and the reciprocal of its standard deviation.
var<workgroup> moments: array<vec2<f32>, {{rows}}>;
// Each invocation's count, sum and sum of squared distances from its own mean.
var<workgroup> shares: array<vec3<f32>, {{shares}}>;

#if norm_input
const ELEMENTS = 4.0;

fn width() -> u32 {
    return info.quads;
}

fn element(row: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(x[row * info.stride + i]);
}

fn total(v: vec4<f32>) -> f32 {
    return v.x + v.y + v.z + v.w;
}
#else
const ELEMENTS = 1.0;

fn width() -> u32 {
    return info.outputs;
}

fn element(row: u32, i: u32) -> f32 {
    return f32(residual[row * info.outputs + i]);
}

fn total(v: f32) -> f32 {
    return v;
}
#end

#if staged
// All rows of `x`, normalised.
var<workgroup> stage: array<vec4<f32>, {{stage}}>;

#end
// Fills `moments` (and the stage) for the rows of this workgroup, which are all rows there are.
fn measure(invocation: u32) {
    for (var row = 0u; row < {{rows}}u; row++) {
        var sum = 0.0;
        var count = 0.0;
        for (var i = invocation; i < width(); i += {{invocations}}u) {
            sum += total(element(row, i));
            count += ELEMENTS;
        }
        let mean = sum / max(count, 1.0);
        var squares = 0.0;
        for (var i = invocation; i < width(); i += {{invocations}}u) {
            let distance = element(row, i) - mean;
            squares += total(distance * distance);
        }
        shares[row * {{invocations}}u + invocation] = vec3<f32>(count, sum, squares);
    }
    workgroupBarrier();
    for (var row = invocation; row < {{rows}}u; row += {{invocations}}u) {
        let all = f32(width()) * ELEMENTS;
        var mean = 0.0;
        for (var i = 0u; i < {{invocations}}u; i++) {
            mean += shares[row * {{invocations}}u + i].y;
        }
        mean /= all;
        var squares = 0.0;
        for (var i = 0u; i < {{invocations}}u; i++) {
            let share = shares[row * {{invocations}}u + i];
            let distance = share.y / max(share.x, 1.0) - mean;
            squares += share.z + share.x * distance * distance;
        }
        moments[row] = vec2<f32>(mean, inverseSqrt(squares / all + info.epsilon));
    }
    workgroupBarrier();
#if staged
    for (var i = invocation; i < {{rows}}u * info.quads; i += {{invocations}}u) {
        let row = i / info.quads;
        let quad = i % info.quads;
        stage[i] = normalised(row, quad, element(row, quad));
    }
    workgroupBarrier();
#end
}
#end

// Writes one output, whose product with the matrix is known.
fn finish(row: u32, n: u32, product: f32) {
    var v = product;
#if bias
    v += bias[n];
#end
#if gelu
    v = gelu(v);
#end
#if relu
    v = max(v, 0.0);
#end
#if half
    v *= 0.5;
#end
#if residual
#if norm_residual
    let plain = f32(residual[row * info.outputs + n]);
    v += (plain - moments[row].x) * moments[row].y * norm[n] + norm[info.outputs + n];
#else
    v += f32(residual[row * info.outputs + n]);
#end
#end
    y[row * info.outputs + n] = {{float}}(v);
}
#if norm_input

// A vector of a normalised row.
fn normalised(row: u32, quad: u32, plain: vec4<f32>) -> vec4<f32> {
    return (plain - moments[row].x) * moments[row].y * norm[quad] + norm[info.quads + quad];
}
#end
