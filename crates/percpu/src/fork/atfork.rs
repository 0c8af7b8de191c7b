//! With a C library: a `pthread_atfork` handler runs in the child before `fork` returns there. It
//! notes that every thread number handed out so far belongs to a thread that does not exist here,
//! save the one that called `fork`.
#![allow(unsafe_code)]
use crate::numbers;
use crate::tls::{THREAD_ID_SLOT, slots};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static GENERATION: AtomicU64 = AtomicU64::new(1);
/// Thread numbers below it were handed out before the fork that made this process.
static FLOOR: AtomicU64 = AtomicU64::new(0);
/// The number of the thread that called that fork.
static SURVIVOR: AtomicU64 = AtomicU64::new(0);
static INSTALLED: AtomicBool = AtomicBool::new(false);

pub(super) fn generation() -> u64 {
    prepare();
    GENERATION.load(Ordering::Relaxed)
}

#[inline]
pub(super) fn survived(thread: u64) -> bool {
    // Relaxed: the child handler wrote both while the child had one thread; any later thread
    // was created after it.
    thread >= FLOOR.load(Ordering::Relaxed) || thread == SURVIVOR.load(Ordering::Relaxed)
}

#[inline]
pub(super) fn prepare() {
    if !INSTALLED.load(Ordering::Relaxed) {
        install();
    }
}

#[cold]
#[inline(never)]
fn install() {
    if INSTALLED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: `child` is a function for the life of the process and keeps to what a fork child
    // may do. It can fail only for want of memory; then fork children are not recognised, as
    // before this call.
    unsafe { libc::pthread_atfork(None, None, Some(child)) };
}

unsafe extern "C" fn child() {
    // 0 where the thread has no number yet.
    let me = slots::get(THREAD_ID_SLOT).addr() as u64;
    SURVIVOR.store(me, Ordering::Relaxed);
    FLOOR.store(numbers::next(), Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
