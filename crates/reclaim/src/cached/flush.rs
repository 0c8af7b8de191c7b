//! Emptying other threads' entries: asked for, or done for them while they sleep.

use super::local::{adopt_after_fork, cells, flush_own};
use super::object::{Dead, Header};
use crate::asymmetric::{Asymmetric, Fences};
use crate::backoff::Backoff;
use core::sync::atomic::{AtomicU64, Ordering};

/// One flusher at a time, because an entry has room for what one flusher has taken. 0, or the fork generation in which it was locked: a lock of an earlier generation belongs
/// to a thread that a fork left behind.
static FLUSHER: AtomicU64 = AtomicU64::new(0);

struct Locked;

impl Locked {
    fn lock() -> Self {
        let generation = percpu::fork::generation();
        let mut backoff = Backoff::new();
        loop {
            let holder = FLUSHER.load(Ordering::Relaxed);
            // Acquire pairs with the Release in `drop`.
            if holder != generation && FLUSHER.compare_exchange(holder, generation, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return Self;
            }
            backoff.wait();
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        FLUSHER.store(0, Ordering::Release);
    }
}

/// Empties the entries of all threads that hold `only`, or anything. No user code runs under the lock.
pub(super) fn flush(only: Option<usize>) {
    adopt_after_fork();
    let mut dead = Dead::default();
    {
        let _locked = Locked::lock();
        entries(|entry| entry.revoke(only));
        // Pairs with `light()` in `Entry::touch`, once for all threads.
        Asymmetric::new().heavy();
        entries(|entry| {
            if let Some(owed) = entry.commit() {
                dead.settle(owed);
            }
        });
    }
    dead.free();
}

/// Marks the entries that hold `object`, so that their threads' next touch empties them.
pub(super) fn request(object: usize) {
    entries(|entry| entry.request(object));
}

/// Whether threads may cache the object. Switched off, those that do are asked to stop.
pub(super) fn set_caching(header: &Header, object: usize, on: bool) {
    header.set_cacheable(on);
    if !on {
        // Pairs with `light()` in `get_missed`: a thread that fills an entry and is not found below finds caching switched off.
        Asymmetric::new().heavy();
        request(object);
    }
}

fn entries(f: impl FnMut(&super::entry::Entry)) {
    cells().flat_map(|cell| cell.entries()).for_each(f);
}

/// Empties the entries of all threads, sleeping ones included, and frees what nobody refers to any more. For a helper that runs now and then, so that an idle thread
/// does not keep the last objects that it used.
///
/// # Context
/// Waits for another flush in progress, never for the threads whose entries it empties. Drops objects. One system call. Not for signal handlers.
pub fn flush_all() {
    flush(None);
}

/// Empties the entries of the calling thread: before it goes to sleep for long, say.
///
/// # Context
/// Drops objects; never waits. Not for signal handlers.
pub fn flush_thread() {
    flush_own();
}
