//! Sites that tests and benchmarks of the hit path patch themselves: the caller knows how many
//! bytes to displace, that they run anywhere, and that no thread is in them.
#![allow(unsafe_code)]

use crate::arch::x86_64::{prologue, switching, vector};
use crate::recorder::Hooks;
use crate::site_table::{self, Action, Site};
use crate::{Consumer, ConsumerId, SetupError, SiteId, TooMany, breakpoint, consumer, fork, trap};
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::Ordering;
use patch::{Liveness, Registers};
use sys::memory::{
    self, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE,
};

/// What a hit does; the number is the offset of the cell.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Counts entries.
    Count(u32),
    /// Measures.
    Time(u32),
    /// Counts entries and returns.
    Pair(u32),
    /// Calls consumers.
    Call,
}

/// An armed site.
#[derive(Clone, Copy, Debug)]
pub struct Armed {
    index: u32,
    /// First byte of the stub.
    pub stub: usize,
}

/// Sets up the hit path.
///
/// # Errors
/// See [`SetupError`].
pub fn start(hooks: Hooks) -> Result<(), SetupError> {
    fork::start(hooks)
}

/// Which vector state the hit path saves around what may use it, as bits of `xcr0`.
pub fn vectors() -> u32 {
    vector::MASK.load(Ordering::Relaxed)
}

/// Lets it take this machine for one that has no more vector state than that.
pub fn limit_vectors(mask: u32) {
    vector::MASK.fetch_and(mask, Ordering::Relaxed);
}

/// Patches a function's first bytes with a jump to a stub. None: no memory near it.
///
/// # Safety
/// `displaced` bytes from `function` on, at least 5, are whole instructions that run anywhere; no
/// thread is in them or jumps into them.
pub unsafe fn arm(
    function: usize,
    displaced: usize,
    kind: Kind,
    live: &Liveness,
    loops: bool,
) -> Option<Armed> {
    if live.no_stack && !switching::prepare() {
        return None;
    }
    let index = site_table::allocate()?;
    let site = site_table::site(index);
    let action = match kind {
        Kind::Count(cell) => Action::Count { cell },
        Kind::Time(cell) => Action::Time { cell },
        Kind::Pair(cell) => Action::CountReturn { cell },
        Kind::Call => Action::Call,
    };
    let page = near(function)?;
    let mut code = Vec::new();
    let mut written = prologue::emit(&mut code, page as u64, index, action, live, loops, false);
    // SAFETY: the caller says so.
    code.extend_from_slice(unsafe {
        core::slice::from_raw_parts(ptr::with_exposed_provenance(function), displaced)
    });
    code.push(0xe9);
    let back = (function + displaced).wrapping_sub(page + code.len() + 4) as u32;
    code.extend_from_slice(&back.to_le_bytes());
    prologue::finish(&mut written, 0, &mut code);
    site.body.store(written.body, Ordering::Relaxed);
    site.resume.store(written.resume, Ordering::Relaxed);
    site.address.store(function as u64, Ordering::Relaxed);
    site.set(action, loops, written.skips_red_zone);
    // SAFETY: `near` mapped a page, and a stub is shorter.
    unsafe {
        ptr::copy_nonoverlapping(code.as_ptr(), ptr::with_exposed_provenance_mut(page), code.len())
    };
    let mut jump = [0xe9, 0, 0, 0, 0];
    jump[1..].copy_from_slice(&(page.wrapping_sub(function + 5) as u32).to_le_bytes());
    let start = function & !4095;
    let length = (function + 5 - start).next_multiple_of(4096);
    let address = ptr::with_exposed_provenance_mut(start);
    // SAFETY: the pages of the function, made writable; nobody runs in it.
    unsafe { memory::mprotect(address, length, PROT_READ | PROT_WRITE | PROT_EXEC) }.ok()?;
    // SAFETY: five bytes of the function, which are instructions that were displaced.
    unsafe {
        ptr::copy_nonoverlapping(jump.as_ptr(), ptr::with_exposed_provenance_mut(function), 5)
    };
    // SAFETY: as above.
    unsafe { memory::mprotect(address, length, PROT_READ | PROT_EXEC) }.ok()?;
    Some(Armed { index, stub: page })
}

/// What the SIGTRAP handler does at a hit of a breakpoint site at `address`, without the trap,
/// which costs hundreds of times as much: where the thread would go on.
///
/// # Safety
/// The site's first instruction uses no memory but the stack.
pub unsafe fn hit(site: SiteId, address: u64, stack: &mut [u64; 16]) -> u64 {
    let rsp = ptr::from_mut(&mut stack[8]).expose_provenance() as u64;
    let mut registers = Registers { rip: address, rsp, ..Registers::default() };
    breakpoint::hit(site.0, &mut registers);
    registers.rip
}

/// A page that can be written and run, less than 1 GiB from `target`.
fn near(target: usize) -> Option<usize> {
    let base = target & !4095;
    let all = PROT_READ | PROT_WRITE | PROT_EXEC;
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    (1..200_000).flat_map(|k| [base.wrapping_sub(k * 4096), base.wrapping_add(k * 4096)]).find(
        |at| {
            // SAFETY: a new mapping that replaces nothing.
            let page = unsafe { memory::mmap(*at, 4096, all, flags, -1, 0) };
            page.is_ok_and(|page| page.expose_provenance() == *at)
        },
    )
}

impl Armed {
    /// A site that the engine has armed.
    pub fn of(armed: crate::Armed) -> Self {
        Self { index: armed.id.0, stub: 0 }
    }

    /// Removes all consumers.
    pub fn remove_all(self) {
        consumer::remove_all(self.site());
    }

    fn site(self) -> &'static Site {
        site_table::site(self.index)
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn attach(self, c: Consumer) -> Result<ConsumerId, TooMany> {
        consumer::add(self.site(), c)
    }

    /// Removes one.
    pub fn remove(self, id: ConsumerId) -> bool {
        consumer::remove(self.site(), id)
    }

    /// A hit as by a trap at the site, with these registers. True: go on with the registers, false:
    /// at the site's instruction.
    pub fn trap(self, registers: &mut Registers) -> bool {
        trap::entry(self.index, registers) == trap::Next::Registers
    }
}
