//! Chunks of instances: from a pool to threads and back.
//!
//! The pool's objects are numbers: object k stands for the 4 KiB of records (and of code) with
//! number k. A thread takes a chunk when its free list is empty and keeps it to its end. A chunk
//! that cannot be given back then, because a function has still to return through it (a coroutine
//! that another thread goes on with), is an orphan: it waits on a list, and is looked through when
//! the pool is empty.
#![allow(unsafe_code)]

use crate::arch::x86_64::area;
use crate::arch::x86_64::vectors::with_all_vectors_elsewhere;
use crate::instance::{self, CHUNK, PER_CHUNK};
use crate::lists::{self, Life, Pages};
use crate::own_code::own_code;
use crate::process::global;
use crate::thread_state::State;
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};
use objpool::{Builder, DefaultPool};

/// Offset of the newest orphan, plus 1.
static ORPHANS: AtomicU32 = AtomicU32::new(0);

/// A pool of the numbers below `chunks`. `None`: no memory.
pub(crate) fn pool(chunks: usize) -> Option<DefaultPool> {
    let write = |place: NonNull<u8>, number: usize| {
        // SAFETY: objects are 8 bytes, aligned to 8.
        unsafe { place.cast::<u64>().write(number as u64) };
        Ok::<(), ()>(())
    };
    Builder::new(chunks, Layout::new::<u64>()).build_with(write, drop).ok()
}

/// Puts 63 instances on the free list of a state that the caller has made critical. False: the pool
/// is empty.
///
/// # Context
/// Signal-safe; blocks signals.
pub(crate) fn refill(state: &State) -> bool {
    if !area::EXIST {
        return false;
    }
    let mut taken = None;
    // The pool's code is not this crate's, and calls the C library in rare cases: such a call,
    // probed, must not come here again.
    own_code(|| with_all_vectors_elsewhere(&mut || taken = take()));
    let Some(offset) = taken else { return false };
    let header = instance::header(offset);
    header.owner.store(ptr::from_ref(state).expose_provenance() as u64, Ordering::Relaxed);
    header.slot.store(u64::MAX, Ordering::Relaxed);
    header.next.store(state.chunks.load(Ordering::Relaxed), Ordering::Relaxed);
    if state.chunks.load(Ordering::Relaxed) == 0 {
        // The first chunk's header ends the active list.
        state.top.store(offset, Ordering::Relaxed);
    }
    state.chunks.store(offset + 1, Ordering::Relaxed);
    state.chunk_count.store(state.chunk_count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    let mut free = state.free.load(Ordering::Relaxed);
    for at in (1..=PER_CHUNK as u32).rev().map(|k| offset + k * instance_size()) {
        instance::record(at).next_free.store(free, Ordering::Relaxed);
        free = at;
    }
    state.free.store(free, Ordering::Relaxed);
    true
}

const fn instance_size() -> u32 {
    area::STUB as u32
}

fn take() -> Option<u32> {
    let pool = &global()?.pool;
    let object = pool.pop().or_else(|| {
        adopt_orphans(pool);
        pool.pop()
    })?;
    // SAFETY: `pool` wrote it, and nobody writes it again.
    let number = unsafe { object.cast::<u64>().read() };
    let offset = number as u32 * CHUNK as u32;
    instance::header(offset)
        .pad
        .store(object.as_ptr().expose_provenance() as u64, Ordering::Relaxed);
    Some(offset)
}

/// Takes all chunks from a state whose thread is gone or going: to the pool, or to the orphans.
pub(crate) fn give_back(pool: &DefaultPool, state: &State, pages: &mut Pages) {
    if !area::EXIST {
        return;
    }
    let mut next = state.chunks.swap(0, Ordering::Relaxed);
    while next != 0 {
        let offset = next - 1;
        next = instance::header(offset).next.load(Ordering::Relaxed);
        settle(pool, offset, pages);
    }
    state.free.store(0, Ordering::Relaxed);
    state.top.store(0, Ordering::Relaxed);
    state.side.store(0, Ordering::Relaxed);
    state.chunk_count.store(0, Ordering::Relaxed);
    state.survivors.store(0, Ordering::Relaxed);
}

/// One chunk without owner: to the pool if nothing may return through it, else to the orphans.
fn settle(pool: &DefaultPool, offset: u32, pages: &mut Pages) {
    let header = instance::header(offset);
    header.owner.store(0, Ordering::Relaxed);
    let mut out = 0;
    for at in (1..=PER_CHUNK as u32).map(|k| offset + k * instance_size()) {
        // Free ones have an old slot, which their return has restored: they look dead.
        out += u32::from(lists::look(at, pages) == Life::Alive);
    }
    header.out.store(out, Ordering::Relaxed);
    if out == 0 {
        let object: *mut u8 =
            ptr::with_exposed_provenance_mut(header.pad.load(Ordering::Relaxed) as usize);
        if let Some(object) = NonNull::new(object) {
            // SAFETY: popped in `take`; the chunk is nobody's now.
            let _ = unsafe { pool.push(object) };
        }
        return;
    }
    // Release pairs with the Acquire in `adopt_orphans`.
    let _ = ORPHANS.fetch_update(Ordering::Release, Ordering::Relaxed, |head| {
        header.next.store(head, Ordering::Relaxed);
        Some(offset + 1)
    });
}

/// Looks through all orphans. The whole list is taken at once, so that a chunk is looked at by one
/// thread at a time.
fn adopt_orphans(pool: &DefaultPool) {
    let mut pages = Pages::none();
    let mut next = ORPHANS.swap(0, Ordering::Acquire);
    while next != 0 {
        let offset = next - 1;
        next = instance::header(offset).next.load(Ordering::Relaxed);
        settle(pool, offset, &mut pages);
    }
}
