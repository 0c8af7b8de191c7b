//! Emptying other threads' entries: asked for, or done for them while they sleep.

use super::cells::{adopt_after_fork, cells};
use super::object::{Dead, Header};
use crate::asymmetric::{Asymmetric, Fences};
use crate::backoff::Backoff;
use crate::panics::Panics;
use percpu::sync::atomic::{AtomicU64, Ordering};

/// One flusher at a time, because an entry has room for what one flusher has taken. 0, or the fork
/// generation in which it was locked: a lock of an earlier generation belongs to a thread that a
/// fork left behind.
static FLUSHER: AtomicU64 = AtomicU64::new(0);

struct Locked;

impl Locked {
    fn lock() -> Self {
        let generation = percpu::fork::generation();
        let mut backoff = Backoff::new();
        loop {
            let holder = FLUSHER.load(Ordering::Relaxed);
            // Acquire pairs with the Release in `drop`.
            if holder != generation
                && FLUSHER
                    .compare_exchange(holder, generation, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
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

/// Empties the entries of all threads that hold `only`, or anything. No user code runs under the
/// lock. The first panic of a value's drop goes on.
pub(super) fn flush(only: Option<usize>) {
    let mut panics = Panics::none();
    flush_catching(only, &mut panics);
    panics.resume();
}

fn flush_catching(only: Option<usize>, panics: &mut Panics) {
    take_over(only).free(panics);
}

/// Empties the entries; what that was the end of is for the caller to free.
pub(super) fn take_over(only: Option<usize>) -> Dead {
    adopt_after_fork();
    let mut dead = Dead::from_limbo();
    let _locked = Locked::lock();
    entries(|entry| entry.revoke(only));
    // Pairs with `light()` in `Entry::touch`, once for all threads.
    Asymmetric::new().heavy();
    entries(|entry| {
        if let Some(owed) = entry.commit() {
            dead.settle(owed);
        }
    });
    dead
}

/// Marks the entries that hold `object`, so that their threads' next touch empties them.
pub(super) fn request(object: usize) {
    entries(|entry| entry.request(object));
}

/// Whether threads may cache the object. Switched off, those that do are asked to stop.
pub(super) fn set_caching(header: &Header, object: usize, on: bool) {
    header.set_cacheable(on);
    if !on {
        // Pairs with `light()` in `get_missed`: a thread that fills an entry and is not found below
        // finds caching switched off.
        Asymmetric::new().heavy();
        request(object);
    }
}

fn entries(f: impl FnMut(&super::entry::Entry)) {
    cells().flat_map(|cell| cell.entries()).for_each(f);
}

/// Empties the entries of all threads, sleeping ones included, and frees what nobody refers to any
/// more. For a helper that runs now and then, so that an idle thread does not keep the last objects
/// that it used.
///
/// # Context
/// Waits for another flush in progress, never for the threads whose entries it empties. Drops
/// objects. One system call. Not for signal handlers.
///
/// # Panics
/// When the drop of an object does, after the others were dropped: the first panic goes on here.
pub fn flush_all() {
    flush(None);
}
