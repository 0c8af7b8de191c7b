//! What the unwind table says about functions: where each begins and ends, and in what shape it is
//! entered.

use super::elf::{Elf, PT_GNU_EH_FRAME};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EhFrameHdr, LittleEndian, RegisterRule,
    UnwindContext, UnwindSection, X86_64,
};
use std::ops::Range;

/// One description of the unwind table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) entered: Entered,
    /// Where its table of language-specific data is, which says where exceptions land.
    pub(crate) landing_pads: Option<u64>,
}

/// How control comes to the first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    /// By a call: the return address is on top of the stack.
    Called,
    /// By a jump from another part of a function, with that part's stack.
    Jumped,
    /// By the kernel or the loader: there is nothing to return to.
    Outermost,
    /// By returning from a signal handler.
    SignalReturn,
    /// The description could not be read.
    Unknown,
}

/// All descriptions of `elf`, by start. Empty when there is no table or it cannot be read.
pub(crate) fn frames(elf: &Elf<'_>) -> Vec<Frame> {
    let Some((address, data)) = table(elf) else {
        return Vec::new();
    };
    let bases = BaseAddresses::default().set_eh_frame(address);
    let mut section = EhFrame::new(data, LittleEndian);
    section.set_address_size(8);
    let mut context = UnwindContext::new();
    let mut entries = section.entries(&bases);
    let mut frames = Vec::new();
    // The last information entry, since neighbours share it: offset and content.
    let mut last = None;
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let parsed = partial.parse(|section, bases, offset| match &last {
            Some((at, cie)) if *at == offset.0 => Ok(Clone::clone(cie)),
            _ => {
                let cie = section.cie_from_offset(bases, offset)?;
                last = Some((offset.0, cie.clone()));
                Ok(cie)
            }
        });
        let Ok(fde) = parsed else { continue };
        let (start, end) = (fde.initial_address(), fde.initial_address().saturating_add(fde.len()));
        if start == 0 || end <= start {
            continue;
        }
        let entered = if fde.is_signal_trampoline() {
            Entered::SignalReturn
        } else {
            match fde.rows(&section, &bases, &mut context) {
                Ok(mut rows) => rows.next_row().ok().flatten().map_or(Entered::Unknown, first_row),
                Err(_) => Entered::Unknown,
            }
        };
        let landing_pads = match fde.lsda() {
            Some(gimli::Pointer::Direct(at)) => Some(at),
            _ => None,
        };
        frames.push(Frame { start, end, entered, landing_pads });
    }
    frames.sort_unstable_by_key(|frame| (frame.start, frame.end));
    frames.dedup_by_key(|frame| frame.start);
    frames
}

fn first_row(row: &gimli::UnwindTableRow<usize>) -> Entered {
    let called = matches!(
        row.cfa(),
        CfaRule::RegisterAndOffset { register, offset: 8 } if *register == X86_64::RSP
    );
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => Entered::Outermost,
        Some(RegisterRule::Offset(-8)) if called => Entered::Called,
        _ => Entered::Jumped,
    }
}

/// Where `.eh_frame` is, if what is loaded does not say so: compilers leave `PT_GNU_EH_FRAME` out
/// of static programs. Empty where it does, or there is no such table.
pub(crate) fn unsaid(elf: &Elf<'_>) -> Range<u64> {
    if elf.segment(PT_GNU_EH_FRAME).is_some() {
        return 0..0;
    }
    table(elf).map_or(0..0, |(address, data)| address..address + data.len() as u64)
}

/// The address and the bytes of `.eh_frame`; without a section table, by way of `PT_GNU_EH_FRAME`.
fn table<'a>(elf: &Elf<'a>) -> Option<(u64, &'a [u8])> {
    if let Some(section) = elf.section(".eh_frame").filter(|s| !s.data.is_empty()) {
        return Some((section.address, section.data));
    }
    let header = elf.segment(PT_GNU_EH_FRAME)?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(header.address);
    let parsed =
        EhFrameHdr::new(elf.bytes_from(header.address), LittleEndian).parse(&bases, 8).ok()?;
    let gimli::Pointer::Direct(address) = parsed.eh_frame_ptr() else {
        return None;
    };
    let data = elf.bytes_from(address);
    (!data.is_empty()).then_some((address, data))
}
