//! In an image: two words that a fork child finds wiped (`MADV_WIPEONFORK`), as it does the words
//! of its threads. So the thread that called `fork` has no number in the child either: it gets a
//! new one, and what its old one owned is left behind like everybody's.
#![allow(unsafe_code)]

use crate::numbers;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use sys::memory::{self, MADV_WIPEONFORK, PAGE};

/// What a process knows of the fork that made it. 0: not known yet. Each word is written once, by
/// compare-and-swap.
struct Wiped {
    /// Thread numbers below it were handed out before the fork. Settled before this process hands
    /// out any.
    floor: AtomicU64,
    generation: AtomicU64,
}

/// Null: nothing was asked yet, or the kernel has no memory. Then forks are not noticed.
static WIPED: AtomicPtr<Wiped> = AtomicPtr::new(ptr::null_mut());
/// That of this process, or, until a child has settled its own, of its parent.
static GENERATION: AtomicU64 = AtomicU64::new(0);

pub(super) fn generation() -> u64 {
    settled().map_or(1, |wiped| wiped.generation.load(Ordering::Relaxed))
}

#[inline]
pub(super) fn survived(thread: u64) -> bool {
    // Relaxed: a thread of this process settles the floor before it has a number (`prepare`), and
    // whoever learns of the number, by whatever way, learns of that.
    settled().is_none_or(|wiped| thread >= wiped.floor.load(Ordering::Relaxed))
}

pub(super) fn prepare() {
    if WIPED.load(Ordering::Acquire).is_null() {
        map();
    }
    settled();
}

/// The words of this process.
#[inline]
fn settled() -> Option<&'static Wiped> {
    // Acquire pairs with the Release in `map`.
    // SAFETY: null, or a page that stays.
    let wiped = unsafe { WIPED.load(Ordering::Acquire).as_ref() }?;
    if wiped.generation.load(Ordering::Acquire) == 0 {
        settle(wiped);
    }
    Some(wiped)
}

/// Any number of threads, and handlers over them, come here at once: the first compare-and-swap
/// counts, and no thread has a number before it is over.
#[cold]
#[inline(never)]
fn settle(wiped: &Wiped) {
    let (floor, parents) = (numbers::next(), GENERATION.load(Ordering::Relaxed));
    let _ = wiped.floor.compare_exchange(0, floor, Ordering::Relaxed, Ordering::Relaxed);
    // Release pairs with the Acquire in `settled`: who sees the generation sees the floor.
    let _ = wiped.generation.compare_exchange(0, parents + 1, Ordering::Release, Ordering::Relaxed);
    // A thread that comes late may have read this after another wrote it, but its own number was
    // not taken.
    GENERATION.store(wiped.generation.load(Ordering::Relaxed), Ordering::Relaxed);
}

#[cold]
#[inline(never)]
fn map() {
    let Ok(page) = memory::pages(PAGE) else { return };
    // SAFETY: just mapped, and nothing is in it.
    let wiped = unsafe { memory::madvise(page.as_ptr(), PAGE, MADV_WIPEONFORK) };
    let new = page.cast::<Wiped>().as_ptr();
    // Release pairs with the Acquire in `settled`. Without the advice (Linux before 4.14) a child
    // would take its parent's words for its own.
    if wiped.is_err()
        || WIPED
            .compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed)
            .is_err()
    {
        // SAFETY: just mapped with this size, and published nowhere.
        let _ = unsafe { memory::munmap(page.as_ptr(), PAGE) };
    }
}
