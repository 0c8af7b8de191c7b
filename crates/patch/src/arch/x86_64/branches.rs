//! Where code branches to.

use super::decode::{Text, direct_target, ip_relative, seek};
use alloc::vec;
use alloc::vec::Vec;
use iced_x86::{FlowControl, Instruction, Mnemonic, Register};

/// Something in a function that refers to code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    /// Address of the instruction.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A jump, conditional or not, or a loop.
    Jump,
    Call,
    /// `lea` of the address: a label that an indirect jump may take.
    Address,
}

impl Branch {
    pub(crate) fn of(i: &Instruction) -> Option<Self> {
        if let Some(to) = direct_target(i) {
            return Some(Self {
                from: i.ip(),
                to,
                kind: if i.is_call_near() { Kind::Call } else { Kind::Jump },
            });
        }
        let to = ip_relative(i).filter(|_| i.mnemonic() == Mnemonic::Lea)?;
        Some(Self { from: i.ip(), to, kind: Kind::Address })
    }
}

/// Everything that decodes, from the first byte to the last.
pub(crate) struct Sweep {
    /// Whether an instruction begins at the offset.
    pub(crate) starts: Vec<bool>,
    pub(crate) branches: Vec<Branch>,
    /// Every byte belongs to an instruction.
    pub(crate) decodes: bool,
    /// It jumps to an address out of a register, or out of memory that others may write.
    pub(crate) indirect: bool,
}

/// Decodes `text` linearly. Behind a byte that is no instruction it tries the next, so that code
/// behind data is seen; what data looks like is reported, too.
pub(crate) fn sweep(text: Text<'_>) -> Sweep {
    let starts = vec![false; text.bytes.len()];
    let mut sweep = Sweep { starts, branches: Vec::new(), decodes: true, indirect: false };
    let mut end = 0;
    each(text, |offset, i| {
        sweep.starts[offset] = true;
        sweep.branches.extend(Branch::of(i));
        sweep.decodes &= offset == end;
        sweep.indirect |=
            i.flow_control() == FlowControl::IndirectBranch && ip_relative(i).is_none();
        end = offset + i.len();
    });
    sweep.decodes &= end == text.bytes.len();
    sweep
}

fn each(text: Text<'_>, mut visit: impl FnMut(usize, &Instruction)) {
    let mut decoder = text.decoder();
    let mut i = Instruction::default();
    while decoder.can_decode() {
        let offset = decoder.position();
        decoder.decode_out(&mut i);
        if !i.is_invalid() {
            visit(offset, &i);
        } else if seek(&mut decoder, text.address, offset + 1).is_none() {
            return;
        }
    }
}

/// Appends the targets of all direct jumps, loops and calls in `code` (at `address`) that lead out
/// of it. For [`Options::branch_targets`](crate::Options): run over every function of an object and
/// sort, and other functions' jumps into the middle of one are known.
///
/// `tables` gets the addresses that may be jump tables: what `lea` takes, and what indexed accesses
/// add, in a function that jumps indirectly. Code only says where a table is; its entries are in
/// the program's memory, 4 bytes relative to the table or 8 bytes absolute.
///
/// Returns whether a jump leads back to the first byte, or behind an `endbr64` there.
pub fn branch_targets(
    address: u64,
    code: &[u8],
    targets: &mut Vec<u64>,
    tables: &mut Vec<u64>,
) -> bool {
    const ENDBR64: u64 = 4;
    let text = Text { address, bytes: code };
    let before = tables.len();
    let (mut indirect, mut back) = (false, false);
    each(text, |_, i| {
        let to = direct_target(i);
        targets.extend(to.filter(|&to| text.offset(to).is_none()));
        back |= !i.is_call_near() && to.is_some_and(|to| to.wrapping_sub(address) <= ENDBR64);
        indirect |= i.flow_control() == FlowControl::IndirectBranch;
        tables.extend(table(i));
    });
    if !indirect {
        tables.truncate(before);
    }
    back
}

/// The address in an instruction that may be a table's.
fn table(i: &Instruction) -> Option<u64> {
    if i.mnemonic() == Mnemonic::Lea {
        return ip_relative(i);
    }
    let indexed = i.memory_index() != Register::None && i.memory_displ_size() >= 4;
    indexed.then(|| i.memory_displacement64()).filter(|&at| at != 0)
}

/// Where the direct jump or call leads that ends at offset `end` of `code`; none if no such
/// instruction ends there. Some 100 bytes in front of it are enough for the decoding to fall into
/// step with the program, wherever it begins, and 15 behind it to tell it from the middle of a
/// longer instruction.
pub fn branch_before(address: u64, code: &[u8], end: usize) -> Option<u64> {
    let text = Text { address, bytes: code };
    let mut found = None;
    each(text, |offset, i| {
        found = found.or_else(|| direct_target(i).filter(|_| offset + i.len() == end))
    });
    found
}
