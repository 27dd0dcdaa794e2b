//! Where relaxed SIMD may stand: only in functions that the CPU kernels call after a run-time check.

use anyhow::{Result, bail};
use walrus::ir::{BinaryOp, Binop, TernOp, TernaryOp, UnaryOp, Unop, Visitor, dfs_in_order};
use walrus::{LocalFunction, Module};

/// What the names of those functions contain; see `crate/src/kernels/cpu/isa/wasm.rs`.
const PLACE: &str = "isa::wasm::relaxed";

/// Refuses a module with a relaxed instruction anywhere else: the compiler may have put it there, and a
/// browser without the proposal would trap on an ordinary path.
pub fn check(module: &Module) -> Result<()> {
    let mut inside = 0;
    let mut outside = Vec::new();
    for (id, function) in module.funcs.iter_local() {
        if !is_relaxed(function) {
            continue;
        }
        match module.funcs.get(id).name.as_deref() {
            Some(name) if name.contains(PLACE) => inside += 1,
            name => outside.push(name.unwrap_or("a function without a name").to_owned()),
        }
    }
    println!("relaxed SIMD: {inside} functions");
    if let Some(first) = outside.first() {
        bail!("{} functions outside `{PLACE}` hold relaxed SIMD instructions: {first}", outside.len());
    }
    Ok(())
}

fn is_relaxed(function: &LocalFunction) -> bool {
    let mut search = Search(false);
    dfs_in_order(&mut search, function, function.entry_block());
    search.0
}

struct Search(bool);

impl Visitor<'_> for Search {
    fn visit_unop(&mut self, instr: &Unop) {
        self.0 |= matches!(
            instr.op,
            UnaryOp::I32x4RelaxedTruncF32x4S
                | UnaryOp::I32x4RelaxedTruncF32x4U
                | UnaryOp::I32x4RelaxedTruncF64x2SZero
                | UnaryOp::I32x4RelaxedTruncF64x2UZero
        );
    }

    fn visit_binop(&mut self, instr: &Binop) {
        self.0 |= matches!(
            instr.op,
            BinaryOp::I8x16RelaxedSwizzle
                | BinaryOp::F32x4RelaxedMin
                | BinaryOp::F32x4RelaxedMax
                | BinaryOp::F64x2RelaxedMin
                | BinaryOp::F64x2RelaxedMax
                | BinaryOp::I16x8RelaxedQ15mulrS
                | BinaryOp::I16x8RelaxedDotI8x16I7x16S
        );
    }

    fn visit_tern_op(&mut self, instr: &TernOp) {
        self.0 |= matches!(
            instr.op,
            TernaryOp::F32x4RelaxedMadd
                | TernaryOp::F32x4RelaxedNmadd
                | TernaryOp::F64x2RelaxedMadd
                | TernaryOp::F64x2RelaxedNmadd
                | TernaryOp::I8x16RelaxedLaneselect
                | TernaryOp::I16x8RelaxedLaneselect
                | TernaryOp::I32x4RelaxedLaneselect
                | TernaryOp::I64x2RelaxedLaneselect
                | TernaryOp::I32x4RelaxedDotI8x16I7x16AddS
        );
    }
}
