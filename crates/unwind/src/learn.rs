//! From the unwind tables (`.eh_frame`) to a rule. Parsing is gimli's; nothing is allocated.
//!
//! The tables of a loaded module are trusted as far as its code is: they lie in memory that is
//! mapped as long as the module is.
#![allow(unsafe_code)]

use crate::module::Module;
use crate::rule::{Rule, Saved};
use core::ptr;
use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, Expression, FrameDescriptionEntry,
    NativeEndian, Operation, Pointer, Register, RegisterRule, UnwindContext, UnwindContextStorage,
    UnwindExpression, UnwindSection, UnwindTableRow, X86_64,
};

type Bytes = EndianSlice<'static, NativeEndian>;

/// Room for the rows of a table that is being read.
pub(crate) struct Rows;

impl UnwindContextStorage<usize> for Rows {
    type Rules = [(Register, RegisterRule<usize>); 64];
    type Stack = [UnwindTableRow<usize, Self>; 4];
}

pub(crate) type Context = UnwindContext<usize, Rows>;

/// The rule for code at `pc`, the address of the instruction itself: of a return address, one less.
pub(crate) fn learn(module: &Module, pc: u64, context: &mut Context) -> Rule {
    look_up(module, pc, context).unwrap_or(Rule::NoTable)
}

/// Whether a function that the tables describe begins at `address`.
pub(crate) fn begins(module: &Module, address: u64) -> bool {
    entry(module, address).is_some_and(|(entry, _, _)| entry.initial_address() == address)
}

fn look_up(module: &Module, pc: u64, context: &mut Context) -> Option<Rule> {
    let (entry, frames, bases) = entry(module, pc)?;
    let row = match entry.unwind_info_for_address(&frames, &bases, context, pc) {
        Ok(row) => row,
        Err(gimli::Error::NoUnwindInfoForAddress) => return None,
        Err(_) => return Some(Rule::Unsupported),
    };
    Some(rule(row, &frames, pc, entry.is_signal_trampoline()).unwrap_or(Rule::Unsupported))
}

/// The entry of the table that may describe `pc`, and what it takes to read it.
fn entry(
    module: &Module,
    pc: u64,
) -> Option<(FrameDescriptionEntry<Bytes>, EhFrame<Bytes>, BaseAddresses)> {
    let at = &module.eh_frame_hdr;
    if at.is_empty() {
        let at = &module.eh_frame;
        let bases = BaseAddresses::default().set_eh_frame(at.start);
        let mut frames =
            EhFrame::from(EndianSlice::new(bytes(module, at.start, at.end)?, NativeEndian));
        frames.set_address_size(8);
        let entry = frames.fde_for_address(&bases, pc, EhFrame::cie_from_offset).ok()?;
        return Some((entry, frames, bases));
    }
    let bases = BaseAddresses::default().set_eh_frame_hdr(at.start);
    let header = EhFrameHdr::from(EndianSlice::new(bytes(module, at.start, at.end)?, NativeEndian))
        .parse(&bases, 8)
        .ok()?;
    let Pointer::Direct(start) = header.eh_frame_ptr() else { return None };
    let bases = bases.set_eh_frame(start);
    let frames = EhFrame::from(EndianSlice::new(
        bytes(module, start, module.readable_end(start)?)?,
        NativeEndian,
    ));
    let entry =
        header.table()?.fde_for_address(&frames, &bases, pc, EhFrame::cie_from_offset).ok()?;
    Some((entry, frames, bases))
}

/// Memory of a module, as far as it is readable.
fn bytes(module: &Module, start: u64, end: u64) -> Option<&'static [u8]> {
    let end = end.min(module.readable_end(start)?);
    let len = end.checked_sub(start).filter(|len| *len > 0)? as usize;
    // SAFETY: inside a readable segment of a loaded module, which nobody writes (`.eh_frame` is
    // constant). Not kept beyond the look-up, during which the module stays loaded: it is on the
    // stack.
    Some(unsafe { core::slice::from_raw_parts(ptr::with_exposed_provenance(start as usize), len) })
}

/// Offsets from the stack pointer at a signal's return trampoline, in the kernel's `ucontext`.
pub(crate) mod signal_frame {
    pub(crate) const BP: u64 = 120;
    pub(crate) const SP: u64 = 160;
    pub(crate) const PC: u64 = 168;
}

fn rule(
    row: &UnwindTableRow<usize, Rows>,
    frames: &EhFrame<Bytes>,
    pc: u64,
    trampoline: bool,
) -> Option<Rule> {
    let evaluate = |e: &UnwindExpression<usize>| evaluate(e.get(frames).ok()?, pc);
    if trampoline {
        // The kernel's layout is fixed; that the table says the same makes sure that this is such a
        // frame.
        let at = |register| match row.register(register) {
            Some(RegisterRule::Expression(e)) => evaluate(&e),
            _ => None,
        };
        let CfaRule::Expression(cfa) = row.cfa() else { return None };
        let same = evaluate(cfa)? == Value::AtSp(signal_frame::SP as i64)
            && at(X86_64::RA)? == Value::Sp(signal_frame::PC as i64)
            && at(X86_64::RBP)? == Value::Sp(signal_frame::BP as i64);
        return same.then_some(Rule::Signal);
    }
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => return Some(Rule::Outermost),
        // A call has left it there; everything else is not a call.
        Some(RegisterRule::Offset(-8)) => {}
        _ => return None,
    }
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register: X86_64::RSP, offset } => Value::Sp(*offset),
        CfaRule::RegisterAndOffset { register: X86_64::RBP, offset } => Value::Bp(*offset),
        CfaRule::RegisterAndOffset { .. } => return None,
        CfaRule::Expression(e) => evaluate(e)?,
    };
    let (from_cfa, from_bp) = match row.register(X86_64::RBP).unwrap_or(RegisterRule::SameValue) {
        RegisterRule::Undefined | RegisterRule::SameValue => (Some(Saved::Kept), Some(Saved::Kept)),
        RegisterRule::Offset(offset) => (Some(Saved::At(offset)), None),
        RegisterRule::Expression(e) => match evaluate(&e)? {
            Value::Bp(offset) => (None, Some(Saved::At(offset))),
            _ => return None,
        },
        _ => return None,
    };
    Some(match cfa {
        Value::Sp(cfa) => Rule::Sp { cfa, bp: from_cfa? },
        Value::Bp(cfa) => Rule::Bp { cfa, bp: from_cfa? },
        Value::AtBp(cfa) => Rule::Aligned { cfa, bp: from_bp? },
        Value::AtSp(_) | Value::Constant(_) => return None,
    })
}

/// What an expression gives, while the registers are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Constant(i64),
    /// Stack pointer plus offset.
    Sp(i64),
    /// Frame pointer plus offset.
    Bp(i64),
    /// The word there.
    AtSp(i64),
    AtBp(i64),
}

impl Value {
    fn plus(self, more: i64) -> Option<Self> {
        Some(match self {
            Self::Constant(n) => Self::Constant(n.wrapping_add(more)),
            Self::Sp(n) => Self::Sp(n.checked_add(more)?),
            Self::Bp(n) => Self::Bp(n.checked_add(more)?),
            Self::AtSp(_) | Self::AtBp(_) => return None,
        })
    }
}

/// Evaluates what compilers and linkers write: frames that were aligned, signal frames, entries of
/// procedure linkage tables. `None`: something else.
fn evaluate(expression: Expression<Bytes>, pc: u64) -> Option<Value> {
    let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
    let mut operations = expression.operations(encoding);
    let mut stack = [Value::Constant(0); 8];
    let mut len = 0;
    while let Some(operation) = operations.next().ok()? {
        let value = match operation {
            Operation::RegisterOffset { register: X86_64::RSP, offset, .. } => Value::Sp(offset),
            Operation::RegisterOffset { register: X86_64::RBP, offset, .. } => Value::Bp(offset),
            Operation::RegisterOffset { register: X86_64::RA, offset, .. } => {
                Value::Constant((pc as i64).wrapping_add(offset))
            }
            Operation::UnsignedConstant { value } => Value::Constant(value as i64),
            Operation::SignedConstant { value } => Value::Constant(value),
            Operation::PlusConstant { value } => pop(&stack, &mut len)?.plus(value as i64)?,
            Operation::Deref { size: 8, space: false, .. } => match pop(&stack, &mut len)? {
                Value::Sp(offset) => Value::AtSp(offset),
                Value::Bp(offset) => Value::AtBp(offset),
                _ => return None,
            },
            Operation::Plus => match (pop(&stack, &mut len)?, pop(&stack, &mut len)?) {
                (Value::Constant(n), other) | (other, Value::Constant(n)) => other.plus(n)?,
                _ => return None,
            },
            Operation::And | Operation::Ge | Operation::Shl => {
                let (Value::Constant(b), Value::Constant(a)) =
                    (pop(&stack, &mut len)?, pop(&stack, &mut len)?)
                else {
                    return None;
                };
                Value::Constant(match operation {
                    Operation::And => a & b,
                    Operation::Ge => i64::from(a >= b),
                    _ => a.checked_shl(u32::try_from(b).ok()?)?,
                })
            }
            Operation::Nop => continue,
            _ => return None,
        };
        *stack.get_mut(len)? = value;
        len += 1;
    }
    pop(&stack, &mut len)
}

fn pop(stack: &[Value; 8], len: &mut usize) -> Option<Value> {
    *len = len.checked_sub(1)?;
    stack.get(*len).copied()
}

#[cfg(test)]
mod tests {
    use super::{Value, evaluate};
    use gimli::{EndianSlice, Expression, NativeEndian};

    #[test]
    fn expressions_that_are_in_use() {
        let of = |bytes: &'static [u8], pc| {
            evaluate(Expression(EndianSlice::new(bytes, NativeEndian)), pc)
        };
        // breg6 -8; deref: a function that has aligned its stack.
        assert_eq!(of(&[0x76, 0x78, 0x06], 0), Some(Value::AtBp(-8)));
        // breg7 160; deref: a signal frame.
        assert_eq!(of(&[0x77, 0xa0, 0x01, 0x06], 0), Some(Value::AtSp(160)));
        // breg7 8; breg16 0; lit15; and; lit11; ge; lit3; shl; plus: an entry of a procedure
        // linkage table, before and after its push.
        let plt: &[u8] = &[0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        assert_eq!((of(plt, 0x1026), of(plt, 0x102b)), (Some(Value::Sp(8)), Some(Value::Sp(16))));
        for unknown in
            [&[0x73, 0x00][..], &[0x06], &[0x22], &[], &[0x77, 0, 0x76, 0, 0x22], &[0x9f], &[0xff]]
        {
            assert_eq!(of(unknown, 0), None, "{unknown:x?}");
        }
    }
}
