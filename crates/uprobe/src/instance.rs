//! Return instances: what is remembered of a call until it returns.
//!
//! An instance is a stub in the code half of the [area](crate::arch::x86_64::area) and a record in
//! the other. It is named by its record's offset.
//!
//! # States
//! - *free*: on the free list of the state that owns its chunk.
//! - *active*: on the active or the side list of that state; the return slot holds the stub's
//!   address, or that of another instance of the same slot whose chain leads here (tail calls).
//! - *dead*: as active, but the slot holds something else: the frame was left by longjmp or an
//!   exception, or its stack was given up. Nothing but the slot's contents decides that.
//! - *leaving*: `slot` is odd: it returns where the lists cannot be touched (on another thread, or
//!   while its state is critical), and its slot is being restored.
//! - *done*: `slot` is [`DONE`]: it has returned that way.
//!
//! free -> active -> free are the hit path's ([`entry`](crate::arch::x86_64::entry),
//! [`exit`](crate::arch::x86_64::exit)); dead and done ones are collected in slow paths
//! ([`lists`](crate::lists)). Only the owning thread changes the lists; only the returning thread
//! makes an active instance leaving and done.
#![allow(unsafe_code)]

use crate::arch::x86_64::area;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What is remembered. The assembly knows the offsets.
#[repr(C, align(64))]
pub(crate) struct Record {
    /// What the stub calls.
    pub(crate) target: AtomicU64,
    /// Where the function was to return.
    pub(crate) orig_ra: AtomicU64,
    /// What the stub jumps to afterwards.
    pub(crate) on_return: AtomicU64,
    /// The address that held the return address; odd when leaving; [`DONE`].
    pub(crate) slot: AtomicU64,
    /// Time stamp at entry, or a consumer's cookie.
    pub(crate) start: AtomicU64,
    /// Ticks spent in timed functions that were called meanwhile.
    pub(crate) child: AtomicU64,
    /// Offset of the function's cell, or the number of a consumer.
    pub(crate) cell: AtomicU32,
    /// Number of the site.
    pub(crate) site: AtomicU32,
    /// Low 24 bits: the next older instance on its list. High 8: how many instances of the same
    /// slot are below it.
    pub(crate) parent: AtomicU32,
    /// The next on the free list. While active: of a measured call, the instance that was the
    /// newest of its function when it was made, if any ([`crate::activation`]); or the cookie of a
    /// consumer that wants to know how long the call takes.
    pub(crate) next_free: AtomicU32,
}

/// The first record of each 4 KiB: its chunk's header. `slot` and `child` are where a record has
/// them, so that the header of a thread's first chunk ends its active list: its slot is above all
/// others, and adding to its child time hurts nobody.
#[repr(C, align(64))]
pub(crate) struct Header {
    /// Address of the owner's state.
    pub(crate) owner: AtomicU64,
    /// Offset of the owner's next chunk, plus 1; 0 ends.
    pub(crate) next: AtomicU32,
    /// Of an orphan: instances that are still out.
    pub(crate) out: AtomicU32,
    /// Unused.
    pub(crate) pad: AtomicU64,
    /// Always `u64::MAX`.
    pub(crate) slot: AtomicU64,
    /// Unused.
    pub(crate) pad2: AtomicU64,
    /// Written by returns of outermost calls, read by nobody.
    pub(crate) child: AtomicU64,
    /// Unused.
    pub(crate) pad3: [AtomicU64; 2],
}

/// [`Record::slot`] of an instance that is done.
pub(crate) const DONE: u64 = 2;
/// Bit of [`Record::slot`]: leaving.
pub(crate) const LEAVING: u64 = 1;
/// Low bits of [`Record::parent`].
pub(crate) const OFFSET: u32 = 0xff_ffff;
/// Instances that may stand on one slot.
pub(crate) const MAX_CHAIN: u32 = 64;

/// Bytes of records in a chunk.
pub(crate) const CHUNK: usize = 4096;
/// Chunks of the area.
pub(crate) const CHUNKS: usize = area::HALF / CHUNK;
/// Instances of a chunk.
pub(crate) const PER_CHUNK: usize = CHUNK / area::STUB - 1;

const _: () = assert!(size_of::<Record>() == area::STUB, "a record lies at its stub's offset");
const _: () = assert!(size_of::<Header>() == area::STUB, "a header takes one record's place");
const _: () =
    assert!(offset_of!(Header, slot) == offset_of!(Record, slot), "a header ends an active list");
const _: () = assert!(
    offset_of!(Header, child) == offset_of!(Record, child),
    "child times may be added to a header"
);
const _: () = assert!(offset_of!(Record, orig_ra) == 8, "the unwind expression reads it there");
const _: () = assert!(
    offset_of!(Record, target) == 0 && offset_of!(Record, on_return) == 16,
    "the stubs' bytes"
);
const _: () = assert!(
    offset_of!(Record, site) == offset_of!(Record, cell) + 4,
    "copied together from the site"
);
const _: () = assert!(area::HALF == 1 << 24, "offsets have 24 bits");

/// The record at an offset.
#[inline]
pub(crate) fn record(offset: u32) -> &'static Record {
    debug_assert!((offset as usize) < area::HALF && (offset as usize).is_multiple_of(area::STUB));
    // SAFETY: offsets are below the size of the half.
    let place = unsafe { area::records().add((offset & OFFSET) as usize) };
    // SAFETY: the records half is zeroed memory for the life of the process, aligned to pages; all
    // fields are atomic.
    unsafe { &*place.cast::<Record>() }
}

/// The header of the chunk with an offset in it.
#[inline]
pub(crate) fn header(offset: u32) -> &'static Header {
    // SAFETY: offsets are below the size of the half.
    let place = unsafe { area::records().add((offset & OFFSET) as usize & !(CHUNK - 1)) };
    // SAFETY: as in `record`; the first 64 bytes of each chunk are only ever used as its header.
    unsafe { &*place.cast::<Header>() }
}

/// Address of the stub with that offset.
#[inline]
pub(crate) fn stub(offset: u32) -> u64 {
    (area::code() + offset as usize) as u64
}

/// The address that stands in the return slot while the instance is active.
#[inline]
pub(crate) fn return_address(offset: u32) -> u64 {
    stub(offset) + area::RETURN as u64
}

/// Where a function really returns, if `address`, which is in the place of its return address, is a
/// return probe's. `read` is told of each word that decides that, address and contents.
///
/// # Context
/// Signal-safe. For addresses on the calling thread's stack, in frames that are alive.
#[inline]
pub fn original_return_address(address: u64, read: &mut dyn FnMut(u64, u64)) -> Option<u64> {
    let mut at = area::offset_of(address)?;
    loop {
        let place = &record(at).orig_ra;
        let original = place.load(Ordering::Relaxed);
        read(place.as_ptr().addr() as u64, original);
        // Functions that ended in jumps share a slot: the instances form a chain.
        match area::offset_of(original) {
            Some(next) if next != at => at = next,
            _ => return Some(original),
        }
    }
}
