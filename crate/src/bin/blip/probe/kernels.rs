//! `blip probe kernels`: the matrix products against what the adapter does at most.
//!
//! A product with many rows is compared with a loop of multiply-adds in registers (operations a second),
//! one with a single row with a copy (bytes a second, those read and those written). Both of a pair take
//! turns, so that whatever else the machine does meanwhile slows both; a fraction is that of the medians,
//! as one lucky sample of either would move that of the best by half on a busy machine.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use blip_web::device::{OpenDevice, block_on};
use blip_web::kernels::gpu::{Adapter, probes};
use blip_web::kernels::{Activation, Format, LinearSpec, MatrixView, Normed, Stored, linear, place, view};
use blip_web::weights::quantise::group_of;
use burn::tensor::{DType, Tensor, TensorData};
use half::f16;
use serde_json::json;

use super::super::source::DeviceName;
use super::noise;

/// The first layer of the vision tower's MLP for one picture of 384 × 384: rows, inputs, outputs.
const MANY: [usize; 3] = [577, 768, 3072];
/// The scores of one token: inputs and outputs of the matrix.
const ONE: [usize; 2] = [768, 30_524];
/// Matrices that take turns, so that none is still in a cache when it is wanted again (98 MB).
const MATRICES: usize = 4;
/// A sample is repeated until it takes this many seconds, which is long beside waiting for the device.
const SAMPLE: f64 = 0.03;
/// Samples of each of a pair.
const SAMPLES: usize = 15;

pub(super) fn run() -> Result<()> {
    let device = DeviceName::Gpu.open()?;
    let adapter = &device.adapter;
    let software = adapter.is_fallback_adapter;
    let subgroups = Adapter::neighbours();
    let neighbours = if subgroups == 0 { "no subgroups".into() } else { format!("subgroups of {subgroups}") };
    println!("{}, {}: {neighbours}", adapter.device, adapter.description);

    let gemm = arithmetic(&device)?;
    println!("GEMM {MANY:?} q8, against multiply-adds: {}", gemm.line("GFLOP/s"));
    let gemv = memory(&device)?;
    println!("GEMV {ONE:?} q8, against a copy: {}", gemv.line("GB/s"));
    let answer = json!({
        "gemm": gemm.fraction(),
        "gemv": gemv.fraction(),
        "software": u8::from(software),
        "gemmBest": gemm.ours.best / gemm.bound.best,
        "gemvBest": gemv.ours.best / gemv.bound.best,
        "gemmGflops": gemm.ours.median,
        "fmaGflops": gemm.bound.median,
        "gemvGBs": gemv.ours.median,
        "copyGBs": gemv.bound.median,
        "adapter": adapter.device,
        "subgroups": subgroups,
    });
    println!("{answer}");
    Ok(())
}

/// Many rows against the loop of multiply-adds.
fn arithmetic(device: &OpenDevice) -> Result<Pair> {
    let [rows, inputs, outputs] = MANY;
    let x = activations(device, rows, inputs);
    let matrix = matrix(device, inputs, outputs);
    let product = || product(&x, &matrix, rows, inputs, outputs);
    // A launch does as much as a few products; hardware needs more to be worth the launch.
    let (workgroups, passes) = if device.adapter.is_fallback_adapter { (4096, 64) } else { (16_384, 256) };
    // Halved and raised by one again, numbers stay near two: never subnormal, never infinite.
    let bound = || probes::fma_loop(&device.device, workgroups, passes, 0.5, 1.0);
    let operations = (2 * rows * inputs * outputs) as f64;
    let bound_operations = probes::fma_operations(workgroups, passes) as f64;
    Pair::take(
        device,
        &Work { launch: &product, amount: operations },
        &Work { launch: &bound, amount: bound_operations },
    )
}

/// One row against a copy. Of the product the codes and scales count, of the copy what is read and what
/// is written.
fn memory(device: &OpenDevice) -> Result<Pair> {
    let [inputs, outputs] = ONE;
    let x = activations(device, 1, inputs);
    let matrices: Vec<MatrixView> = (0..MATRICES).map(|_| matrix(device, inputs, outputs)).collect();
    let products = || {
        let results = matrices.iter().map(|matrix| product(&x, matrix, 1, inputs, outputs));
        results.reduce(|_, last| last).expect("there are matrices")
    };
    let bytes = MATRICES * outputs * (inputs + 2 * inputs / group_of(Format::Q8, inputs));
    let length = (bytes / 4).next_multiple_of(4);
    let source = Tensor::<1>::ones([length], (&device.device, DType::F32));
    let bound = || probes::copy(source.clone());
    Pair::take(
        device,
        &Work { launch: &products, amount: bytes as f64 },
        &Work { launch: &bound, amount: (2 * 4 * length) as f64 },
    )
}

/// Work for the device.
struct Work<'a> {
    /// Launches it and gives what the last launch writes.
    launch: &'a dyn Fn() -> Tensor<1>,
    /// Operations or bytes of it.
    amount: f64,
}

impl Work<'_> {
    /// Seconds that it takes so many times.
    fn time(&self, device: &OpenDevice, times: u32) -> Result<f64> {
        let start = Instant::now();
        let mut last = (self.launch)();
        for _ in 1..times {
            last = (self.launch)();
        }
        // Launches run in order: when one number of the last is here, all are done.
        let number = block_on(device.read(last.slice(0..1)))?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(number[0].is_finite(), "the device computed {number:?}");
        Ok(seconds)
    }

    /// How often it fits into a sample; compiles it, too.
    fn times(&self, device: &OpenDevice) -> Result<u32> {
        let mut times = 1;
        self.time(device, times)?;
        while self.time(device, times)? < SAMPLE {
            times *= 2;
        }
        Ok(times)
    }
}

/// Billions a second.
struct Rate {
    best: f64,
    median: f64,
}

impl Rate {
    /// From the seconds of samples of `amount` each.
    fn of(mut seconds: Vec<f64>, amount: f64) -> Result<Self> {
        seconds.sort_by(f64::total_cmp);
        let least = seconds.first().context("nothing was measured")?;
        let rate = |seconds: f64| amount / seconds / 1e9;
        Ok(Self { best: rate(*least), median: rate(seconds[seconds.len() / 2]) })
    }
}

/// A kernel and what bounds it.
struct Pair {
    ours: Rate,
    bound: Rate,
}

impl Pair {
    /// Both in turns.
    fn take(device: &OpenDevice, ours: &Work<'_>, bound: &Work<'_>) -> Result<Self> {
        let [our_times, bound_times] = [ours.times(device)?, bound.times(device)?];
        let (mut our_seconds, mut bound_seconds) = (Vec::new(), Vec::new());
        for _ in 0..SAMPLES {
            our_seconds.push(ours.time(device, our_times)?);
            bound_seconds.push(bound.time(device, bound_times)?);
        }
        Ok(Self {
            ours: Rate::of(our_seconds, ours.amount * f64::from(our_times))?,
            bound: Rate::of(bound_seconds, bound.amount * f64::from(bound_times))?,
        })
    }

    fn fraction(&self) -> f64 {
        self.ours.median / self.bound.median
    }

    fn line(&self, unit: &str) -> String {
        let Self { ours, bound } = self;
        format!(
            "{:.1} of {:.1} {unit} in the median ({:.3}), {:.1} of {:.1} at best ({:.3})",
            ours.median,
            bound.median,
            self.fraction(),
            ours.best,
            bound.best,
            ours.best / bound.best
        )
    }
}

/// The product as a layer of a model asks for it, on one line.
fn product(x: &Tensor<2>, matrix: &MatrixView, rows: usize, inputs: usize, outputs: usize) -> Tensor<1> {
    let spec = LinearSpec {
        rows,
        inputs,
        outputs,
        row_stride: inputs,
        format: Format::Q8,
        group: group_of(Format::Q8, inputs),
        activation: Activation::None,
        normed: Normed::Neither,
    };
    view(linear(x.clone(), matrix.clone(), None, None, None, spec), [rows * outputs])
}

/// Rows of noise, of the type that a model's activations have on this device.
fn activations(device: &OpenDevice, rows: usize, width: usize) -> Tensor<2> {
    let float = if device.halves() { DType::F16 } else { DType::F32 };
    Tensor::from_data(TensorData::new(noise(rows * width), [rows, width]), (&device.device, float))
}

/// A quantised matrix of noise.
fn matrix(device: &OpenDevice, inputs: usize, outputs: usize) -> MatrixView {
    let group = group_of(Format::Q8, inputs);
    let codes = noise(inputs * outputs).into_iter().map(|v| ((127.0 * v) as i8).cast_unsigned()).collect();
    let scales = vec![f16::from_f32(1.0 / 1024.0); outputs * (inputs / group)];
    let stored = Stored::Quantised { format: Format::Q8, group, outputs, inputs, codes, scales };
    place(stored, &device.device, DType::F32)
}
