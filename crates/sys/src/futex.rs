//! `futex(2)`: sleeping while a word is what it was.
#![allow(unsafe_code)]

use crate::Errno;
use crate::number::FUTEX;
use crate::raw::{syscall3, syscall6};
use crate::time::Timespec;
use core::sync::atomic::AtomicU32;

const WAIT_BITSET: usize = 9;
const WAKE: usize = 1;
const PRIVATE: usize = 128;
const ANY: usize = u32::MAX as usize;

/// Who may sleep on a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Threads of this process.
    Private,
    /// Of every process that has the memory.
    Shared,
}

const fn operation(operation: usize, scope: Scope) -> usize {
    operation | if matches!(scope, Scope::Private) { PRIVATE } else { 0 }
}

/// Sleeps while the word is `expected`, until somebody wakes it, or `CLOCK_MONOTONIC` shows
/// `until`: a point in time, which signals do not move.
///
/// # Errors
/// `EAGAIN`: the word is another; `EINTR`: a signal handler has run; `ETIMEDOUT`. What is woken may
/// also have been woken for no reason: look at the word again.
pub fn wait(
    word: &AtomicU32,
    expected: u32,
    until: Option<&Timespec>,
    scope: Scope,
) -> Result<(), Errno> {
    let until = until.map_or(0, |until| (&raw const *until).expose_provenance());
    let (at, operation) = (word.as_ptr().expose_provenance(), operation(WAIT_BITSET, scope));
    // SAFETY: the word is readable and aligned, the time null or readable; the kernel keeps neither
    // address when the call is over.
    unsafe { syscall6(FUTEX, at, operation, expected as usize, until, 0, ANY) }.map(drop)
}

/// Wakes up to `threads` of those that sleep on the word: how many. It cannot fail.
pub fn wake(word: &AtomicU32, threads: i32, scope: Scope) -> usize {
    let (at, operation) = (word.as_ptr().expose_provenance(), operation(WAKE, scope));
    // SAFETY: the kernel uses the address as a name and keeps it no longer than the call.
    unsafe { syscall3(FUTEX, at, operation, threads as usize) }.unwrap_or(0)
}
