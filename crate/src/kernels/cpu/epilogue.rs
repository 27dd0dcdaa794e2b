//! What happens to a product's elements before they are stored.

use super::super::contract::Activation;
use super::gelu::gelu;
use super::isa::Isa;
use super::pack::PANEL;

/// Bias, non-linearity and residual of a product of `outputs` columns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Added first: `[outputs]`.
    pub bias: Option<&'a [f32]>,
    /// What follows.
    pub activation: Activation,
    /// Added last: `[rows, outputs]`.
    pub residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    /// Panics unless the sizes are those of a product `[rows, outputs]`.
    pub fn check(&self, rows: usize, outputs: usize) {
        if let Some(bias) = self.bias {
            assert_eq!(bias.len(), outputs, "a bias for every output");
        }
        if let Some(residual) = self.residual {
            assert_eq!(residual.len(), rows * outputs, "a residual for every element");
        }
    }

    /// Finishes sums that belong to `out`, part of one row: columns `column..` of it, the elements
    /// `at..` of the whole product. At most a panel.
    #[inline(always)]
    pub fn finish<S: Isa>(&self, simd: S, sums: &[f32; PANEL], column: usize, at: usize, out: &mut [f32]) {
        let bias = self.bias.map(|bias| &bias[column..][..out.len()]);
        let residual = self.residual.map(|residual| &residual[at..][..out.len()]);
        let whole = out.len() / S::LANES * S::LANES;
        for i in (0..whole).step_by(S::LANES) {
            let y = self.apply(
                simd,
                simd.load(&sums[i..]),
                bias.map(|bias| simd.load(&bias[i..])),
                residual.map(|residual| simd.load(&residual[i..])),
            );
            simd.store(&mut out[i..], y);
        }
        if whole < out.len() {
            let y = self.apply(
                simd,
                simd.load(&sums[whole..]),
                bias.map(|bias| simd.load_part(&bias[whole..], 0.0)),
                residual.map(|residual| simd.load_part(&residual[whole..], 0.0)),
            );
            simd.store_part(&mut out[whole..], y);
        }
    }

    #[inline(always)]
    fn apply<S: Isa>(&self, simd: S, x: S::F, bias: Option<S::F>, residual: Option<S::F>) -> S::F {
        let mut x = bias.map_or(x, |bias| simd.add(x, bias));
        x = match self.activation {
            Activation::None => x,
            Activation::Gelu => gelu(simd, x),
            Activation::Relu => simd.max(simd.splat(0.0), x),
            Activation::Half => simd.mul(x, simd.splat(0.5)),
        };
        residual.map_or(x, |residual| simd.add(x, residual))
    }
}
