//! Where code branches to.

use super::decode::{Text, direct_target, ip_relative, seek};
use iced_x86::{Instruction, Mnemonic};

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
            return Some(Self { from: i.ip(), to, kind: if i.is_call_near() { Kind::Call } else { Kind::Jump } });
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
}

/// Decodes `text` linearly. Behind a byte that is no instruction it tries the next, so that code behind data is seen; what data looks like is reported, too.
pub(crate) fn sweep(text: Text<'_>) -> Sweep {
    let mut sweep = Sweep { starts: vec![false; text.bytes.len()], branches: Vec::new() };
    each(text, |offset, i| {
        sweep.starts[offset] = true;
        sweep.branches.extend(Branch::of(i));
    });
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

/// Appends the targets of all direct jumps, loops and calls in `code` (at `address`) that lead out of it. For [`Options::landings`](crate::Options): run over every function of
/// an object and sort, and other functions' jumps into the middle of one are known.
pub fn branch_targets(address: u64, code: &[u8], targets: &mut Vec<u64>) {
    let text = Text { address, bytes: code };
    each(text, |_, i| targets.extend(direct_target(i).filter(|&to| text.offset(to).is_none())));
}
