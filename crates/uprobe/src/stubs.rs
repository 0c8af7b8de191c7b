//! What lies where in stubs, slots and trampolines: so that a signal that arrives there shows the
//! program's own state.
//!
//! Signal handlers search a sorted table that is never changed, only replaced, under the protection
//! of an RCU section.
#![allow(unsafe_code)]

use crate::prologue::Prologue;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use patch::{Body, Registers};
use reclaim::rcu;

/// Bytes of the program that a detour may displace, and one more.
const LONGEST_WINDOW: u64 = 32;

/// Code of the engine's near some site. Never freed.
#[derive(Debug)]
pub(crate) struct Stub {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The probed instruction.
    pub(crate) site: u64,
    pub(crate) prologue: Option<Prologue>,
    /// The relocated instructions, and their address.
    pub(crate) body: Option<(u64, Body)>,
    /// Among them and behind them: in front of what leaves the function.
    pub(crate) hooks: Vec<Hook>,
}

/// Code in front of an instruction that leaves a function, and the address of the original of that.
pub(crate) type Hook = (u64, Prologue);

impl Stub {
    /// A trampoline to the stub of a site.
    pub(crate) fn trampoline(at: u64, site: u64) -> Self {
        let end = at + crate::trampolines::TRAMPOLINE;
        Self { start: at, end, site, prologue: None, body: None, hooks: Vec::new() }
    }

    /// Turns the registers of a thread in this code into those that it would have in the program's
    /// own.
    ///
    /// Context: signal-safe.
    fn present(&self, registers: &mut Registers) {
        let ip = registers.rip;
        if let Some(undo) = self.prologue.as_ref().and_then(|p| p.undo_at((ip - self.start) as u32))
        {
            undo.apply(registers);
            registers.rip = self.site;
            return;
        }
        let hook = |(leaving, hook): &'_ Hook| {
            let offset = ip.checked_sub(hook.at)?;
            hook.undo_at(offset as u32).map(|undo| (*leaving, *undo))
        };
        if let Some((leaving, undo)) = self.hooks.iter().find_map(hook) {
            undo.apply(registers);
            registers.rip = leaving;
            return;
        }
        let presented = self
            .body
            .as_ref()
            .filter(|(at, _)| ip >= *at)
            .and_then(|(at, body)| body.present((ip - at) as u32));
        match presented {
            Some(p) => {
                registers.rip = p.ip;
                registers.rsp = registers.rsp.wrapping_add_signed(p.sp);
            }
            None => registers.rip = self.site,
        }
    }
}

type Sorted = Vec<&'static Stub>;

static SORTED: AtomicPtr<Sorted> = AtomicPtr::new(ptr::null_mut());

/// Adds code that will run from now on. Under the engine's lock.
pub(crate) fn add(new: impl Iterator<Item = Stub>) {
    let old = SORTED.load(Ordering::Relaxed);
    // SAFETY: null or made below; only the lock's holder frees it.
    let mut all: Sorted = unsafe { old.as_ref() }.cloned().unwrap_or_default();
    all.extend(new.map(|stub| &*Box::leak(Box::new(stub))));
    sys::sort::by_key(&mut all, |s| s.start);
    // Release pairs with the Acquire in `present`.
    SORTED.store(Box::into_raw(Box::new(all)), Ordering::Release);
    if !old.is_null() {
        // SAFETY: made by an earlier call from a box, and handlers find the new one now.
        rcu::defer_drop(unsafe { Box::from_raw(old) });
    }
}

/// Runs `f` on all stubs, in the order of their addresses.
fn with<R>(f: impl FnOnce(&Sorted) -> Option<R>) -> Option<R> {
    if SORTED.load(Ordering::Relaxed).is_null() {
        return None;
    }
    let _section = rcu::read_lock();
    // Acquire pairs with the Release in `add`.
    // SAFETY: freed a grace period after it was replaced, and the section is open.
    unsafe { SORTED.load(Ordering::Acquire).as_ref() }.and_then(f)
}

/// If `registers.rip` lies in the engine's code near a site, makes them what the program would
/// have. False: they are the program's own already.
///
/// Context: signal-safe.
pub(crate) fn present(registers: &mut Registers) -> bool {
    let there = registers.rip;
    let found = with(|all| {
        let after = all.partition_point(|s| s.start <= there);
        let stub = all[..after].last().filter(|s| there < s.end)?;
        stub.present(registers);
        Some(())
    });
    found.is_some()
}

/// Where a thread goes on that wants to go on at `ip`, if that is one of the instructions behind
/// the first that a probe displaces. Looks at every stub.
///
/// Context: signal-safe.
pub(crate) fn relocated(ip: u64) -> Option<u64> {
    let inside = |stub: &&&Stub| (1..LONGEST_WINDOW).contains(&ip.wrapping_sub(stub.site));
    with(|all| {
        all.iter().filter(inside).find_map(|stub| {
            let (at, body) = stub.body.as_ref()?;
            body.relocated(ip).map(|offset| at + u64::from(offset))
        })
    })
}
