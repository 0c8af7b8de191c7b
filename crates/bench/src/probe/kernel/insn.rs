//! The few BPF instructions that the peers' programs are made of.
//!
//! Encoding and names after `Documentation/bpf/standardization/instruction-set.rst`. r0 is the
//! result, r1 to r5 are arguments and lost in calls, r6 to r9 survive them, r10 is the frame.

/// One instruction as the kernel takes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const _: () = assert!(size_of::<Insn>() == 8, "an instruction is eight bytes");

/// A register number.
pub(super) type Reg = u8;

const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_JMP: u8 = 0x05;
const CLASS_ALU64: u8 = 0x07;
const FROM_REGISTER: u8 = 0x08;
const DOUBLE_WORD: u8 = 0x18;
const WORD: u8 = 0x00;
const MODE_MEM: u8 = 0x60;

const fn insn(code: u8, dst: Reg, src: Reg, offset: i16, immediate: i32) -> Insn {
    Insn { code, registers: dst | (src << 4), offset, immediate }
}

/// An operation of two registers, or of one and a constant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Rsh = 0x70,
    Mov = 0xb0,
}

/// `dst op= immediate`.
pub(super) const fn alu(op: Alu, dst: Reg, immediate: i32) -> Insn {
    insn(CLASS_ALU64 | op as u8, dst, 0, 0, immediate)
}

/// `dst op= src`.
pub(super) const fn alu_reg(op: Alu, dst: Reg, src: Reg) -> Insn {
    insn(CLASS_ALU64 | FROM_REGISTER | op as u8, dst, src, 0, 0)
}

/// `dst = *(u64 *)(src + offset)`.
pub(super) const fn load(dst: Reg, src: Reg, offset: i16) -> Insn {
    insn(CLASS_LDX | DOUBLE_WORD | MODE_MEM, dst, src, offset, 0)
}

/// `*(u64 *)(dst + offset) = src`.
pub(super) const fn store(dst: Reg, src: Reg, offset: i16) -> Insn {
    insn(CLASS_STX | DOUBLE_WORD | MODE_MEM, dst, src, offset, 0)
}

/// `*(u32 *)(dst + offset) = src`.
pub(super) const fn store_word(dst: Reg, src: Reg, offset: i16) -> Insn {
    insn(CLASS_STX | WORD | MODE_MEM, dst, src, offset, 0)
}

/// `*(u32 *)(dst + offset) = immediate`.
pub(super) const fn store_word_constant(dst: Reg, immediate: i32, offset: i16) -> Insn {
    insn(CLASS_ST | WORD | MODE_MEM, dst, 0, offset, immediate)
}

/// `dst =` the map behind a file descriptor: two slots.
pub(super) const fn load_map(dst: Reg, fd: i32) -> [Insn; 2] {
    const PSEUDO_MAP_FD: u8 = 1;
    [insn(CLASS_LD | DOUBLE_WORD, dst, PSEUDO_MAP_FD, 0, fd), insn(0, 0, 0, 0, 0)]
}

/// Skips `count` instructions if `dst == immediate`.
pub(super) const fn skip_if_equal(dst: Reg, immediate: i32, count: i16) -> Insn {
    insn(CLASS_JMP | 0x10, dst, 0, count, immediate)
}

/// Skips `count` instructions if `dst < immediate`, unsigned.
pub(super) const fn skip_if_less(dst: Reg, immediate: i32, count: i16) -> Insn {
    insn(CLASS_JMP | 0xa0, dst, 0, count, immediate)
}

/// Skips `count` instructions.
pub(super) const fn skip(count: i16) -> Insn {
    insn(CLASS_JMP, 0, 0, count, 0)
}

/// Calls the kernel helper of that number (`enum bpf_func_id`).
pub(super) const fn call(helper: i32) -> Insn {
    insn(CLASS_JMP | 0x80, 0, 0, 0, helper)
}

/// Returns r0.
pub(super) const fn exit() -> Insn {
    insn(CLASS_JMP | 0x90, 0, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::{
        Alu, Insn, alu, alu_reg, call, exit, load, load_map, skip_if_equal, store_word_constant,
    };

    fn bytes(insn: Insn) -> [u8; 8] {
        let [o0, o1] = insn.offset.to_le_bytes();
        let [i0, i1, i2, i3] = insn.immediate.to_le_bytes();
        [insn.code, insn.registers, o0, o1, i0, i1, i2, i3]
    }

    #[test]
    fn encodings_are_the_documented_ones() {
        assert_eq!(bytes(alu(Alu::Mov, 0, 1)), [0xb7, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes(alu_reg(Alu::Mov, 2, 10)), [0xbf, 0xa2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(load(1, 0, -8)), [0x79, 0x01, 0xf8, 0xff, 0, 0, 0, 0]);
        assert_eq!(bytes(store_word_constant(10, 0, -4)), [0x62, 0x0a, 0xfc, 0xff, 0, 0, 0, 0]);
        assert_eq!(bytes(load_map(1, 5)[0]), [0x18, 0x11, 0, 0, 5, 0, 0, 0]);
        assert_eq!(bytes(skip_if_equal(0, 0, 3)), [0x15, 0, 3, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(call(1)), [0x85, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(bytes(exit()), [0x95, 0, 0, 0, 0, 0, 0, 0]);
    }
}
