//! Readers inside signal handlers: a POSIX timer per reader thread interrupts it, wherever it is,
//! and the handler runs a section of its own.
#![allow(unsafe_code)]

use crate::counts::Counts;
use crate::flavour::Flavour;
use std::cell::Cell;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::Ordering;

/// How often each reader is interrupted.
const PERIOD_NS: i64 = 1_300_000;

/// What a handler reads, and where it counts.
struct Target {
    read: unsafe fn(*const (), &'static Counts),
    flavour: *const (),
    counts: &'static Counts,
}

thread_local! {
    /// The thread's target; null outside of a torture. Const and without a destructor, so that a
    /// handler can read it at any time.
    static TARGET: Cell<*const Target> = const { Cell::new(ptr::null()) };
}

/// Interrupts the calling thread until dropped.
pub(crate) struct Timer {
    id: libc::timer_t,
    target: *mut Target,
}

impl Timer {
    /// Starts; `None` if the system has no timer to give.
    pub(crate) fn start<F: Flavour>(flavour: &'static F, counts: &'static Counts) -> Option<Self> {
        install();
        let target = Box::into_raw(Box::new(Target {
            read: read::<F>,
            flavour: ptr::from_ref(flavour).cast(),
            counts,
        }));
        // SAFETY: a sigevent is plain data; all zero is valid.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGUSR2;
        // SAFETY: takes nothing, touches nothing.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut id = ptr::null_mut();
        // SAFETY: both point to live values.
        if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut id) } != 0 {
            // SAFETY: just made from a box, and known to nobody.
            drop(unsafe { Box::from_raw(target) });
            return None;
        }
        TARGET.set(target);
        let timer = Self { id, target };
        let period = libc::timespec { tv_sec: 0, tv_nsec: PERIOD_NS };
        let often = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: the timer was just made, and `often` is live.
        unsafe { libc::timer_settime(id, 0, &often, ptr::null_mut()) };
        Some(timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: made in `start`, deleted once. A signal on its way finds a null target.
        unsafe { libc::timer_delete(self.id) };
        TARGET.set(ptr::null());
        // SAFETY: came from a box; the handler runs on this thread only, and no longer finds it.
        drop(unsafe { Box::from_raw(self.target) });
    }
}

/// # Safety
/// `flavour` points to an `F`.
unsafe fn read<F: Flavour>(flavour: *const (), counts: &'static Counts) {
    // SAFETY: the caller's promise; flavours live as long as the process.
    let flavour = unsafe { &*flavour.cast::<F>() };
    let done = flavour.read_in_handler(&mut |stage| counts.see(stage.get()));
    if done {
        counts.in_handlers.fetch_add(1, Ordering::Relaxed); // a statistic
    }
}

extern "C" fn handler(_signal: libc::c_int) {
    // SAFETY: null, or the target of this thread, which outlives its entry.
    if let Some(target) = unsafe { TARGET.get().as_ref() } {
        // SAFETY: made together, in `start`.
        unsafe { (target.read)(target.flavour, target.counts) };
    }
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a sigaction is plain data; all zero is valid, with an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `action` is live, and the handler only does what the flavours promise to be
        // signal-safe.
        unsafe { libc::sigaction(libc::SIGUSR2, &action, ptr::null_mut()) };
    });
}
