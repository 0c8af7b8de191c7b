//! What the code of Go's functions tells of their stacks.

use super::decode::{Decoded, Text, direct_target};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// Where a goroutine's descriptor, which r14 leads to, has the limit of its stack (`stackguard0`).
const LIMIT: u64 = 16;

/// How many bytes the look takes whether the stack has room for the function's frame, which is the
/// first thing that a function of Go's does (`stacksplit` in its assembler). In one of three forms,
/// and then a branch to where the stack grows:
///
/// ```text
/// cmp rsp, [r14 + 16]
/// lea r12, [rsp - n]; cmp r12, [r14 + 16]
/// mov r12, rsp; sub r12, n; jb grow; cmp r12, [r14 + 16]
/// ```
///
/// Goroutines are preempted nowhere behind the first comparison, or the first instruction of the
/// last form, and before the end: the assembler says so in the function's tables.
pub(crate) fn stack_check(text: Text<'_>) -> Option<usize> {
    let mut at = 0;
    let mut next = || {
        let decoded = text.at(at)?;
        at += decoded.bytes.len();
        Some(decoded)
    };
    let first = next()?.instruction;
    let mut pointer = Register::RSP;
    let mut compare = first;
    if writes_r12(&first) {
        pointer = Register::R12;
        compare = next()?.instruction;
        if first.mnemonic() == Mnemonic::Mov {
            let subtracts = compare.mnemonic() == Mnemonic::Sub
                && compare.op0_register() == Register::R12
                && compare.op1_kind() != OpKind::Register;
            if !subtracts || !grows(&next()?, text, Mnemonic::Jb) {
                return None;
            }
            compare = next()?.instruction;
        }
    }
    let limit = compare.mnemonic() == Mnemonic::Cmp
        && compare.op0_kind() == OpKind::Register
        && compare.op0_register() == pointer
        && compare.op1_kind() == OpKind::Memory
        && compare.memory_base() == Register::R14
        && compare.memory_index() == Register::None
        && compare.memory_displacement64() == LIMIT;
    (limit && grows(&next()?, text, Mnemonic::Jbe)).then_some(at)
}

/// `lea r12, [rsp - n]` or `mov r12, rsp`.
fn writes_r12(i: &Instruction) -> bool {
    let reads_rsp = match i.mnemonic() {
        Mnemonic::Lea => i.memory_base() == Register::RSP && i.memory_index() == Register::None,
        Mnemonic::Mov => i.op1_kind() == OpKind::Register && i.op1_register() == Register::RSP,
        _ => false,
    };
    reads_rsp && i.op0_kind() == OpKind::Register && i.op0_register() == Register::R12
}

/// A branch to further behind in the function.
fn grows(decoded: &Decoded<'_>, text: Text<'_>, mnemonic: Mnemonic) -> bool {
    let i = &decoded.instruction;
    let to = direct_target(i).filter(|to| *to > i.next_ip());
    i.mnemonic() == mnemonic && to.and_then(|to| text.offset(to)).is_some()
}

/// Whether an instruction from the offset `site` on may fault where rsp is not what it was there.
/// The runtime takes a fault at an address that it does not know for a call of that address, if the
/// return address of one is on top of the stack; so a function's first instructions may fault
/// elsewhere than in its own code, but only as long as that is on top.
pub(crate) fn faults(text: Text<'_>, site: usize) -> bool {
    let mut at = site;
    let mut moved = false;
    while let Some(decoded) = text.at(at) {
        let i = &decoded.instruction;
        if moved && may_fault(i) {
            return true;
        }
        let writes_rsp = i.op_count() > 0
            && i.op0_kind() == OpKind::Register
            && i.op0_register() == Register::RSP
            && !matches!(i.mnemonic(), Mnemonic::Cmp | Mnemonic::Test);
        moved |= writes_rsp || i.stack_pointer_increment() != 0;
        at += decoded.bytes.len();
    }
    false
}

/// Whether an instruction uses memory that may not be there.
pub(crate) fn may_fault(i: &Instruction) -> bool {
    (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory)
        && !matches!(i.mnemonic(), Mnemonic::Lea | Mnemonic::Nop)
        && !matches!(i.memory_base(), Register::RSP | Register::RIP)
}

#[cfg(test)]
mod tests {
    use super::{Text, faults, stack_check};

    const ADDRESS: u64 = 0x40_1000;

    fn check(code: &[u8]) -> Option<usize> {
        let mut function = code.to_vec();
        function.resize(0x80, 0x90);
        stack_check(Text { address: ADDRESS, bytes: &function })
    }

    #[test]
    fn checks_of_the_stack() {
        // cmp rsp, [r14 + 16]; jbe +0x20
        assert_eq!(check(&[0x49, 0x3b, 0x66, 0x10, 0x76, 0x20]), Some(6));
        // The same with a long branch.
        assert_eq!(check(&[0x49, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0x30, 0, 0, 0]), Some(10));
        // lea r12, [rsp - 0x28]; cmp r12, [r14 + 16]; jbe +0x20
        let large = [0x4d, 0x8d, 0x64, 0x24, 0xd8, 0x4d, 0x3b, 0x66, 0x10, 0x76, 0x20];
        assert_eq!(check(&large), None, "lea of 32 bits is another");
        let large = [0x4c, 0x8d, 0x64, 0x24, 0xd8, 0x4d, 0x3b, 0x66, 0x10, 0x76, 0x20];
        assert_eq!(check(&large), Some(11));
        // mov r12, rsp; sub r12, 0x2000; jb +0x30; cmp r12, [r14 + 16]; jbe +0x20
        let huge = [
            0x49, 0x89, 0xe4, 0x49, 0x81, 0xec, 0, 0x20, 0, 0, 0x72, 0x30, 0x4d, 0x3b, 0x66, 0x10,
            0x76, 0x20,
        ];
        assert_eq!(check(&huge), Some(18));
    }

    #[test]
    fn other_comparisons_are_none() {
        // Another field, another base, another branch, a branch to itself, and out of the function.
        assert_eq!(check(&[0x49, 0x3b, 0x66, 0x18, 0x76, 0x20]), None);
        assert_eq!(check(&[0x49, 0x3b, 0x67, 0x10, 0x76, 0x20]), None);
        assert_eq!(check(&[0x49, 0x3b, 0x66, 0x10, 0x77, 0x20]), None);
        assert_eq!(check(&[0x49, 0x3b, 0x66, 0x10, 0x76, 0xfa]), None);
        assert_eq!(check(&[0x49, 0x3b, 0x66, 0x10, 0x76, 0x7e]), None);
        assert_eq!(check(&[]), None);
    }

    #[test]
    fn where_a_fault_is_not_understood() {
        let may = |code: &[u8]| faults(Text { address: ADDRESS, bytes: code }, 0);
        // mov rax, [rax + 8]; push rbp
        assert!(!may(&[0x48, 0x8b, 0x40, 0x08, 0x55]));
        // push rbp; mov rbp, rsp; mov rax, [rax]
        assert!(may(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x8b, 0x00]));
        // sub rsp, 24; mov [rsp + 16], rbp
        assert!(!may(&[0x48, 0x83, 0xec, 0x18, 0x48, 0x89, 0x6c, 0x24, 0x10]));
        // sub rsp, 24; mov rax, [rbx]
        assert!(may(&[0x48, 0x83, 0xec, 0x18, 0x48, 0x8b, 0x03]));
    }
}
