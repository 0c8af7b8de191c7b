//! Signals that interrupt a certain thread, for tests of what handlers may do over the code that
//! they interrupt.
//!
//! A timer of the process (`setitimer`, `timer_create` without a thread) will not do. The kernel
//! gives its signals to the process's first thread, where the test harness waits: handlers would
//! run beside the code under test, and never over it.
#![allow(dead_code, reason = "each test program uses its part")]

use std::array;
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, compiler_fence};
use std::time::{Duration, Instant};

/// The operations that one test tells apart.
const OPERATIONS: usize = 8;
/// In [`CURRENT`]: none of them.
const NONE: usize = OPERATIONS;
/// What a test waits for is there within seconds, on a slow and busy machine within a minute.
const PATIENCE: Duration = Duration::from_secs(120);

// Const and without destructors: handlers use them.
thread_local! {
    /// The thread's timer, and how long after a handler it sends the next signal.
    static TIMER: Cell<Option<(libc::timer_t, Duration)>> = const { Cell::new(None) };
    /// The operation that the thread is in.
    static CURRENT: AtomicUsize = const { AtomicUsize::new(NONE) };
    /// Handlers that ran over each operation, and over none.
    static HANDLERS: [AtomicU64; OPERATIONS + 1] =
        const { [const { AtomicU64::new(0) }; OPERATIONS + 1] };
}

/// Makes `handler` the signal's. It has to end with [`handled`].
pub(crate) fn install(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // What POSIX does not allow in a handler: the hooks for fork and thread exit.
    percpu::init();
    // SAFETY: an all-zero sigaction is valid, without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is initialised, the handler is a function.
    assert_eq!(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) }, 0);
}

/// Runs `f`, the test's operation number `operation`: handlers that run over it count there.
pub(crate) fn operation<R>(operation: usize, f: impl FnOnce() -> R) -> R {
    // Relaxed, and fences for the compiler: only this thread's handlers look.
    CURRENT.with(|current| current.store(operation, Ordering::Relaxed));
    compiler_fence(Ordering::SeqCst);
    let result = f();
    compiler_fence(Ordering::SeqCst);
    CURRENT.with(|current| current.store(NONE, Ordering::Relaxed));
    result
}

/// The last thing that a handler does.
pub(crate) fn handled() {
    // Relaxed: the thread's own.
    let current = CURRENT.with(|current| current.load(Ordering::Relaxed));
    HANDLERS.with(|handlers| handlers[current].fetch_add(1, Ordering::Relaxed));
    if let Some((timer, every)) = TIMER.get() {
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let once = libc::itimerspec {
            it_interval: never,
            it_value: libc::timespec { tv_sec: 0, tv_nsec: every.as_nanos() as libc::c_long },
        };
        // SAFETY: a timer in the cell exists; `once` is readable.
        unsafe { libc::timer_settime(timer, 0, &once, ptr::null_mut()) };
    }
}

/// Sends a signal to the thread that made it, again and again until it is dropped: after that no
/// handler runs over the thread.
///
/// Each signal comes a while after the end of the last handler: a timer with a fixed period would
/// leave the thread no time between the handlers on a machine that is slow enough.
pub(crate) struct Interrupts {
    since: Instant,
    /// Of this thread, and no other's.
    thread: PhantomData<*const ()>,
}

impl Interrupts {
    /// `every` is less than a second.
    pub(crate) fn start(signal: libc::c_int, every: Duration) -> Self {
        assert!(TIMER.get().is_none(), "one timer for each thread");
        // SAFETY: an all-zero sigevent is valid.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        // SAFETY: gettid has no precondition.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: both point to locals.
        assert_eq!(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) }, 0);
        TIMER.set(Some((timer, every)));
        handled();
        HANDLERS.with(|all| all.iter().for_each(|count| count.store(0, Ordering::Relaxed)));
        Self { since: Instant::now(), thread: PhantomData }
    }

    /// Handlers that have run over this thread.
    pub(crate) fn handlers(&self) -> u64 {
        HANDLERS.with(|all| all.iter().map(|count| count.load(Ordering::Relaxed)).sum())
    }

    /// Handlers that have run over each of the first `N` operations of this thread.
    pub(crate) fn over<const N: usize>(&self) -> [u64; N] {
        HANDLERS.with(|all| array::from_fn(|operation| all[operation].load(Ordering::Relaxed)))
    }

    /// True while a test has to go on, which is while one of its first `N` operations was
    /// interrupted fewer than `times` times, or while `also`. Panics when that takes too long.
    pub(crate) fn short_of<const N: usize>(&self, times: u64, also: bool) -> bool {
        let short = also || self.over::<N>().into_iter().any(|over| over < times);
        assert!(
            !short || self.since.elapsed() < PATIENCE,
            "{} handlers ran over this thread in {PATIENCE:?}, {:?} of them over its operations",
            self.handlers(),
            self.over::<N>()
        );
        short
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if let Some((timer, _)) = TIMER.take() {
            // SAFETY: the timer was created by `start`, and no handler finds it any more.
            unsafe { libc::timer_delete(timer) };
        }
    }
}
