//! The gradient of a number that hangs on image-grounded states, layer by layer back to the
//! probabilities of cross-attention.
//!
//! Browsers have no automatic differentiation, so the formulas are written down here. A text has few
//! tokens: plain loops in f32 on the host take less time than the image encoder does, and give the same
//! on every device. What was rounded on the way forward (activations of quantised products) counts as
//! not rounded.

use super::Med;

/// What one layer computed and its parameters, on the host.
#[derive(Debug)]
pub struct LayerNumbers {
    values: Vec<Vec<f32>>,
    heads: usize,
    width: usize,
    /// Of the norms of self-attention, cross-attention and feed-forward.
    epsilon: [f32; 3],
}

/// How much each image token matters to each text token: Grad-CAM on cross-attention (spec §6.5).
#[derive(Clone, Debug, PartialEq)]
pub struct Relevance {
    /// `[seq, states]`: the mean over heads of probability times positive gradient.
    pub map: Vec<f32>,
    /// Image tokens, those of class included.
    pub states: usize,
}

/// Places of `LayerNumbers::values`, as `Med::traced` orders them.
mod at {
    pub const OUTPUT: usize = 0;
    pub const FFN_NORM: usize = 1;
    pub const FFN_OUTPUT: usize = 2;
    pub const HIDDEN: usize = 3;
    pub const FFN_INTERMEDIATE: usize = 4;
    pub const CROSSED: usize = 5;
    pub const CROSS_NORM: usize = 6;
    pub const CROSS_DENSE: usize = 7;
    pub const QUERY: usize = 8;
    pub const KV: usize = 9;
    pub const CROSS_QUERY: usize = 10;
    pub const ATTENDED: usize = 11;
    pub const SELF_NORM: usize = 12;
    pub const SELF_DENSE: usize = 13;
    pub const QKV: usize = 14;
    pub const SELF_QKV: usize = 15;
}

impl LayerNumbers {
    /// The values of [`Med::traced`], row-major.
    ///
    /// # Panics
    /// When they are not as many as it gives.
    pub fn new(med: &Med, layer: usize, values: Vec<Vec<f32>>) -> Self {
        assert!([at::CROSS_QUERY, at::SELF_QKV + 1].contains(&values.len()), "{} tensors", values.len());
        let parts = &med.layers[layer];
        let epsilon = [
            parts.attention.layer_norm.epsilon(),
            parts.crossattention.layer_norm.epsilon(),
            parts.ffn.layer_norm.epsilon(),
        ];
        Self { values, heads: parts.crossattention.heads, width: med.width(), epsilon }
    }

    /// The gradient with respect to what goes into a layer, out of that with respect to what comes out
    /// of it: `[seq, dim]` both.
    ///
    /// # Panics
    /// For the first layer of a trace, whose numbers end at cross-attention.
    pub fn back(&self, gradient: Vec<f32>) -> Vec<f32> {
        let (mut gradient, context) = self.back_to_context(gradient);
        let query = self.crossed().back_to_query(&context);
        add(&mut gradient, &through(&query, &self.values[at::CROSS_QUERY], self.width));
        let [epsilon, ..] = self.epsilon;
        back_through_norm(&mut gradient, &self.values[at::ATTENDED], &self.values[at::SELF_NORM], epsilon);
        let context = through(&gradient, &self.values[at::SELF_DENSE], self.width);
        let packed = self.attended().back_to_packed(&context);
        add(&mut gradient, &through(&packed, &self.values[at::SELF_QKV], self.width));
        gradient
    }

    /// Grad-CAM of this layer's cross-attention, from the gradient with respect to what comes out of the
    /// layer.
    pub fn relevance(&self, gradient: Vec<f32>) -> Relevance {
        let (_, context) = self.back_to_context(gradient);
        let crossed = self.crossed();
        let mut map = vec![0.0; crossed.queries * crossed.keys];
        crossed.each(&context, |_, query, probabilities, gradients| {
            let row = &mut map[query * crossed.keys..][..crossed.keys];
            for (sum, (probability, gradient)) in row.iter_mut().zip(probabilities.iter().zip(gradients)) {
                *sum += probability * gradient.max(0.0) / self.heads as f32;
            }
        });
        Relevance { map, states: crossed.keys }
    }

    /// From the output of the layer: the gradient with respect to the sum before the norm of
    /// cross-attention, which is also that of its residual, and with respect to what attention found.
    fn back_to_context(&self, mut gradient: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        let [_, cross_epsilon, ffn_epsilon] = self.epsilon;
        back_through_norm(&mut gradient, &self.values[at::OUTPUT], &self.values[at::FFN_NORM], ffn_epsilon);
        let hidden = &self.values[at::HIDDEN];
        let inner = hidden.len() / (gradient.len() / self.width);
        let mut within = through(&gradient, &self.values[at::FFN_OUTPUT], inner);
        for (gradient, x) in within.iter_mut().zip(hidden).filter(|(gradient, _)| **gradient != 0.0) {
            *gradient *= gelu_slope(*x);
        }
        add(&mut gradient, &through(&within, &self.values[at::FFN_INTERMEDIATE], self.width));
        let (crossed, norm) = (&self.values[at::CROSSED], &self.values[at::CROSS_NORM]);
        back_through_norm(&mut gradient, crossed, norm, cross_epsilon);
        let context = through(&gradient, &self.values[at::CROSS_DENSE], self.width);
        (gradient, context)
    }

    fn crossed(&self) -> Attention<'_> {
        let (query, kv, width) = (&self.values[at::QUERY], &self.values[at::KV], self.width);
        Attention {
            q: (query, width),
            k: (kv, 2 * width),
            v: (&kv[width..], 2 * width),
            heads: self.heads,
            head_dim: width / self.heads,
            queries: query.len() / width,
            keys: kv.len() / (2 * width),
        }
    }

    fn attended(&self) -> Attention<'_> {
        let (qkv, width) = (&self.values[at::QKV], self.width);
        let tokens = qkv.len() / (3 * width);
        Attention {
            q: (qkv, 3 * width),
            k: (&qkv[width..], 3 * width),
            v: (&qkv[2 * width..], 3 * width),
            heads: self.heads,
            head_dim: width / self.heads,
            queries: tokens,
            keys: tokens,
        }
    }
}

/// `softmax(q·kᵀ/√head_dim)·v` by head; of each operand, the distance from one row to the next.
struct Attention<'a> {
    q: (&'a [f32], usize),
    k: (&'a [f32], usize),
    v: (&'a [f32], usize),
    heads: usize,
    head_dim: usize,
    queries: usize,
    keys: usize,
}

impl Attention<'_> {
    fn row<'b>(&self, (values, stride): (&'b [f32], usize), row: usize, head: usize) -> &'b [f32] {
        &values[row * stride + head * self.head_dim..][..self.head_dim]
    }

    /// Of every head and query: the probabilities of the keys, and the gradient with respect to them,
    /// out of that with respect to the context, `[queries, heads·head_dim]`.
    fn each(&self, context: &[f32], mut see: impl FnMut(usize, usize, &[f32], &[f32])) {
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let width = self.heads * self.head_dim;
        let (mut probabilities, mut gradients) = (vec![0.0; self.keys], vec![0.0; self.keys]);
        for head in 0..self.heads {
            for query in 0..self.queries {
                let back = self.row((context, width), query, head);
                if back.iter().all(|gradient| *gradient == 0.0) {
                    continue;
                }
                let q = self.row(self.q, query, head);
                for key in 0..self.keys {
                    probabilities[key] = scale * dot(q, self.row(self.k, key, head));
                    gradients[key] = dot(back, self.row(self.v, key, head));
                }
                softmax(&mut probabilities);
                see(head, query, &probabilities, &gradients);
            }
        }
    }

    /// The gradient with respect to the products of a query and the keys.
    fn scores(&self, probabilities: &[f32], gradients: &[f32]) -> impl Iterator<Item = f32> {
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let mean = dot(probabilities, gradients);
        probabilities.iter().zip(gradients).map(move |(p, gradient)| scale * p * (gradient - mean))
    }

    /// The gradient with respect to the queries, `[queries, heads·head_dim]`.
    fn back_to_query(&self, context: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.queries * self.heads * self.head_dim];
        self.each(context, |head, query, probabilities, gradients| {
            let out = &mut out[(query * self.heads + head) * self.head_dim..][..self.head_dim];
            for (key, score) in self.scores(probabilities, gradients).enumerate() {
                add_times(out, score, self.row(self.k, key, head));
            }
        });
        out
    }

    /// The gradient with respect to queries, keys and values beside each other,
    /// `[queries, 3·heads·head_dim]`.
    fn back_to_packed(&self, context: &[f32]) -> Vec<f32> {
        let dim = self.head_dim;
        let width = self.heads * dim;
        let mut out = vec![0.0; self.queries * 3 * width];
        self.each(context, |head, query, probabilities, gradients| {
            let (q, back) = (self.row(self.q, query, head), self.row((context, width), query, head));
            let place = |row: usize, part: usize| row * 3 * width + part * width + head * dim;
            for (key, score) in self.scores(probabilities, gradients).enumerate() {
                add_times(&mut out[place(query, 0)..][..dim], score, self.row(self.k, key, head));
                add_times(&mut out[place(key, 1)..][..dim], score, q);
                add_times(&mut out[place(key, 2)..][..dim], probabilities[key], back);
            }
        });
        out
    }
}

/// The gradient with respect to what a LayerNorm reads, in the place of that of what it gives.
fn back_through_norm(gradient: &mut [f32], x: &[f32], norm: &[f32], epsilon: f32) {
    let width = norm.len() / 2;
    let scale = &norm[..width];
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / width as f64;
    for (gradient, x) in gradient.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        if gradient.iter().all(|gradient| *gradient == 0.0) {
            continue;
        }
        let centre = mean(&mut x.iter().map(|x| f64::from(*x)));
        let variance = mean(&mut x.iter().map(|x| (f64::from(*x) - centre).powi(2)));
        let deviation = (variance + f64::from(epsilon)).sqrt();
        let normed = |x: f32| (f64::from(x) - centre) / deviation;
        gradient.iter_mut().zip(scale).for_each(|(gradient, scale)| *gradient *= scale);
        let along = mean(&mut gradient.iter().zip(x).map(|(g, x)| f64::from(*g) * normed(*x)));
        let level = mean(&mut gradient.iter().map(|g| f64::from(*g)));
        for (gradient, x) in gradient.iter_mut().zip(x) {
            *gradient = ((f64::from(*gradient) - level - normed(*x) * along) / deviation) as f32;
        }
    }
}

/// `gradient·W`, which takes a gradient back through `x·Wᵀ`: `[rows, outputs]` to `[rows, inputs]`, with
/// `W: [outputs, inputs]`.
fn through(gradient: &[f32], matrix: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = matrix.len() / inputs;
    let mut out = vec![0.0; gradient.len() / outputs * inputs];
    // Four rows of the matrix at a time, so that each sum is loaded and stored a quarter as often.
    for (block, weights) in matrix.chunks(4 * inputs).enumerate() {
        let count = weights.len() / inputs;
        for (gradient, out) in gradient.chunks_exact(outputs).zip(out.chunks_exact_mut(inputs)) {
            let gradient = &gradient[4 * block..][..count];
            if gradient.iter().all(|gradient| *gradient == 0.0) {
                continue;
            }
            if let [a, b, c, d] = *gradient {
                let (first, second) = weights.split_at(2 * inputs);
                let rows = first[..inputs].iter().zip(&first[inputs..]);
                let rows = rows.zip(second[..inputs].iter().zip(&second[inputs..]));
                for (out, ((w, x), (y, z))) in out.iter_mut().zip(rows) {
                    *out += a * w + b * x + c * y + d * z;
                }
            } else {
                for (gradient, weights) in gradient.iter().zip(weights.chunks_exact(inputs)) {
                    add_times(out, *gradient, weights);
                }
            }
        }
    }
    out
}

fn add(to: &mut [f32], values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}

fn add_times(to: &mut [f32], factor: f32, values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += factor * value);
}

/// Sums in eight lanes, which compilers turn into vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f32>()
}

fn softmax(scores: &mut [f32]) {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - greatest).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// The slope of `x·Φ(x)`: `Φ(x) + x·φ(x)`.
fn gelu_slope(x: f32) -> f32 {
    let x = f64::from(x);
    // Beyond, it is within 1e-7 of its limit.
    if x.abs() > 6.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    // erf's power series: of (Φ(x) - 1/2)·√(2π), (-1)ⁿ·x²ⁿ⁺¹ / (2ⁿ·n!·(2n+1)).
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-12 {
        n += 1.0;
        term *= -x * x / (2.0 * n) * (2.0 * n - 1.0) / (2.0 * n + 1.0);
        sum += term;
    }
    let root = (2.0 * std::f64::consts::PI).sqrt();
    (0.5 + (sum + x * (-x * x / 2.0).exp()) / root) as f32
}

#[cfg(test)]
mod tests;
