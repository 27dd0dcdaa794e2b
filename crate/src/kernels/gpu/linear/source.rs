//! The WGSL of `linear`: which of three kernels, for which operands.

use super::super::launch::{Float, Shader, fill, holding};
use crate::kernels::{Activation, Format};

/// The kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    /// Many rows on hardware: tiles in workgroup memory.
    Tile,
    /// Few rows on hardware: neighbours share a row of the matrix.
    Stream {
        /// All rows of `x`.
        rows: u32,
        /// Rows of the matrix that an invocation keeps in flight.
        columns: u32,
    },
    /// Renderers on the CPU: tiles in registers.
    Lane {
        /// Of an invocation's tile; all rows of `x` where those are few.
        rows: u32,
        /// Of an invocation's tile.
        columns: u32,
        /// Of a workgroup.
        invocations: u32,
        /// Neighbours hand each other what they loaded; never in a browser.
        subgroups: bool,
    },
}

/// Vectors of four that a workgroup keeps of normalised rows, three at most: with their sums and shares
/// that is 15 of 16 KiB.
pub(crate) const STAGE: u32 = 576;

/// Everything that the text depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Linear {
    pub kernel: Kernel,
    pub float: Float,
    pub format: Format,
    /// Columns that share a scale; 0 for float formats.
    pub group: u32,
    pub activation: Activation,
    pub bias: bool,
    pub residual: bool,
    /// Rows of `x` pass a LayerNorm on the way in.
    pub norm_input: bool,
    /// They all fit into [`STAGE`]: they are normalised once a workgroup instead of at every use.
    pub staged: bool,
    /// Rows of the residual do.
    pub norm_residual: bool,
    /// `x` ends within the last step of the loop over its columns.
    pub ragged: bool,
}

impl Linear {
    /// Columns of the matrix that a step of the kernel's loop takes.
    pub fn step(&self) -> u32 {
        match (self.kernel, self.format) {
            (Kernel::Tile, _) | (Kernel::Stream { .. }, Format::Q4) => 32,
            (Kernel::Stream { .. }, Format::Q8) => 16,
            (Kernel::Stream { .. }, Format::F16 | Format::Float) => 4,
            (Kernel::Lane { .. }, Format::F16 | Format::Float) => 4 * self.quads(),
            (Kernel::Lane { .. }, Format::Q8 | Format::Q4) => self.group,
        }
    }

    /// Columns in an element of the binding of the matrix.
    pub fn element(&self) -> u32 {
        match (self.kernel, self.format) {
            (_, Format::F16 | Format::Float) => 4,
            (Kernel::Stream { .. }, Format::Q8) => 16,
            (Kernel::Stream { .. }, Format::Q4) => 32,
            (_, Format::Q8) => 4,
            (_, Format::Q4) => 8,
        }
    }

    /// Rows and columns of the result that a workgroup computes.
    pub fn tile(&self) -> [u32; 2] {
        match self.kernel {
            Kernel::Tile => [64, 64],
            Kernel::Stream { rows, columns } => [rows, columns * (self.workgroup()[0] / self.lanes())],
            Kernel::Lane { rows, columns, invocations, .. } => [rows, columns * invocations],
        }
    }

    /// Vectors of four columns that a pass of the innermost loop of [`Kernel::Lane`] takes.
    fn quads(&self) -> u32 {
        match self.kernel {
            Kernel::Lane { subgroups: true, .. } => 2,
            _ if self.format == Format::Q4 => 2,
            _ => 1,
        }
    }

    /// Neighbours that share a row of the matrix: their loads span 128 bytes where that is possible.
    fn lanes(&self) -> u32 {
        match self.format {
            Format::Q8 | Format::Q4 | Format::Float => 8,
            Format::F16 => 16,
        }
    }

    /// The template's numbers: rows, columns, passes of its inner loop or sharers of a scale.
    fn sizes(&self) -> (u32, u32, u32) {
        match self.kernel {
            Kernel::Tile => (64, 64, self.group / 32),
            Kernel::Stream { rows, columns } => (rows, columns, self.group / self.step()),
            Kernel::Lane { rows, columns, .. } => (rows, columns, (self.group / (4 * self.quads())).max(1)),
        }
    }
}

impl Shader for Linear {
    fn workgroup(&self) -> [u32; 3] {
        match self.kernel {
            Kernel::Tile => [128, 1, 1],
            Kernel::Stream { .. } => [64, 1, 1],
            Kernel::Lane { invocations, .. } => [invocations, 1, 1],
        }
    }

    fn source(&self) -> String {
        let (template, stream, subgroups) = match self.kernel {
            Kernel::Tile => (include_str!("../gemm_tile.wgsl"), false, false),
            Kernel::Stream { .. } => (include_str!("../gemv.wgsl"), true, false),
            Kernel::Lane { subgroups, .. } => (include_str!("../gemm_lane.wgsl"), false, subgroups),
        };
        let [invocations, ..] = self.workgroup();
        let (rows, columns, inner) = self.sizes();
        let parts = invocations / self.lanes();
        let float = self.float.wgsl();
        let vector = format!("vec4<{float}>");
        let (places, zero, flip, words) = match self.format {
            Format::Q8 => (
                "vec4<f32>(1.0, 1.0 / 256.0, 1.0 / 65536.0, 1.0 / 16777216.0)",
                "vec4<f32>(-128.0, -128.0, -128.0, 0.0)",
                " ^ vec4<u32>(0x00808080u)",
                4,
            ),
            Format::Q4 => (
                "vec4<f32>(1.0, 1.0 / 16.0, 1.0 / 256.0, 1.0 / 4096.0)",
                "vec4<f32>(-8.0)",
                " ^ vec4<u32>(0x80000000u)",
                4,
            ),
            Format::F16 | Format::Float => ("", "", "", 1),
        };
        let matrix = match (self.format, stream) {
            (Format::Q8 | Format::Q4, true) => "vec4<u32>",
            (Format::Q8 | Format::Q4, false) => "u32",
            (Format::F16, _) => "vec2<u32>",
            (Format::Float, _) => &vector,
        };
        let quads = self.quads();
        let column = format!("{quads}u * at + {{p}}u");
        let column = if self.ragged { format!("min({column}, info.quads - 1u)") } else { column };
        let norm = self.norm_input || self.norm_residual;
        let text = format!("{}\n{template}", include_str!("../linear.wgsl"));
        let filled = fill(
            &text,
            &[
                ("enable", self.float.enable()),
                ("float", float),
                ("x", if subgroups { float } else { &vector }),
                ("w", matrix),
                ("norm", if self.norm_input { "vec4<f32>" } else { "f32" }),
                ("places", places),
                ("zero", zero),
                ("flip", flip),
                ("stage", &STAGE.to_string()),
                ("column", &column),
                ("quads", &quads.to_string()),
                ("step", &(4 * quads).to_string()),
                ("rows", &rows.to_string()),
                ("columns", &columns.to_string()),
                ("inner", &inner.to_string()),
                ("invocations", &invocations.to_string()),
                ("words", &words.to_string()),
                ("lanes", &self.lanes().to_string()),
                ("parts", &parts.to_string()),
                ("shares", &(rows * invocations).to_string()),
                ("sums", &(rows * columns * invocations).to_string()),
                ("pitch", &(columns * invocations).to_string()),
                ("outputs", &(columns * parts).to_string()),
                ("results", &(rows * columns * parts).to_string()),
            ],
            &holding(&[
                ("quantised", matches!(self.format, Format::Q8 | Format::Q4)),
                ("scales", matches!(self.format, Format::Q8 | Format::Q4)),
                ("q8", self.format == Format::Q8),
                ("q4", self.format == Format::Q4),
                ("f16", self.format == Format::F16),
                ("plain", self.format == Format::Float),
                ("bias", self.bias),
                ("residual", self.residual),
                ("norm", norm),
                ("norm_input", self.norm_input),
                ("norm_residual", self.norm_residual),
                ("staged", self.staged),
                ("gelu", self.activation == Activation::Gelu),
                ("relu", self.activation == Activation::Relu),
                ("half", self.activation == Activation::Half),
                ("ragged", self.ragged),
                ("subgroups", subgroups),
            ]),
        );
        let blocks = if self.kernel == Kernel::Tile { 4 } else { words };
        unroll(&filled, &[("r", rows), ("c", columns), ("p", quads), ("i", blocks)])
    }
}

/// Repeats lines of a template: registers need names, because compilers of software renderers keep
/// arrays in memory.
///
/// `#each a b  text` stands for `text` with every `{a}` below `a`'s count, and within it every `{b}`;
/// `#each a` alone begins a block that ends at its `#done`.
///
/// # Panics
/// When a name has no count or a block does not end.
fn unroll(template: &str, counts: &[(&str, u32)]) -> String {
    let lines: Vec<&str> = template.lines().collect();
    let mut out = String::with_capacity(8 * template.len());
    expand(&lines, counts, &[], &mut out);
    out
}

fn expand(lines: &[&str], counts: &[(&str, u32)], bound: &[(&str, u32)], out: &mut String) {
    let mut rest = lines;
    while let [line, after @ ..] = rest {
        rest = after;
        let Some(directive) = line.trim_start().strip_prefix("#each ") else {
            push(line, bound, out);
            continue;
        };
        let (names, text) = names(directive, counts);
        if text.is_empty() {
            let length = block(after);
            repeat(&names, counts, bound, &mut |bound| expand(&after[..length], counts, bound, out));
            rest = &after[length + 1..];
        } else {
            repeat(&names, counts, bound, &mut |bound| push(text, bound, out));
        }
    }
}

/// The names that a directive starts with, and what follows them.
fn names<'a>(directive: &'a str, counts: &[(&str, u32)]) -> (Vec<&'a str>, &'a str) {
    let mut names = Vec::new();
    let mut rest = directive;
    loop {
        let end = rest.find(' ').unwrap_or(rest.len());
        if !counts.iter().any(|(name, _)| *name == &rest[..end]) {
            assert!(!names.is_empty(), "`#each {directive}` names nothing that has a count");
            return (names, rest);
        }
        names.push(&rest[..end]);
        rest = rest.get(end + 1..).unwrap_or("");
    }
}

/// Lines before the `#done` of the block that starts here.
fn block(lines: &[&str]) -> usize {
    let mut depth = 0;
    for (i, line) in lines.iter().enumerate() {
        match line.trim() {
            "#done" if depth == 0 => return i,
            "#done" => depth -= 1,
            // One name alone is a block; with text it is a line.
            line if line.strip_prefix("#each ").is_some_and(|names| !names.contains(' ')) => depth += 1,
            _ => {}
        }
    }
    panic!("`#each` without `#done`");
}

/// Names and the numbers they stand for.
type Bound<'a> = [(&'a str, u32)];

fn repeat<'a>(names: &[&'a str], counts: &Bound<'a>, bound: &Bound<'a>, each: &mut dyn FnMut(&Bound<'a>)) {
    let [name, inner @ ..] = names else { return each(bound) };
    let (_, count) = counts.iter().find(|(known, _)| known == name).expect("`names` looked it up");
    for i in 0..*count {
        repeat(inner, counts, &[bound, &[(*name, i)]].concat(), each);
    }
}

/// Appends one line with the values of its names.
fn push(line: &str, bound: &[(&str, u32)], out: &mut String) {
    let mut line = line.to_owned();
    for (name, value) in bound {
        line = line.replace(&format!("{{{name}}}"), &value.to_string());
    }
    out.push_str(&line);
    out.push('\n');
}

/// Shaders for [`sources`](super::super::sources). None of them needs subgroups, which no browser gives us.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn variants(float: Float) -> Vec<Linear> {
    let kernels = [
        Kernel::Tile,
        Kernel::Stream { rows: 1, columns: 2 },
        Kernel::Stream { rows: 3, columns: 4 },
        Kernel::Lane { rows: 1, columns: 8, invocations: 16, subgroups: false },
        Kernel::Lane { rows: 8, columns: 12, invocations: 8, subgroups: false },
    ];
    let formats = [(Format::Float, 0), (Format::F16, 0), (Format::Q8, 64), (Format::Q4, 32)];
    let mut all = Vec::new();
    for kernel in kernels {
        for (format, group) in formats {
            let few = !matches!(kernel, Kernel::Tile | Kernel::Lane { columns: 12, .. });
            let plain = Linear {
                kernel,
                float,
                format,
                group,
                activation: Activation::None,
                bias: false,
                residual: false,
                norm_input: false,
                staged: false,
                norm_residual: false,
                ragged: false,
            };
            all.push(plain);
            let activation = Activation::Gelu;
            all.push(Linear { activation, bias: true, norm_input: few, ragged: true, ..plain });
            if few {
                all.push(Linear { norm_input: true, staged: true, ..plain });
            }
            all.push(Linear { bias: true, residual: true, norm_residual: few, ..plain });
            all.push(Linear { activation: Activation::Relu, bias: true, ..plain });
            all.push(Linear { activation: Activation::Half, bias: true, residual: true, ..plain });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_blocks_repeat_in_the_order_of_their_names() {
        let text = "#each r c    a{r}{c};\n#each r\nb{r}\n#each c  c{r}{c}\n#done\nend";
        assert_eq!(
            unroll(text, &[("r", 2), ("c", 2)]),
            "   a00;\n   a01;\n   a10;\n   a11;\nb0\n c00\n c01\nb1\n c10\n c11\nend\n"
        );
    }

    #[test]
    #[should_panic(expected = "without `#done`")]
    fn a_block_without_an_end_is_a_mistake() {
        unroll("#each r\nb", &[("r", 2)]);
    }
}
