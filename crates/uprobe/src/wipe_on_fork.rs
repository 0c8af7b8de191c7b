//! Words that are 0 again in a fork child, however it was made: what other threads of the parent
//! held is nobody's there, and the child can tell that it is not its parent.
//!
//! They lie in a page that the kernel wipes when it copies the address space (`MADV_WIPEONFORK`),
//! so `_Fork`, `clone` and `fork` by a system call of the program's own are seen as well as
//! `fork(3)`, whose handlers would tell. A child of `vfork` has no copy: it runs on its parent's
//! memory, and finds its parent's words.
#![allow(unsafe_code)]

use crate::{kernel, sealed};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

const PAGE: usize = 4096;
const WORDS: usize = PAGE / 4;
/// Process number of the owner of this memory; 0: not known yet.
const OWNER: usize = 0;
/// 1 where [`own_memory`] was called.
const SETTLED: usize = 1;
/// The first word of the [`Lock`]s, to which the rest of the page belongs.
const FIRST_LOCK: usize = 2;
const LOCKS: usize = WORDS - FIRST_LOCK;

type Page = [AtomicU32; WORDS];

static PLACE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());
/// Where there is no memory: these stay what they are in a child.
static FALLBACK: Page = [const { AtomicU32::new(0) }; WORDS];

fn page() -> &'static Page {
    // Acquire pairs with the Release in `map`.
    let page = PLACE.load(Ordering::Acquire);
    // SAFETY: null, or mapped for the life of the process.
    unsafe { page.as_ref() }.unwrap_or_else(map)
}

#[cold]
fn map() -> &'static Page {
    let fallback = (&raw const FALLBACK).cast_mut();
    let new = kernel::wiped_page(PAGE).map_or(fallback, |page| page.as_ptr().cast::<Page>());
    // AcqRel: pairs with the Acquire in `page`, and with the Release of whoever came first.
    let first = PLACE.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire);
    // A page too many stays: nobody uses it.
    let page = first.map_or_else(|there| there, |_| new);
    // SAFETY: a page of zeros, or the table above; mapped for the life of the process.
    unsafe { &*page }
}

/// Notes that the memory is the calling process's: at the start of it, not in a child of `vfork`.
pub(crate) fn own_memory() {
    if !sealed::is_sealed() {
        page()[OWNER].store(kernel::process_id(), Ordering::Relaxed);
    }
    page()[SETTLED].store(1, Ordering::Relaxed);
}

/// Whether the memory is a copy: this is a fork child, and [`own_memory`] was not called in it.
/// False where there was no memory for the page.
///
/// # Context
/// Signal-safe; no system call.
#[inline]
pub(crate) fn is_copy() -> bool {
    let page = page();
    !ptr::eq(page, &raw const FALLBACK) && page[SETTLED].load(Ordering::Relaxed) == 0
}

/// Whether the calling process runs on the memory of another: it is a child of `vfork`, or of
/// `clone` with `CLONE_VM`.
///
/// # Context
/// Signal-safe; one system call. False where the program has given it up.
pub(crate) fn is_borrowed() -> bool {
    if sealed::is_sealed() {
        return false;
    }
    let own = kernel::process_id();
    // Relaxed: the word alone matters, and whoever writes it writes the same.
    let owner = page()[OWNER].compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed);
    owner.is_err_and(|owner| owner != own)
}

/// A spin lock that is free in a fork child. What it protects may be left as it was in the middle
/// of a change by a thread that the child does not have: its user writes in an order in which
/// every state is a good one.
#[derive(Clone, Copy, Debug)]
pub struct Lock(usize);

impl Lock {
    /// The lock with that number, in this process. Numbers up to 64, and from 1,000 on, are the
    /// engine's.
    pub const fn new(number: usize) -> Self {
        assert!(number < LOCKS, "there is one page of them");
        Self(number)
    }

    /// Runs `f` alone.
    ///
    /// # Context
    /// Spins while another thread holds the lock. Not from a signal handler that may interrupt a
    /// holder. Makes two system calls at the first use of any.
    pub fn with<R>(self, f: impl FnOnce() -> R) -> R {
        let word = &page()[FIRST_LOCK + self.0];
        // Acquire pairs with the Release below.
        while word.compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            core::hint::spin_loop();
        }
        let result = f();
        word.store(0, Ordering::Release);
        result
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{Lock, is_borrowed, own_memory};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// What `f` says in a child that was made by `clone` with these flags.
    fn in_child(flags: i32, f: impl Fn() -> bool) -> bool {
        let flags = (flags | libc::SIGCHLD) as libc::c_long;
        // SAFETY: as fork(2), or vfork(2): the child only looks, and ends.
        let child = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        if child == 0 {
            let code = i32::from(!f());
            // SAFETY: the child ends.
            unsafe { libc::_exit(code) };
        }
        let mut status = -1;
        // SAFETY: a place for the status of the child.
        assert_eq!(unsafe { libc::waitpid(child as i32, &raw mut status, 0) }, child as i32);
        status == 0
    }

    #[test]
    fn children_know_whose_memory_they_run_on() {
        own_memory();
        assert!(!is_borrowed());
        assert!(in_child(0, || !is_borrowed()), "a copy");
        assert!(!is_borrowed());
    }

    #[test]
    fn a_lock_that_another_thread_holds_is_free_in_a_child() {
        static HELD: AtomicBool = AtomicBool::new(false);
        static DONE: AtomicBool = AtomicBool::new(false);
        let lock = Lock::new(900);
        let holder = std::thread::spawn(move || {
            lock.with(|| {
                HELD.store(true, Ordering::Release);
                while !DONE.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            });
        });
        while !HELD.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        assert!(in_child(0, || lock.with(|| true)));
        DONE.store(true, Ordering::Release);
        holder.join().expect("the holder ends");
        assert!(lock.with(|| true));
    }
}
