//! Breakpoint sites: a hit by SIGTRAP, and how the thread goes on.
//!
//! Permanent slots: the relocated instruction and a jump back lie at an address of their own for
//! ever, so nothing is allocated, copied or waited for at a hit.
#![allow(unsafe_code)]

use crate::site_table;
use crate::slots::{self, SlotPolicy};
use crate::trap::{self, Next};
use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::Ordering;
use patch::{Emulation, Registers};

/// What the handler needs besides the [`Site`](crate::site_table::Site): its address is in the
/// site's first user word.
#[derive(Debug)]
pub(crate) struct Breakpoint {
    /// How to go on without the slot.
    pub(crate) emulation: Option<Emulation>,
    pub(crate) policy: SlotPolicy,
    /// Position-independent copy of the slot for the policies that copy it.
    pub(crate) slot: Option<Box<[u8]>>,
}

/// A thread is at the site with these registers: counts, and says where it goes on.
///
/// Context: signal-safe, no system call.
pub(crate) fn hit(index: u32, registers: &mut Registers) {
    let site = site_table::site(index);
    if trap::entry(index, registers) == Next::Registers {
        return;
    }
    let breakpoint =
        ptr::with_exposed_provenance::<Breakpoint>(site.user[0].load(Ordering::Relaxed) as usize);
    // SAFETY: 0, or leaked by whoever armed the site before it could be hit.
    let Some(breakpoint) = (unsafe { breakpoint.as_ref() }) else { return };
    // Neither is in images.
    let copy = breakpoint.slot.as_deref().filter(|_| cfg!(feature = "std"));
    if let Some(slot) = copy.and_then(|code| slots::place(breakpoint.policy, index, code)) {
        registers.rip = slot;
        return;
    }
    match breakpoint.emulation.filter(|_| cfg!(feature = "std")) {
        // SAFETY: the registers are those of this very thread, which goes on with them.
        Some(emulation) => unsafe { emulation.apply(registers) },
        None => registers.rip = site.body.load(Ordering::Relaxed),
    }
}
