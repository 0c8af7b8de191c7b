//! A walk through a function from its entry: which code is reached, how deep the stack is there,
//! and whether the function meddles with its return address.
//!
//! The state before an instruction is the distance from rsp, rbp and rbx up to the return address,
//! each known or not. Where two ways meet with different distances it is unknown from then on, so
//! every instruction is visited at most a few times.

use super::branches::Branch;
use super::decode::{Text, direct_target, ends_flow, seek};
use crate::NoReturn;
use alloc::vec;
use alloc::vec::Vec;
use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

/// What the walk found.
pub(crate) struct Flow {
    /// Branches of the code that was reached.
    pub(crate) branches: Vec<Branch>,
    /// Whether an instruction at the offset was reached.
    pub(crate) reached: Vec<bool>,
    /// Everything reached decodes, calls that do not return aside.
    pub(crate) decodes: bool,
    /// What the function does to its return address.
    pub(crate) returns: Result<(), NoReturn>,
}

/// Distances from a register up to the return address: rsp, rbp, rbx.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State([Option<i32>; 3]);

const SP: usize = 0;

impl State {
    const ENTRY: Self = Self([Some(0), None, None]);

    /// What is known on both ways.
    fn meet(self, other: Self) -> Self {
        Self(core::array::from_fn(|k| self.0[k].filter(|_| self.0[k] == other.0[k])))
    }
}

fn tracked(r: Register) -> Option<usize> {
    match r.full_register() {
        Register::RSP => Some(SP),
        Register::RBP => Some(1),
        Register::RBX => Some(2),
        _ => None,
    }
}

/// Walks through `text` from `entry`, an offset.
pub(crate) fn walk(text: Text<'_>, entry: usize) -> Flow {
    let mut flow = Flow {
        branches: Vec::new(),
        reached: vec![false; text.bytes.len()],
        decodes: true,
        returns: Ok(()),
    };
    let mut states: Vec<Option<State>> = vec![None; text.bytes.len()];
    let mut suspects: Vec<(usize, State, NoReturn)> = Vec::new();
    // (offset, state before it, reached only by coming back from a call)
    let mut work = vec![(entry, State::ENTRY, false)];
    let mut decoder = text.decoder();
    let mut i = Instruction::default();
    while let Some((mut offset, mut state, mut after_call)) = work.pop() {
        while offset < text.bytes.len() {
            if let Some(known) = states[offset] {
                let met = known.meet(state);
                if met == known {
                    break;
                }
                state = met;
            }
            states[offset] = Some(state);
            if seek(&mut decoder, text.address, offset).is_none() {
                break;
            }
            decoder.decode_out(&mut i);
            if i.is_invalid() {
                flow.decodes &= after_call;
                break;
            }
            if !flow.reached[offset] {
                flow.reached[offset] = true;
                flow.branches.extend(Branch::of(&i));
            }
            if let Some(what) = meddles(&i, &state) {
                suspects.push((offset, state, what));
            }
            state = step(&i, state);
            if let Some(to) = direct_target(&i).and_then(|to| text.offset(to)) {
                if !i.is_call_near() {
                    work.push((to, state, false));
                } else if to != entry {
                    // A call of its own inside pushes; recursion begins anew.
                    let State([sp, bp, bx]) = state;
                    work.push((to, State([sp.and_then(|d| d.checked_add(8)), bp, bx]), false));
                }
            }
            if ends_flow(&i) {
                break;
            }
            after_call = matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
                || after_call && i.mnemonic() == Mnemonic::Nop;
            offset += i.len();
        }
    }
    // A suspicion counts only if the state that raised it survived all ways to the instruction.
    suspects.retain(|&(offset, state, _)| states[offset] == Some(state));
    suspects.sort_by_key(|s| s.0);
    flow.returns = suspects.first().map_or(Ok(()), |&(_, _, what)| Err(what));
    flow
}

/// What the instruction does to the return address, with the registers as in `state`.
fn meddles(i: &Instruction, state: &State) -> Option<NoReturn> {
    if let Some(depth) = state.0[SP] {
        let after = step(i, *state).0[SP];
        if !ends_flow(i) && after.is_some_and(|d| d < 0) && depth >= 0 {
            return Some(NoReturn::DropsReturnAddress);
        }
    }
    if i.mnemonic() == Mnemonic::Mov
        && i.op0_kind() == OpKind::Register
        && i.op0_register() == Register::RSP
        && i.op1_kind() == OpKind::Memory
    {
        // Compilers restore rsp from their own frame; a switch loads it out of a context.
        return (!matches!(i.memory_base(), Register::RSP | Register::RBP | Register::RBX))
            .then_some(NoReturn::SwitchesStack);
    }
    if i.mnemonic() == Mnemonic::Xchg
        && i.op_count() == 2
        && (i.op0_register() == Register::RSP || i.op1_register() == Register::RSP)
    {
        return Some(NoReturn::SwitchesStack);
    }
    let operand = (0..i.op_count()).find(|&k| i.op_kind(k) == OpKind::Memory)?;
    let distance =
        state.0[tracked(i.memory_base()).filter(|_| i.memory_index() == Register::None)?]?;
    if i.memory_displacement64() as i64 != i64::from(distance) || i.memory_base().size() != 8 {
        return None;
    }
    match i.mnemonic() {
        Mnemonic::Nop
        | Mnemonic::Prefetcht0
        | Mnemonic::Prefetcht1
        | Mnemonic::Prefetcht2
        | Mnemonic::Prefetchnta
        | Mnemonic::Prefetchw => None,
        // Leaving the frame.
        Mnemonic::Lea if i.op0_register() == Register::RSP => None,
        Mnemonic::Mov | Mnemonic::Pop | Mnemonic::Xchg | Mnemonic::Add | Mnemonic::Sub
            if operand == 0 =>
        {
            Some(NoReturn::WritesReturnAddress)
        }
        _ => Some(NoReturn::ReadsReturnAddress),
    }
}

/// The state behind an instruction.
fn step(i: &Instruction, mut state: State) -> State {
    let constant = |n: u32| match i.op_kind(n) {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => {
            i32::try_from(i.immediate(n) as i64).ok()
        }
        _ => None,
    };
    let add = |d: Option<i32>, by: Option<i32>| d?.checked_add(by?);
    let target = (i.op_count() > 0 && i.op0_kind() == OpKind::Register)
        .then(|| i.op0_register())
        .and_then(tracked);
    let whole = target.is_some() && i.op0_register().size() == 8;
    match i.mnemonic() {
        Mnemonic::Push | Mnemonic::Pushfq | Mnemonic::Pop | Mnemonic::Popfq => {
            if let (Mnemonic::Pop, Some(k)) = (i.mnemonic(), target) {
                state.0[k] = None;
            }
            state.0[SP] = add(state.0[SP], i.stack_pointer_increment().checked_neg());
        }
        Mnemonic::Leave => {
            state.0[SP] = add(state.0[1], Some(-8));
            state.0[1] = None;
        }
        Mnemonic::Enter => state = State([None; 3]),
        Mnemonic::Mov | Mnemonic::Lea if target.is_some() => {
            let source = match i.op1_kind() {
                OpKind::Register if i.op1_register().size() == 8 => {
                    tracked(i.op1_register()).and_then(|k| state.0[k])
                }
                OpKind::Memory
                    if i.mnemonic() == Mnemonic::Lea && i.memory_index() == Register::None =>
                {
                    let disp = i32::try_from(i.memory_displacement64() as i64)
                        .ok()
                        .and_then(i32::checked_neg);
                    add(tracked(i.memory_base()).and_then(|k| state.0[k]), disp)
                }
                _ => None,
            };
            if let Some(k) = target {
                state.0[k] = source.filter(|_| whole);
            }
        }
        Mnemonic::Add | Mnemonic::Sub if target.is_some() => {
            if let Some(k) = target {
                let by = if i.mnemonic() == Mnemonic::Add {
                    constant(1).and_then(i32::checked_neg)
                } else {
                    constant(1)
                };
                state.0[k] = add(state.0[k], by).filter(|_| whole);
            }
        }
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Bt => {}
        // Anything else that names one of them is taken for a write.
        _ => {
            for n in 0..i.op_count().min(2) {
                let writes = n == 0 || matches!(i.mnemonic(), Mnemonic::Xchg | Mnemonic::Xadd);
                if let Some(k) = (writes && i.op_kind(n) == OpKind::Register)
                    .then(|| i.op_register(n))
                    .and_then(tracked)
                {
                    state.0[k] = None;
                }
            }
            if matches!(i.mnemonic(), Mnemonic::Cpuid | Mnemonic::Cmpxchg16b) {
                state.0[2] = None;
            }
        }
    }
    state
}
