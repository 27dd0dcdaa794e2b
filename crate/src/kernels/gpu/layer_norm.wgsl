// y = (x - mean(x)) / sqrt(var(x) + epsilon) · scale + shift of each row, or, with `length`,
// y = x / max(|x|, epsilon). The references are `composed::layer_norm` and `composed::normalise`.
//
// One workgroup a row. The variance is that of the centred values, as squares of uncentred ones
// would cancel. Widths count elements of {{wide}}.
{{enable}}

struct Info {
    rows: u32,
    // Elements of a row.
    width: u32,
    // 1 / scalars of a row.
    share: f32,
    epsilon: f32,
}

const INVOCATIONS = {{invocations}}u;
// Workgroups along x.
const ACROSS = {{across}}u;

@binding(next) var<storage, read> x: array<{{stored}}>;
#if !length
// Scale, then shift.
@binding(next) var<storage, read> norm: array<{{wide}}>;
#end
@binding(next) var<storage, read_write> result: array<{{stored}}>;
@binding(next) var<uniform> info: Info;

var<workgroup> squares: array<f32, INVOCATIONS>;
#if !length
var<workgroup> means: array<f32, INVOCATIONS>;
#end

fn total_of(v: {{wide}}) -> f32 {
#if vectors
    return dot(v, {{wide}}(1.0));
#else
    return v;
#end
}

@compute @workgroup_size({{invocations}})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = group.y * ACROSS + group.x;
    if (index >= info.rows) {
        return;
    }
    let row = index * info.width;
#if length
    let mean = 0.0;
#else
    var part = {{wide}}();
    for (var i = local; i < info.width; i += INVOCATIONS) {
        part += {{wide}}(x[row + i]);
    }
    means[local] = total_of(part);
    workgroupBarrier();
    var mean = 0.0;
    for (var i = 0u; i < INVOCATIONS; i++) {
        mean += means[i];
    }
    mean *= info.share;
#end
    var square = {{wide}}();
    for (var i = local; i < info.width; i += INVOCATIONS) {
        let centred = {{wide}}(x[row + i]) - mean;
        square += centred * centred;
    }
    squares[local] = total_of(square);
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < INVOCATIONS; i++) {
        total += squares[i];
    }
#if length
    let scale = 1.0 / max(sqrt(total), info.epsilon);
    for (var i = local; i < info.width; i += INVOCATIONS) {
        result[row + i] = {{stored}}({{wide}}(x[row + i]) * scale);
    }
#else
    let scale = inverseSqrt(total * info.share + info.epsilon);
    for (var i = local; i < info.width; i += INVOCATIONS) {
        let y = ({{wide}}(x[row + i]) - mean) * scale * norm[i] + norm[info.width + i];
        result[row + i] = {{stored}}(y);
    }
#end
}
