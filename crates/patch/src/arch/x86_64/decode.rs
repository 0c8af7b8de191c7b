//! Instructions out of bytes.

use iced_x86::{
    Code, ConstantOffsets, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind,
    Register,
};

/// Bytes at an address.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) address: u64,
    pub(crate) bytes: &'a [u8],
}

/// An instruction, its bytes, and where its constants are in them.
#[derive(Clone, Copy)]
pub(crate) struct Decoded<'a> {
    pub(crate) instruction: Instruction,
    pub(crate) bytes: &'a [u8],
    pub(crate) constants: ConstantOffsets,
}

impl<'a> Text<'a> {
    pub(crate) fn decoder(&self) -> Decoder<'a> {
        Decoder::with_ip(64, self.bytes, self.address, DecoderOptions::NONE)
    }

    /// The instruction at `offset`; `None` if there is none.
    pub(crate) fn at(&self, offset: usize) -> Option<Decoded<'a>> {
        let mut decoder = self.decoder();
        seek(&mut decoder, self.address, offset)?;
        if !decoder.can_decode() {
            return None;
        }
        let instruction = decoder.decode();
        let bytes = self.bytes.get(offset..offset + instruction.len())?;
        (!instruction.is_invalid()).then(|| Decoded {
            instruction,
            bytes,
            constants: decoder.get_constant_offsets(&instruction),
        })
    }

    /// The offset of `address`, if it is inside.
    pub(crate) fn offset(&self, address: u64) -> Option<usize> {
        let offset = address.wrapping_sub(self.address);
        (offset < self.bytes.len() as u64).then_some(offset as usize)
    }
}

/// Moves a decoder whose bytes begin at `address`.
pub(crate) fn seek(decoder: &mut Decoder<'_>, address: u64, offset: usize) -> Option<()> {
    decoder.set_position(offset).ok()?;
    decoder.set_ip(address.wrapping_add(offset as u64));
    Some(())
}

/// The target of a direct jump, call or loop; `None` for everything else.
pub(crate) fn direct_target(i: &Instruction) -> Option<u64> {
    (i.op_count() > 0
        && matches!(
            i.op0_kind(),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
        ))
    .then(|| i.near_branch_target())
}

/// Execution never goes on behind it.
pub(crate) fn ends_flow(i: &Instruction) -> bool {
    matches!(
        i.flow_control(),
        FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Return
            | FlowControl::Exception
    )
}

/// What assemblers and linkers fill gaps with.
pub(crate) fn is_padding(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3)
}

/// An address relative to the instruction in a memory operand.
pub(crate) fn ip_relative(i: &Instruction) -> Option<u64> {
    i.is_ip_rel_memory_operand().then(|| i.ip_rel_memory_address())
}

/// A copy of it can be made to work at another address within reach.
pub(crate) fn relocatable(d: &Decoded<'_>) -> bool {
    let i = &d.instruction;
    if i.is_invalid() || i.memory_base() == Register::EIP {
        return false;
    }
    if direct_target(i).is_some() {
        let known = i.is_jmp_short_or_near()
            || i.is_jcc_short_or_near()
            || i.is_jcx_short()
            || i.is_loop()
            || i.is_loopcc()
            || i.is_call_near();
        return known && i.op0_kind() == OpKind::NearBranch64 && !narrow(d.bytes);
    }
    if i.is_call_near_indirect() {
        // The relocated call pushes before it reads its operand, so rsp and what is below it are
        // gone.
        let below = i.memory_base() == Register::RSP && (i.memory_displacement64() as i64) < 0;
        return i.code() == Code::Call_rm64
            && i.op0_register() != Register::RSP
            && !below
            && !narrow(d.bytes);
    }
    match i.flow_control() {
        // Far calls push the address behind them.
        FlowControl::Call | FlowControl::IndirectCall => {
            matches!(
                i.mnemonic(),
                Mnemonic::Syscall | Mnemonic::Sysenter | Mnemonic::Vmcall | Mnemonic::Vmmcall
            )
        }
        FlowControl::XbeginXabortXend => !matches!(i.mnemonic(), Mnemonic::Xbegin),
        // Breakpoints belong to somebody.
        _ => !matches!(i.mnemonic(), Mnemonic::Int3),
    }
}

/// An operand-size prefix and no REX.W: a branch of 16 bits on AMD's processors, of 64 on Intel's.
pub(crate) fn narrow(bytes: &[u8]) -> bool {
    let prefixes = &bytes[..opcode_at(bytes)];
    prefixes.contains(&0x66) && !prefixes.last().is_some_and(|b| matches!(b, 0x48..=0x4f))
}

/// The number of legacy prefixes and REX: where the opcode is.
pub(crate) fn opcode_at(bytes: &[u8]) -> usize {
    let is_prefix =
        |b| matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    bytes.iter().take_while(|&&b| is_prefix(b)).count()
}
