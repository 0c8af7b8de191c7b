//! A jump or a breakpoint, out of the instructions that it displaces.

use crate::arch::x86_64::decode::{Decoded, Text, relocatable};
use crate::arch::x86_64::effect::emulation;
use crate::arch::x86_64::relocate::{anchors, relocate};
use crate::arch::x86_64::template::Back;
use crate::arch::x86_64::window::Window;
use crate::method::{Anchors, Breakpoint, Detour, Resume};
use crate::{NoDetour, Refusal};

/// A jump over a window.
pub(crate) fn jump(address: u64, window: Window) -> Result<Detour, NoDetour> {
    let Window { bytes, code, boundaries } = window;
    let text = Text { address, bytes: &bytes[..code] };
    let template = relocate(text, Back::Near).map_err(|_| NoDetour::NotRelocatable)?;
    let anchors = anchors(text, true);
    if Anchors::reach(anchors).is_empty() {
        return Err(NoDetour::OutOfReach);
    }
    Ok(Detour { site: address, original: bytes, code, template, boundaries, anchors })
}

/// A breakpoint on this instruction.
pub(crate) fn breakpoint(first: &Decoded<'_>, why: NoDetour) -> Result<Breakpoint, Refusal> {
    if !relocatable(first) {
        return Err(Refusal::NotRelocatable);
    }
    let site = first.instruction.ip();
    let text = Text { address: site, bytes: first.bytes };
    let template = relocate(text, Back::Anywhere)?;
    let resume = emulation(first).map_or(Resume::Slot, Resume::Emulate);
    let (original, anchors) = (first.bytes.to_vec(), anchors(text, false));
    Ok(Breakpoint { site, why, original, resume, template, anchors })
}
