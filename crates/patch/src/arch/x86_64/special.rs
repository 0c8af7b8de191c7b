//! Instructions that decide the method by themselves.

use super::decode::{Decoded, Text};
use crate::Refusal;
use iced_x86::{Code, Mnemonic};

/// `mov rax, 15; syscall` and `mov eax, 15; syscall`: the return from a signal handler. Unwinders
/// compare the bytes at the return address of a handler with these.
const SIGNAL_RETURNS: [&[u8]; 2] =
    [&[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05], &[0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05]];

/// Whether there can be a probe at all at this instruction.
pub(crate) fn check(text: Text<'_>, first: &Decoded<'_>) -> Result<(), Refusal> {
    let i = &first.instruction;
    if matches!(i.mnemonic(), Mnemonic::Int3 | Mnemonic::Int1) {
        return Err(Refusal::ForeignBreakpoint);
    }
    if matches!(i.code(), Code::Xbegin_rel16 | Code::Xbegin_rel32) {
        return Err(Refusal::Transaction);
    }
    let from = text.offset(i.ip()).unwrap_or(text.bytes.len());
    // Unwind entries of it begin one nop early.
    let from = from + if i.mnemonic() == Mnemonic::Nop { first.bytes.len() } else { 0 };
    let rest = text.bytes.get(from..).unwrap_or(&[]);
    if SIGNAL_RETURNS.iter().any(|s| rest.starts_with(s)) {
        return Err(Refusal::SignalReturn);
    }
    Ok(())
}

/// `endbr64`: where indirect branches may arrive under indirect branch tracking.
pub(crate) fn is_landing_pad(first: &Decoded<'_>) -> bool {
    first.instruction.code() == Code::Endbr64
}
