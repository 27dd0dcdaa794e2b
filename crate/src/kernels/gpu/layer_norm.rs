//! LayerNorm, and division of rows by their length.

use burn_cubecl::tensor::CubeTensor;

use super::adapter::Adapter;
use super::launch::{Buffer, Float, Shader, fill, holding, launch, output, words};

/// See [`Kernels::layer_norm`](crate::kernels::Kernels::layer_norm).
pub(super) fn layer_norm(
    x: CubeTensor,
    norm: CubeTensor,
    rows: usize,
    width: usize,
    epsilon: f32,
) -> CubeTensor {
    assert_eq!(norm.meta.num_elements(), 2 * width, "a norm is a scale and a shift");
    over_rows(&x, Some(&norm), rows, width, epsilon)
}

/// See [`Kernels::normalise`](crate::kernels::Kernels::normalise).
pub(super) fn normalise(x: CubeTensor, rows: usize, width: usize) -> CubeTensor {
    over_rows(&x, None, rows, width, 1e-12)
}

fn over_rows(
    x: &CubeTensor,
    norm: Option<&CubeTensor>,
    rows: usize,
    width: usize,
    epsilon: f32,
) -> CubeTensor {
    assert_eq!(x.meta.num_elements(), rows * width, "the rows are all there is");
    let result = output(x, [rows, width], x.dtype);
    let shader = LayerNorm {
        float: Float::of(x),
        length: norm.is_none(),
        vectors: width.is_multiple_of(4),
        invocations: invocations(Adapter::current()),
    };
    let lanes = if shader.vectors { width / 4 } else { width };
    let [rows, lanes] = words([rows, lanes]);
    let count = [rows.min(ACROSS), rows.div_ceil(ACROSS), 1];
    let share = 1.0 / width as f32;
    let mut buffers = vec![Buffer::Read(x)];
    buffers.extend(norm.map(Buffer::Read));
    buffers.push(Buffer::Write(&result));
    launch(shader, count, &buffers, &[rows, lanes, share.to_bits(), epsilon.to_bits()]);
    result
}

/// Workgroups along x, below WebGPU's limit of 65535.
const ACROSS: u32 = 1 << 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LayerNorm {
    pub float: Float,
    /// Divides by the length instead.
    pub length: bool,
    /// Rows are whole vectors of four.
    pub vectors: bool,
    /// Those that share a row.
    pub invocations: u32,
}

/// Measured: SwiftShader takes a quarter of the time with one of its vectors a row.
fn invocations(adapter: Adapter) -> u32 {
    match adapter {
        Adapter::Hardware => 64,
        Adapter::Software => 4,
    }
}

impl Shader for LayerNorm {
    fn workgroup(&self) -> [u32; 3] {
        [self.invocations, 1, 1]
    }

    fn source(&self) -> String {
        let of = |float: &str| if self.vectors { format!("vec4<{float}>") } else { float.into() };
        fill(
            include_str!("layer_norm.wgsl"),
            &[
                ("enable", self.float.enable()),
                ("stored", &of(self.float.wgsl())),
                ("wide", &of("f32")),
                ("invocations", &self.invocations.to_string()),
                ("across", &ACROSS.to_string()),
            ],
            &holding(&[("length", self.length), ("vectors", self.vectors)]),
        )
    }
}

/// Shaders for [`sources`](super::sources).
#[cfg(not(target_family = "wasm"))]
pub(super) fn variants(float: Float) -> Vec<LayerNorm> {
    let each = |length| {
        [(true, 64), (false, 4)].map(|(vectors, invocations)| LayerNorm {
            float,
            length,
            vectors,
            invocations,
        })
    };
    [false, true].into_iter().flat_map(each).collect()
}
