//! Launches WGSL: one small way from a kernel's source and its buffers to a dispatch.
//!
//! A kernel is a value that implements [`Shader`]: its fields are everything its source depends on,
//! so the value itself is the key of the pipeline cache and two sources can never share a pipeline.
//! The text is only made when a pipeline is compiled, never for a launch whose pipeline exists.
//!
//! Buffers bind in the order given, and the parameters follow them as one uniform. A source marks
//! its bindings `@binding(next)`, so that an optional buffer is simply left out ([`fill`]).

use std::fmt::Debug;
use std::hash::Hash;

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::attributes::BufferIOAttr;
use cubecl::ir::metadata::Info;
use cubecl::ir::{ElemType, UIntKind};
use cubecl::prelude::{
    CubeCount, ExecutionMode, KernelDefinition, KernelId, KernelMetadata, KernelSettings, Scope,
};
use cubecl::server::{KernelArguments, MetadataBindingInfo};
use cubecl::{CubeDim, CubeKernel, PrecompiledSource};

/// The source of one pipeline.
pub(crate) trait Shader: Copy + Eq + Hash + Debug + Send + Sync + 'static {
    /// Invocations of a workgroup, as in the source's `@workgroup_size`.
    fn workgroup(&self) -> [u32; 3];

    /// The WGSL, with the entry point `main`; must depend on `self` and on nothing else.
    fn source(&self) -> String;
}

/// What a launch does with a buffer. A launch that fails marks what it would have written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Buffer<'a> {
    /// `var<storage, read>`.
    Read(&'a CubeTensor),
    /// `var<storage, read_write>`, every element written, none read before.
    Write(&'a CubeTensor),
    /// `var<storage, read_write>`, read or only partly written.
    Update(&'a CubeTensor),
}

/// Enqueues a dispatch of `count` workgroups, with `parameters` (if any) as a uniform after `buffers`.
///
/// The uniform is padded to 16 bytes; the device keeps it, so that a launch with the parameters of
/// an earlier one uploads nothing.
///
/// # Panics
/// When a tensor is not contiguous: that is a mistake in this crate.
pub(crate) fn launch<S: Shader>(shader: S, count: [u32; 3], buffers: &[Buffer<'_>], parameters: &[u32]) {
    let mut arguments = KernelArguments {
        resources: Vec::with_capacity(buffers.len()),
        declared_io: Vec::with_capacity(buffers.len()),
        info: MetadataBindingInfo::custom(pack(parameters)),
    };
    let mut client = None;
    for buffer in buffers {
        let (tensor, io) = match *buffer {
            Buffer::Read(tensor) => (tensor, BufferIOAttr::ReadOnly),
            Buffer::Write(tensor) => (tensor, BufferIOAttr::WriteOnly),
            Buffer::Update(tensor) => (tensor, BufferIOAttr::ReadWrite),
        };
        assert_contiguous(tensor);
        arguments = arguments.with_buffer_io(tensor.handle.clone().binding(), io);
        client.get_or_insert(&tensor.client);
    }
    let client = client.expect("a kernel without buffers would do nothing");
    let [x, y, z] = count;
    client.launch(Box::new(Kernel::new(shader)), CubeCount::Static(x, y, z), arguments);
}

/// An uninitialised tensor beside `like`.
pub(crate) fn output<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    let bytes = shape.iter().product::<usize>() * dtype.size();
    let handle = like.client.empty(bytes);
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), Shape::new(shape), handle, dtype)
}

/// Whether activations are halves; their arithmetic is in f32 all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Float {
    /// Four bytes.
    F32,
    /// Two bytes; needs the adapter's `shader-f16`.
    F16,
}

impl Float {
    /// That of a tensor.
    ///
    /// # Panics
    /// For any other type: activations are made by our kernels only.
    pub(crate) fn of(tensor: &CubeTensor) -> Self {
        match tensor.dtype {
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            other => panic!("activations are f32 or f16, found {other:?}"),
        }
    }

    /// Its bytes.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// Its name in WGSL.
    pub(crate) fn wgsl(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    /// The directive that a source with it starts with.
    pub(crate) fn enable(self) -> &'static str {
        match self {
            Self::F32 => "",
            Self::F16 => "enable f16;",
        }
    }
}

/// Parameters as the uniform has them.
///
/// # Panics
/// When one needs more than 32 bits: WebGPU has no buffer that large.
pub(crate) fn words<const N: usize>(sizes: [usize; N]) -> [u32; N] {
    sizes.map(|size| u32::try_from(size).expect("no buffer is that large"))
}

/// The names that hold, for [`fill`].
pub(crate) fn holding(flags: &[(&'static str, bool)]) -> Vec<&'static str> {
    flags.iter().filter(|(_, holds)| *holds).map(|(name, _)| *name).collect()
}

/// Makes WGSL from a template.
///
/// - `{{name}}` becomes the value of `name`;
/// - lines between `#if name` (or `#if !name`) and `#end` stay where `name` is among `flags` (or is
///   not), with an optional `#else`; they nest;
/// - each `@binding(next)` becomes the next binding of group 0.
///
/// # Panics
/// When the template uses an unknown name or its conditions do not close.
pub(crate) fn fill(template: &str, values: &[(&str, &str)], flags: &[&str]) -> String {
    let mut source = String::with_capacity(template.len());
    let mut kept = Vec::new();
    let mut binding = 0;
    for line in template.lines() {
        let directive = line.trim();
        if let Some(name) = directive.strip_prefix("#if ") {
            kept.push(match name.strip_prefix('!') {
                Some(name) => !flags.contains(&name),
                None => flags.contains(&name),
            });
        } else if directive == "#else" {
            let last = kept.last_mut().expect("`#else` follows `#if`");
            *last = !*last;
        } else if directive == "#end" {
            kept.pop().expect("`#end` follows `#if`");
        } else if kept.iter().all(|kept| *kept) {
            fill_line(&mut source, line, values, &mut binding);
        }
    }
    assert!(kept.is_empty(), "`#if` without `#end`");
    source
}

/// Appends one line of a template.
fn fill_line(source: &mut String, line: &str, values: &[(&str, &str)], binding: &mut u32) {
    const NEXT: &str = "@binding(next)";
    let mut rest = line;
    if let Some(at) = rest.find(NEXT) {
        source.push_str(&rest[..at]);
        source.push_str(&format!("@group(0) @binding({binding})"));
        *binding += 1;
        rest = &rest[at + NEXT.len()..];
    }
    while let Some(open) = rest.find("{{") {
        let close = open + rest[open..].find("}}").expect("`{{` closes in its line");
        let name = &rest[open + 2..close];
        let value = values.iter().find(|(known, _)| *known == name);
        let (_, value) = value.unwrap_or_else(|| panic!("the template names `{name}`, which has no value"));
        source.push_str(&rest[..open]);
        source.push_str(value);
        rest = &rest[close + 2..];
    }
    source.push_str(rest);
    source.push('\n');
}

/// A shader as cubecl launches it.
struct Kernel<S> {
    shader: S,
    id: KernelId,
}

impl<S: Shader> Kernel<S> {
    fn new(shader: S) -> Self {
        // Unchecked: naga would otherwise add a counter to every loop of ours.
        let id = KernelId::new::<S>()
            .info(shader)
            .cube_dim(dimensions(&shader).into())
            .mode(ExecutionMode::Unchecked);
        Self { shader, id }
    }
}

impl<S: Shader> KernelMetadata for Kernel<S> {
    fn name(&self) -> &'static str {
        std::any::type_name::<S>()
    }

    fn id(&self) -> KernelId {
        self.id.clone()
    }

    fn address_type(&self) -> ElemType {
        UIntKind::U32.into()
    }
}

impl<S: Shader> CubeKernel for Kernel<S> {
    /// Never compiled: the source below stands in for it.
    fn define(&self) -> KernelDefinition {
        let settings =
            KernelSettings::new(dimensions(&self.shader).into(), self.id.mode, self.id.address_type);
        KernelDefinition { body: Scope::root(settings.clone()), settings, info: Info::default() }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        let source = self.shader.source();
        // Natively tensors are slices of shared buffers, and a dispatch must not bind one buffer both
        // ways; in the browser every tensor has its own, and what is only read can say so.
        #[cfg(not(target_family = "wasm"))]
        let source = source.replace("var<storage, read>", "var<storage, read_write>");
        Some(PrecompiledSource { source, entrypoint_name: "main".into(), lang: "wgsl" })
    }
}

fn dimensions<S: Shader>(shader: &S) -> CubeDim {
    let [x, y, z] = shader.workgroup();
    CubeDim::new_3d(x, y, z)
}

/// Pairs of words, little-endian, padded to 16 bytes: what a uniform struct of 4-byte fields reads.
fn pack(parameters: &[u32]) -> Vec<u64> {
    let pairs = parameters.len().div_ceil(4) * 2;
    let word = |i: usize| u64::from(parameters.get(i).copied().unwrap_or(0));
    (0..pairs).map(|pair| word(2 * pair) | word(2 * pair + 1) << 32).collect()
}

pub(super) fn assert_contiguous(tensor: &CubeTensor) {
    let mut expected = 1;
    for (&size, &stride) in tensor.meta.shape().iter().zip(tensor.meta.strides().iter()).rev() {
        assert!(size == 1 || stride == expected, "kernels take contiguous tensors, found {:?}", tensor.meta);
        expected *= size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_drops_what_is_absent_and_numbers_what_is_left() {
        let template = "a @binding(next) x;\n#if pads\nb @binding(next) y;\n#else\nnone\n#end\n\
                        #if !pads\n#if wide\nw\n#end\n#end\nc @binding(next) {{z}}{{z}};";
        let with = fill(template, &[("z", "7")], &["pads", "wide"]);
        assert_eq!(
            with,
            "a @group(0) @binding(0) x;\nb @group(0) @binding(1) y;\nc @group(0) @binding(2) 77;\n"
        );
        let without = fill(template, &[("z", "7")], &["wide"]);
        assert_eq!(without, "a @group(0) @binding(0) x;\nnone\nw\nc @group(0) @binding(1) 77;\n");
    }

    #[test]
    #[should_panic(expected = "names `z`")]
    fn a_template_with_an_unknown_name_is_a_mistake() {
        fill("{{z}}", &[], &[]);
    }

    #[test]
    fn parameters_are_padded_to_whole_vectors() {
        assert_eq!(pack(&[]), Vec::<u64>::new());
        assert_eq!(pack(&[1, 2, 3, 4, 5]), [1 | 2 << 32, 3 | 4 << 32, 5, 0]);
    }
}
