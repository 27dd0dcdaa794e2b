//! Small fixed problems for every kernel that a model uses, compared with plain arithmetic.
//!
//! A browser drops a shader that its driver miscompiles, or refuses, without a word: what comes out is
//! numbers all the same. A caption cannot tell, so this does.

mod plain;

use burn::tensor::{DType, Tensor};
use serde::Serialize;

use super::Session;
use crate::Result;
use crate::config::BlipConfig;
use crate::device::{DeviceKind, OpenDevice};
use crate::kernels::{
    self, Activation, AdvanceSpec, AttentionSpec, EmbedSpec, Format, LinearSpec, MatrixView, Normed, Place,
    StepAttentionSpec, Stored, state,
};
use crate::model::integers;
use crate::weights::quantise::{dequantise, group_of, quantise};

/// What a self-test found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SelfTest {
    /// `webgpu` or `cpu`.
    pub device: &'static str,
    /// Whether every check held.
    pub ok: bool,
    /// Every operation, in every format that the model's matrices have.
    pub checks: Vec<Check>,
}

/// One operation on the device, against plain arithmetic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What was computed.
    pub name: &'static str,
    /// How the matrix was stored: `f32`, `q8` or `q4`.
    pub format: &'static str,
    /// The greatest difference, relative to the greatest expected value.
    pub error: f32,
    /// The greatest difference that the number formats explain.
    pub allowed: f32,
    /// Whether the one is within the other.
    pub ok: bool,
}

/// Formats of matrices with their groups, and the widths of heads of the image encoder and the text network.
type Problem = (Vec<(Format, usize)>, [usize; 2]);

impl Session {
    /// Computes small fixed problems with every kernel that the model uses.
    ///
    /// # Errors
    /// What the device fails with; a wrong result is no error but a check that does not hold.
    pub async fn self_test(&self) -> Result<SelfTest> {
        let mut seen: Vec<Problem> = Vec::new();
        let mut checks = Vec::new();
        for part in &self.parts {
            let (vision, text) = (&part.config.vision_config, &part.config.text_config);
            let heads = [
                vision.hidden_size / vision.num_attention_heads,
                text.hidden_size / text.num_attention_heads,
            ];
            let problem = (used(&part.config, &part.formats), heads);
            if !seen.contains(&problem) {
                checks.extend(check_all(&self.device, &problem.0, heads).await?);
                seen.push(problem);
            }
        }
        let device = match self.device.kind() {
            DeviceKind::Gpu => "webgpu",
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
        };
        Ok(SelfTest { device, ok: checks.iter().all(|check| check.ok), checks })
    }
}

/// Every operation: products in these formats and groups, attention with heads as wide as those of the
/// image encoder and of the text network.
async fn check_all(
    device: &OpenDevice,
    formats: &[(Format, usize)],
    [vision_head, text_head]: [usize; 2],
) -> Result<Vec<Check>> {
    let mut bench = Bench { device, checks: Vec::new() };
    for (format, group) in formats {
        bench.products(*format, *group).await?;
        bench.embedding(*format, *group).await?;
    }
    bench.norms().await?;
    bench.image_attention(vision_head).await?;
    bench.text_attention(text_head).await?;
    bench.assembly().await?;
    bench.choices().await?;
    Ok(bench.checks)
}

/// The formats of a model's matrices with the groups that their widths lead to, each once.
fn used(config: &BlipConfig, formats: &[Format]) -> Vec<(Format, usize)> {
    let (vision, text) = (&config.vision_config, &config.text_config);
    let patch = 3 * vision.patch_size * vision.patch_size;
    let widths =
        [patch, vision.hidden_size, vision.intermediate_size, text.hidden_size, text.intermediate_size];
    let mut used = Vec::new();
    for format in formats {
        for width in widths {
            let pair = (*format, group_of(*format, width));
            if !used.contains(&pair) {
                used.push(pair);
            }
        }
    }
    used
}

/// Runs operations on a device and notes how they did.
struct Bench<'a> {
    device: &'a OpenDevice,
    checks: Vec<Check>,
}

const EPSILON: f32 = 1e-5;

impl Bench<'_> {
    /// Products with many rows and with few, through every part of the epilogue.
    async fn products(&mut self, format: Format, group: usize) -> Result<()> {
        // Not a multiple of any tile, but of what every kernel reads at a time.
        let (inputs, outputs) = (if group == 64 { 192 } else { 160 }, 76);
        let numbers = Numbers::new(outputs * inputs, 0.25);
        let (matrix, weights) = self.matrix(format, [outputs, inputs], numbers.0)?;
        let bias = Numbers::new(outputs, 1.0).0;
        for (name, rows, normed, activation) in [
            ("matrix product", 37, Normed::Neither, Activation::Gelu),
            ("matrix product onto a residual", 37, Normed::Neither, Activation::None),
            ("few rows, normalised", 3, Normed::Input { epsilon: EPSILON }, Activation::Gelu),
            (
                "few rows onto a normalised residual",
                3,
                Normed::Residual { epsilon: EPSILON },
                Activation::None,
            ),
        ] {
            let x = Numbers::new(rows * inputs, 2.0).0;
            let residual = (activation == Activation::None).then(|| Numbers::new(rows * outputs, 1.0).0);
            let norm = match normed {
                Normed::Neither => None,
                Normed::Input { .. } => Some(norm(inputs)),
                Normed::Residual { .. } => Some(norm(outputs)),
            };
            let spec = LinearSpec {
                rows,
                inputs,
                outputs,
                row_stride: inputs,
                format: if matches!(matrix, MatrixView::Float(_)) { Format::Float } else { format },
                group,
                activation,
                normed,
            };
            let want = plain::linear(&x, &weights, &bias, norm.as_deref(), residual.as_deref(), &spec);
            let got = kernels::linear(
                self.rows(x, rows),
                matrix.clone(),
                Some(self.bias(bias.clone())),
                norm.map(|norm| self.norm(norm)),
                residual.map(|residual| self.rows(residual, rows)),
                spec,
            );
            self.compare(name, format, got, &want).await?;
        }
        Ok(())
    }

    async fn embedding(&mut self, format: Format, group: usize) -> Result<()> {
        let (vocab, width, longest) = (50, if group == 64 { 192 } else { 160 }, 9);
        let (table, words) = self.matrix(format, [vocab, width], Numbers::new(vocab * width, 1.0).0)?;
        let positions = Numbers::new(longest * width, 1.0).0;
        let (ids, position) = ([7, 49], 5);
        let mut now = vec![0; state::len(ids.len())];
        now[state::POSITION] = position;
        now[state::TOKENS..][..ids.len()].copy_from_slice(&ids);
        let spec = EmbedSpec {
            tokens: ids.len(),
            width,
            format: if matches!(table, MatrixView::Float(_)) { Format::Float } else { format },
            group,
            vocab,
            place: Place::State,
        };
        let want: Vec<f32> = ids
            .iter()
            .flat_map(|id| (0..width).map(move |column| (*id as usize * width + column, column)))
            .map(|(word, column)| words[word] + positions[position as usize * width + column])
            .collect();
        let length = now.len();
        let now = integers(now, [length], &self.device.device);
        let got = kernels::embed(now, table, self.rows(positions, longest), spec);
        self.compare("embedding", format, got, &want).await
    }

    async fn norms(&mut self) -> Result<()> {
        let (rows, width) = (5, 160);
        let (x, norm) = (Numbers::new(rows * width, 3.0).0, norm(width));
        let want = plain::layer_norm(&x, &norm, EPSILON);
        let got = kernels::layer_norm(self.rows(x, rows), self.norm(norm), EPSILON);
        self.compare("layer norm", Format::Float, got, &want).await
    }

    async fn image_attention(&mut self, head_dim: usize) -> Result<()> {
        let (tokens, heads) = (37, 2);
        let spec = AttentionSpec::packed(1, tokens, heads, head_dim);
        let qkv = Numbers::new(tokens * spec.q_stride, 1.0).0;
        let want = plain::attention(&qkv, &qkv, &spec);
        let qkv = self.rows(qkv, tokens);
        let got = kernels::attention(qkv.clone(), qkv, None, spec);
        self.compare("image attention", Format::Float, got, &want).await
    }

    /// Three beams over one image, then a step of two rows that have swapped their pasts.
    async fn text_attention(&mut self, head_dim: usize) -> Result<()> {
        let (beams, keys, heads) = (3, 37, 2);
        let width = heads * head_dim;
        let spec = AttentionSpec::crossed(1, beams, 1, keys, heads, head_dim);
        let (q, kv) = (Numbers::new(beams * width, 1.0).0, Numbers::new(keys * 2 * width, 1.0).0);
        let want = plain::attention(&q, &kv, &spec);
        let got = kernels::attention(self.rows(q, beams), self.rows(kv, keys), None, spec);
        self.compare("cross-attention", Format::Float, got, &want).await?;

        let (rows, capacity, position) = (2, 6, 4);
        let (qkv, cache) =
            (Numbers::new(rows * 3 * width, 1.0).0, Numbers::new(rows * capacity * 2 * width, 1.0).0);
        let lineage: Vec<i32> = (0..rows * capacity)
            .map(|index| i32::from(index < capacity) ^ i32::from(index % 3 == 0))
            .collect();
        for lineage in [None, Some(lineage)] {
            let name = if lineage.is_some() { "cached attention of beams" } else { "cached attention" };
            let spec = StepAttentionSpec { rows, capacity, heads, head_dim };
            let (want, want_cache) = plain::step_attention(&qkv, &cache, position, lineage.as_deref(), &spec);
            let mut now = vec![0; state::len(rows)];
            now[state::POSITION] = position as i32;
            let length = now.len();
            let (got, got_cache) = kernels::step_attention(
                self.rows(qkv.clone(), rows),
                kernels::view(self.line(cache.clone()), [rows, capacity, 2 * width]),
                integers(now, [length], &self.device.device),
                lineage.map(|lineage| integers(lineage, [rows, capacity], &self.device.device)),
                spec,
            );
            self.compare(name, Format::Float, got, &want).await?;
            self.compare("cache", Format::Float, got_cache, &want_cache).await?;
        }
        Ok(())
    }

    async fn assembly(&mut self) -> Result<()> {
        let (patches, width) = (6, 40);
        let (x, class, positions) = (
            Numbers::new(patches * width, 1.0).0,
            Numbers::new(width, 1.0).0,
            Numbers::new((patches + 1) * width, 1.0).0,
        );
        let want: Vec<f32> = class.iter().chain(&x).zip(&positions).map(|(x, place)| x + place).collect();
        let (class, positions) = (self.line(class), self.rows(positions, patches + 1));
        let got = kernels::assemble(self.rows(x, patches), class, positions, 1);
        self.compare("image tokens", Format::Float, got, &want).await
    }

    async fn choices(&mut self) -> Result<()> {
        let (rows, vocab, k) = (2, 1000, 6);
        let logits = Numbers::new(rows * vocab, 8.0).0;
        let want = plain::top_k(&logits, vocab, k);
        let got = kernels::top_k(self.rows(logits.clone(), rows), k);
        self.compare("best tokens", Format::Float, got, &want).await?;

        let spec = AdvanceSpec { rows, vocab, eos: 3, min_length: 0, capacity: 4 };
        let position = 2;
        let mut now = vec![0; state::len(rows)];
        now[state::POSITION] = position;
        let length = now.len();
        let device = &self.device.device;
        let (now, history) = kernels::advance(
            self.rows(logits, rows),
            integers(now, [length], device),
            integers(vec![0; spec.capacity * rows * 2], [spec.capacity, rows, 2], device),
            spec,
        );
        let (now, history) =
            (self.device.start_reading(now).await?, self.device.start_reading(history).await?);
        let written = &history[position as usize * rows * 2..][..rows * 2];
        let mut got = vec![now[state::POSITION] as f32];
        let mut expected = vec![(position + 1) as f32];
        for row in 0..rows {
            let log_prob = f32::from_bits(written[2 * row + 1].cast_unsigned());
            got.extend([now[state::TOKENS + row] as f32, written[2 * row] as f32, log_prob]);
            let best = &want[row * (2 * k + 1)..][..2 * k + 1];
            expected.extend([best[k], best[k], best[0] - best[2 * k]]);
        }
        self.note("next token", Format::Float, &got, &expected, DType::F32);
        Ok(())
    }

    /// A matrix on the device, and the numbers that it stands for.
    fn matrix(&self, format: Format, shape: [usize; 2], numbers: Vec<f32>) -> Result<(MatrixView, Vec<f32>)> {
        let stored = match format {
            Format::Float | Format::F16 => Stored::Float { values: numbers, shape },
            Format::Q8 | Format::Q4 => quantise("self-test", &numbers, shape[1], format)?,
        };
        let weights = match &stored {
            Stored::Float { values, .. } => values.clone(),
            Stored::Quantised { .. } => dequantise(&stored),
        };
        Ok((kernels::place(stored, &self.device.device, DType::F32), weights))
    }

    /// Activations, or a table that is added to them.
    fn rows(&self, values: Vec<f32>, rows: usize) -> Tensor<2> {
        let width = values.len() / rows;
        kernels::floats(values, [rows, width], &self.device.device, self.activations())
    }

    fn line(&self, values: Vec<f32>) -> Tensor<1> {
        let length = values.len();
        kernels::floats(values, [length], &self.device.device, self.activations())
    }

    /// Scale and shift of a norm.
    fn norm(&self, values: Vec<f32>) -> Tensor<2> {
        let width = values.len() / 2;
        kernels::floats(values, [2, width], &self.device.device, DType::F32)
    }

    fn bias(&self, values: Vec<f32>) -> Tensor<1> {
        let length = values.len();
        kernels::floats(values, [length], &self.device.device, DType::F32)
    }

    fn activations(&self) -> DType {
        if self.device.halves() { DType::F16 } else { DType::F32 }
    }

    async fn compare<const D: usize>(
        &mut self,
        name: &'static str,
        format: Format,
        got: Tensor<D>,
        want: &[f32],
    ) -> Result<()> {
        let dtype = got.dtype();
        let got = self.device.read(got).await?;
        self.note(name, format, &got, want, dtype);
        Ok(())
    }

    fn note(&mut self, name: &'static str, format: Format, got: &[f32], want: &[f32], dtype: DType) {
        let allowed = match (self.device.kind(), format, dtype) {
            // Activations are rounded to 7 bits.
            (DeviceKind::Cpu, Format::Q8 | Format::Q4, _) if !name.starts_with("embedding") => 0.04,
            (_, _, DType::F16) => 0.01,
            _ => 1e-4,
        };
        let size = want.iter().fold(f32::MIN_POSITIVE, |size, value| size.max(value.abs()));
        // Unlike `max`, this keeps a value that is not a number.
        let worse = |worst: f32, (got, want): (&f32, &f32)| {
            let error = (got - want).abs();
            if worst.is_nan() || error <= worst { worst } else { error }
        };
        let error = got.iter().zip(want).fold(0.0, worse) / size;
        let error = if got.len() == want.len() && error.is_finite() { error } else { f32::MAX };
        let format = match format {
            Format::Float | Format::F16 => "f32",
            Format::Q8 => "q8",
            Format::Q4 => "q4",
        };
        self.checks.push(Check { name, format, error, allowed, ok: error <= allowed });
    }
}

/// Numbers that look random and are the same everywhere, evenly between `-size` and `size`.
struct Numbers(Vec<f32>);

impl Numbers {
    fn new(count: usize, size: f32) -> Self {
        let mut seed = count as u32;
        let next = || {
            // Numerical Recipes' generator; its high bits are good enough here.
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((seed >> 8) as f32 / 8_388_608.0 - 1.0) * size
        };
        Self(std::iter::repeat_with(next).take(count).collect())
    }
}

/// Scale and shift of a norm that does something.
fn norm(width: usize) -> Vec<f32> {
    let mut norm = Numbers::new(2 * width, 0.5).0;
    norm[..width].iter_mut().for_each(|scale| *scale += 1.0);
    norm
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::device::block_on;

    /// Every format with every group there is.
    const FORMATS: &[(Format, usize)] =
        &[(Format::Float, 0), (Format::Q8, 64), (Format::Q8, 32), (Format::Q4, 32)];

    fn passes(device: &OpenDevice) {
        let checks = block_on(check_all(device, FORMATS, [64, 32])).expect("the device answers");
        let wrong: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(checks.len() >= 5 * FORMATS.len() + 9);
    }

    #[test]
    fn the_cpu_computes_what_plain_arithmetic_does() {
        passes(&block_on(OpenDevice::open(DeviceKind::Cpu)).unwrap());
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn a_gpu_computes_what_plain_arithmetic_does() {
        match block_on(OpenDevice::open(DeviceKind::Gpu)) {
            Ok(device) => passes(&device),
            Err(error) => eprintln!("skipped: {error}"),
        }
    }

    #[test]
    fn wrong_missing_and_undefined_numbers_fail_their_check() {
        let device = block_on(OpenDevice::open(DeviceKind::Cpu)).unwrap();
        let want = [1.0, -2.0, 0.5];
        for (got, ok) in [
            (vec![1.0, -2.0, 0.5], true),
            (vec![1.0, -2.0, 0.500_01], true),
            (vec![1.0, -2.0, 0.6], false),
            (vec![0.0; 3], false),
            (vec![1.0, -2.0], false),
            (vec![f32::NAN, -2.0, 0.5], false),
            (vec![1.0, f32::INFINITY, 0.5], false),
        ] {
            let mut bench = Bench { device: &device, checks: Vec::new() };
            bench.note("a check", Format::Float, &got, &want, DType::F32);
            assert_eq!(bench.checks[0].ok, ok, "{got:?}");
            assert!(bench.checks[0].error.is_finite());
        }
    }
}
