//! What a consumer is, and what is known of those that are registered.
#![allow(unsafe_code)]

use crate::context::Context;
#[cfg(doc)]
use crate::recorder::Loss;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::AtomicU32;

/// What a consumer says at an entry about the return of the same call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Call me when it returns.
    Return,
    /// Not this one.
    Skip,
}

/// Which registers a consumer's code may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// SSE only: compiled for plain x86-64, and calling nothing that is not (libc's `memcpy` uses
    /// what the machine has).
    Sse,
    /// Everything. Costs 5 to 20 ns more, for the registers that have to be saved.
    All,
}

/// How long a call took, in ticks of the time-stamp counter, from the end of its entry's consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From entry to return.
    pub ticks: u64,
    /// Without the time in other functions, called meanwhile, whose time is taken.
    pub own: u64,
}

/// What is called at a hit.
///
/// # Context
/// The functions run in the middle of the program's function, or of a signal handler: they must be
/// signal-safe, must not unwind, must not use the x87 registers, and hits of probes in what they
/// call are counted as [`Loss::Recursion`], not reported to anyone.
#[derive(Clone, Copy, Debug)]
pub struct Consumer {
    /// Called before the instruction at the site, with `data` and a cookie that the function may
    /// set. None: returns only.
    pub entry: Option<fn(&mut Context, usize, &mut u64) -> Verdict>,
    /// Called when the function that the site is the first instruction of returns, with `data` and
    /// the cookie.
    pub ret: Option<fn(&mut Context, usize, u64)>,
    /// Called in the place of `ret`, with `data`, the low half of the cookie, and how long the call
    /// took.
    pub span: Option<fn(usize, u32, Span)>,
    /// Called in the place of `entry` when a signal handler hits the site while the thread runs a
    /// consumer, at any point of it. Without it such a hit is a [`Loss::Recursion`].
    pub busy: Option<fn(usize)>,
    /// Given to all.
    pub data: usize,
    /// What the code of all may use.
    pub vectors: Vectors,
    /// How many calls may be waiting for their return at once; more are not told to `ret`
    /// ([`Loss::Depth`]). 0: no limit.
    pub limit: u32,
}

/// A registered consumer's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerId(pub(crate) u32);

/// A consumer in the table.
pub(crate) struct Registered {
    pub(crate) consumer: Consumer,
    pub(crate) id: u32,
    /// Calls that wait for their return, if there is a limit.
    pub(crate) waiting: AtomicU32,
}

/// The consumers of one site: never changed.
pub(crate) struct List {
    pub(crate) all: Vec<ptr::NonNull<Registered>>,
    pub(crate) vectors: Vectors,
}

// SAFETY: what the pointers lead to is shared by atomics and freed after a grace period.
unsafe impl Send for List {}
