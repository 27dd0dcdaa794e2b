//! Where relaxed SIMD may stand: only in functions that the CPU kernels call after a run-time check.
//!
//! Switching the instructions on for those functions allows the compiler to choose them in others of
//! the same unit, where a browser without them would trap on an ordinary path.

use anyhow::{Result, bail};
use walrus::ir::{
    BinaryOp, Binop, TernOp, TernaryOp, UnaryOp, Unop, Visitor, VisitorMut, dfs_in_order, dfs_pre_order_mut,
};
use walrus::{LocalFunction, Module};

/// What the names of those functions contain; see `crate/src/kernels/cpu/isa/wasm.rs`.
const PLACE: &str = "isa::wasm::relaxed";

/// Makes relaxed instructions elsewhere the strict ones that they may stand for, and refuses a module
/// with one that is no single strict instruction.
pub fn confine(module: &mut Module) -> Result<()> {
    let named = |name: Option<&str>| name.is_some_and(|name| name.contains(PLACE));
    let elsewhere: Vec<_> = module
        .funcs
        .iter_local()
        .filter(|(id, function)| is_relaxed(function) && !named(module.funcs.get(*id).name.as_deref()))
        .map(|(id, _)| id)
        .collect();
    for id in &elsewhere {
        let function = module.funcs.get_mut(*id).kind.unwrap_local_mut();
        let entry = function.entry_block();
        dfs_pre_order_mut(&mut Strict, function, entry);
    }
    let mut inside = 0;
    for (id, _) in module.funcs.iter_local().filter(|(_, function)| is_relaxed(function)) {
        let name = module.funcs.get(id).name.as_deref();
        if !named(name) {
            bail!("relaxed SIMD outside `{PLACE}`: {}", name.unwrap_or("a function without a name"));
        }
        inside += 1;
    }
    println!("relaxed SIMD: {inside} functions; made strict in {} others", elsewhere.len());
    Ok(())
}

fn is_relaxed(function: &LocalFunction) -> bool {
    let mut search = Search(false);
    dfs_in_order(&mut search, function, function.entry_block());
    search.0
}

/// A strict instruction that is one of those a relaxed one may be.
fn strict_unary(op: UnaryOp) -> Option<UnaryOp> {
    Some(match op {
        UnaryOp::I32x4RelaxedTruncF32x4S => UnaryOp::I32x4TruncSatF32x4S,
        UnaryOp::I32x4RelaxedTruncF32x4U => UnaryOp::I32x4TruncSatF32x4U,
        UnaryOp::I32x4RelaxedTruncF64x2SZero => UnaryOp::I32x4TruncSatF64x2SZero,
        UnaryOp::I32x4RelaxedTruncF64x2UZero => UnaryOp::I32x4TruncSatF64x2UZero,
        _ => return None,
    })
}

/// As [`strict_unary`].
fn strict_binary(op: BinaryOp) -> Option<BinaryOp> {
    Some(match op {
        BinaryOp::F32x4RelaxedMin => BinaryOp::F32x4Min,
        BinaryOp::F32x4RelaxedMax => BinaryOp::F32x4Max,
        BinaryOp::F64x2RelaxedMin => BinaryOp::F64x2Min,
        BinaryOp::F64x2RelaxedMax => BinaryOp::F64x2Max,
        BinaryOp::I16x8RelaxedQ15mulrS => BinaryOp::I16x8Q15MulrSatS,
        _ => return None,
    })
}

struct Strict;

impl VisitorMut for Strict {
    fn visit_unop_mut(&mut self, instr: &mut Unop) {
        instr.op = strict_unary(instr.op).unwrap_or(instr.op);
    }

    fn visit_binop_mut(&mut self, instr: &mut Binop) {
        instr.op = strict_binary(instr.op).unwrap_or(instr.op);
    }
}

struct Search(bool);

impl Visitor<'_> for Search {
    fn visit_unop(&mut self, instr: &Unop) {
        self.0 |= strict_unary(instr.op).is_some();
    }

    fn visit_binop(&mut self, instr: &Binop) {
        self.0 |= strict_binary(instr.op).is_some()
            || matches!(instr.op, BinaryOp::I8x16RelaxedSwizzle | BinaryOp::I16x8RelaxedDotI8x16I7x16S);
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
