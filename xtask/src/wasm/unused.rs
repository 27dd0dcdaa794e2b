//! Code that is linked and never runs.
//!
//! The kernel compiler registers every operation of its intermediate language with functions that read
//! it from text and optimise it. The linker has to keep them, because they are in a table; but all our
//! kernels come as WGSL, which passes by that compiler. Their bodies become traps here, and wasm-opt
//! then drops whatever only they used.
//!
//! Names alone would not be safe: the linker gives equal functions one body and one of their names, so that
//! a function of this list may be another crate's as well. Therefore a function is emptied only when all
//! who call it by its name are on the list themselves or reachable from it alone, and when it is not so short
//! that another one may equal it. The tests in a browser run every task on every device.

use anyhow::{Result, bail};
use std::collections::{HashMap, HashSet};
use walrus::ir::{
    Instr, InstrLocId, InstrSeq, Unreachable, Visitor, VisitorMut, dfs_in_order, dfs_pre_order_mut,
};
use walrus::{ConstExpr, ElementItems, ExportItem, FunctionId, GlobalKind, Module};

/// What the names of such functions contain, and what they are for.
const UNUSED: &[(&str, &str)] = &[
    // Nobody has kernels as text of that language.
    ("pliron::parsable::Parsable>::parse", "reading the language"),
    ("pliron::op::canonical_syntax_parse_impl", "reading the language"),
    ("combine::parser::", "reading the language"),
    // Only a kernel in that language is optimised and translated.
    ("cubecl_opt::", "optimising"),
    ("pliron::opts::", "optimising"),
];

/// What the names of functions contain that run all the same: when the module starts, and when what was
/// registered is dropped.
const RUNS: &[&str] = &["::__ctor::", "core::ptr::drop_in_place"];

/// What the names of functions contain that stand in a table in the place of the one function they call.
const STANDS_IN: &str = "core::ops::function::FnOnce::call_once";

/// Instructions of the shortest function that is emptied.
const SHORTEST: usize = 32;

/// Empties the functions.
pub fn empty(module: &mut Module) -> Result<()> {
    let unused = unused(module);
    let mut counts = vec![0; UNUSED.len()];
    for (id, kind) in &unused {
        counts[*kind] += 1;
        let function = module.funcs.get_mut(*id).kind.unwrap_local_mut();
        let entry = function.entry_block();
        dfs_pre_order_mut(&mut Trap, function, entry);
    }
    for ((part, purpose), count) in UNUSED.iter().zip(&counts) {
        // Names change with versions; the size would grow without a word.
        if *count == 0 {
            bail!("no function is named `{part}` any more ({purpose}): look for its new name");
        }
    }
    println!("{} functions emptied that never run: {counts:?}", unused.len());
    Ok(())
}

/// The functions that are emptied, each with its place in `UNUSED`.
fn unused(module: &Module) -> Vec<(FunctionId, usize)> {
    let bodies: HashMap<FunctionId, Body> =
        module.funcs.iter_local().map(|(id, function)| (id, Body::of(function))).collect();
    let mut callers: HashMap<FunctionId, Vec<FunctionId>> = HashMap::new();
    for (id, body) in &bodies {
        for callee in &body.calls {
            callers.entry(*callee).or_default().push(*id);
        }
    }
    let name = |id: &FunctionId| module.funcs.get(*id).name.as_deref().unwrap_or_default();
    let is = |id: &FunctionId, parts: &[&str]| parts.iter().any(|part| name(id).contains(part));
    let kind = |id: &FunctionId| {
        UNUSED.iter().position(|(part, _)| name(id).contains(part)).filter(|_| !is(id, RUNS))
    };
    let stands_in = |id: &FunctionId, body: &Body| {
        body.instructions < SHORTEST
            && name(id).contains(STANDS_IN)
            && body.calls.iter().any(|callee| kind(callee).is_some())
    };
    let known = known_from_outside(module);
    // The greatest set whose members are on the list or unknown outside, and called by members only.
    let mut set: HashSet<FunctionId> = bodies
        .iter()
        .filter(|(id, body)| kind(id).is_some() || stands_in(id, body) || !known.contains(id))
        .map(|(id, _)| *id)
        .collect();
    loop {
        let called_inside =
            |id: &FunctionId| callers.get(id).is_none_or(|callers| callers.iter().all(|id| set.contains(id)));
        let smaller: HashSet<FunctionId> = set.iter().filter(|id| called_inside(id)).copied().collect();
        if smaller.len() == set.len() {
            break;
        }
        set = smaller;
    }
    set.into_iter()
        .filter(|id| bodies[id].instructions >= SHORTEST)
        .filter_map(|id| kind(&id).map(|kind| (id, kind)))
        .collect()
}

/// Functions that somebody may call without being one: through a table, an export, or at the start.
fn known_from_outside(module: &Module) -> HashSet<FunctionId> {
    let mut known: HashSet<FunctionId> = module.start.into_iter().collect();
    let constant = |value: &ConstExpr| if let ConstExpr::RefFunc(id) = value { Some(*id) } else { None };
    for element in module.elements.iter() {
        match &element.items {
            ElementItems::Functions(functions) => known.extend(functions),
            ElementItems::Expressions(_, values) => known.extend(values.iter().filter_map(constant)),
        }
    }
    for export in module.exports.iter() {
        if let ExportItem::Function(id) = export.item {
            known.insert(id);
        }
    }
    for global in module.globals.iter() {
        if let GlobalKind::Local(value) = &global.kind {
            known.extend(constant(value));
        }
    }
    known
}

/// How long a function is, and what it calls or takes the address of.
#[derive(Default)]
struct Body {
    instructions: usize,
    calls: Vec<FunctionId>,
}

impl Body {
    fn of(function: &walrus::LocalFunction) -> Self {
        let mut body = Self::default();
        dfs_in_order(&mut body, function, function.entry_block());
        body
    }
}

impl<'a> Visitor<'a> for Body {
    fn visit_instr(&mut self, _: &'a Instr, _: &'a InstrLocId) {
        self.instructions += 1;
    }

    fn visit_function_id(&mut self, function: &FunctionId) {
        self.calls.push(*function);
    }
}

struct Trap;

impl VisitorMut for Trap {
    fn start_instr_seq_mut(&mut self, sequence: &mut InstrSeq) {
        // The entry is visited first, and then has nothing inside.
        sequence.instrs = vec![(Instr::Unreachable(Unreachable {}), Default::default())];
    }
}
