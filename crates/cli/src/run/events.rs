//! What happens while the program runs: signals, its end, and the passing of time, one after the
//! other.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// Signals that end trapline's part; they, and the child's end, are fetched and not handled.
const SIGNALS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD];

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A child changed its state.
    Child,
    /// ^C.
    Interrupt,
    /// SIGTERM or SIGHUP: nobody waits any more.
    Terminate(i32),
    /// The moment has come.
    Time,
}

/// The signals, blocked in this thread and in those that it starts from now on.
#[derive(Debug)]
pub(crate) struct Events {
    set: libc::sigset_t,
    before: libc::sigset_t,
}

impl Events {
    /// Call before any thread is started.
    pub(crate) fn watch() -> Self {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the call initialises the set that it is given.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialised by the call above.
        let mut set = unsafe { set.assume_init() };
        for signal in SIGNALS {
            // SAFETY: the set is initialised, and the number is a signal's.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        let mut before = set;
        // SAFETY: both sets live through the call.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
        Self { set, before }
    }

    /// The signals that were blocked before: what the program is to start with.
    pub(crate) fn before(&self) -> libc::sigset_t {
        self.before
    }

    /// Waits for the next event, at most until `moment`.
    pub(crate) fn next(&self, moment: Option<Instant>) -> Event {
        loop {
            // A day is for ever, and fits the structure.
            let left = moment.map_or(Duration::from_secs(86_400), |moment| {
                moment.saturating_duration_since(Instant::now())
            });
            let timeout = libc::timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            // SAFETY: set and timeout live through the call; no details are asked for.
            let signal = unsafe {
                libc::sigtimedwait(&raw const self.set, std::ptr::null_mut(), &raw const timeout)
            };
            match signal {
                libc::SIGCHLD => return Event::Child,
                libc::SIGINT => return Event::Interrupt,
                libc::SIGTERM | libc::SIGHUP => return Event::Terminate(signal),
                _ if moment.is_some_and(|moment| Instant::now() >= moment) => return Event::Time,
                _ => {}
            }
        }
    }
}
