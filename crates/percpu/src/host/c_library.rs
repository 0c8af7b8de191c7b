//! A process with a C library, whose threads are its own.
#![allow(unsafe_code)]

mod pthread_key;

pub(crate) use pthread_key::Key as ThreadEnd;

/// Where this thread runs: of the vDSO, where there is one.
#[cold]
pub(crate) fn cpu() -> usize {
    // SAFETY: sched_getcpu takes nothing and touches no memory of the caller.
    let cpu = unsafe { libc::sched_getcpu() };
    usize::try_from(cpu).unwrap_or(0)
}
