//! Restartable sequences: a few instructions that take effect on one CPU, or not at all.
//!
//! A sequence reads the CPU's number, computes, and ends in one store, the commit. If the thread is
//! preempted, migrated or gets a signal in between, the kernel moves it to the sequence's start. So
//! a plain load and store of a per-CPU word behave like one atomic instruction towards every other
//! thread on that CPU, at the cost of plain instructions. The mechanism is Linux's `rseq(2)`
//! (4.18); the idea of per-CPU free lists on it is tcmalloc's and librseq's.
//!
//! # Registration
//! glibc 2.35 and later registers every thread; its area is used. Elsewhere (musl, older glibc,
//! `GLIBC_TUNABLES=glibc.pthread.rseq=0`) a thread registers an area of this crate at its first
//! sequence and gives it back when it exits. A thread that cannot be registered is
//! [`Refused::Unregistered`] and takes its caller's other path.
//!
//! # Looking into another CPU's slot
//! A plain store of the owner would overwrite a compare-and-swap of a visitor. So a visitor closes
//! the [`Gate`] that every sequence of that structure tests, then calls [`fence()`], which aborts
//! the sequences in progress; from then until it opens the gate no sequence commits, and visitors
//! work with compare-and-swap among themselves.
//!
//! # What is unsafe
//! Adds ([`add`], [`Gate`]) are safe: the worst that wrong use does is a wrong sum. Lists
//! ([`lifo::Lifo`]) believe the numbers in their memory without a look, so making one and giving it
//! an entry is unsafe; so is opening a gate by hand, because visitors of a list rely on it.
//!
//! # Rules for users
//! A cell is written either by sequences only or by atomic instructions only. Memory that a
//! sequence names must stay mapped while any thread may be inside one: a thread that may be about
//! to enter holds a reference, as for any shared object.

use crate::arch::{area, sequence};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::{CachePadded, cpu};
use core::fmt;
use core::mem::ManuallyDrop;

pub mod lifo;
#[cfg(all(test, feature = "std", not(loom)))]
mod twin;

/// Whether restartable sequences and the membarrier command behind [`fence()`] work in this
/// process. Decided once, at the first call.
///
/// # Context
/// Signal-safe, never allocates; the first call makes a few system calls.
#[inline]
pub fn available() -> bool {
    area::available()
}

/// The CPU this thread runs on, if its area is registered. Old by the time the caller looks.
///
/// # Context
/// Signal-safe, never allocates, never blocks, no system call.
#[inline]
pub fn cpu_id() -> Option<u32> {
    area::cpu_id()
}

/// The kernel's compact number for this thread among the threads of the process that run right now
/// (`mm_cid`, Linux 6.3), if it is offered. Below the number of threads and below the number of
/// CPUs, whichever is less.
///
/// # Context
/// Signal-safe, never allocates, never blocks, no system call.
#[inline]
pub fn mm_cid() -> Option<u32> {
    area::mm_cid()
}

/// Registers this thread if the C library does not. False: this thread cannot use sequences.
///
/// # Context
/// Signal-safe after [`crate::init`]; at most one system call per thread.
#[inline]
pub fn register_thread() -> bool {
    area::register_thread()
}

/// For code that runs in threads of others before they are ready, such as a tracer's: the C library
/// registers its area when a thread starts, and until then the memory may hold the number of a CPU
/// all the same (glibc's is zero in a new stack, and an old thread's in one that is used again).
/// This asks the kernel, and marks the area as unregistered if it is; the C library overwrites
/// that.
///
/// # Context
/// Signal-safe if signals are blocked; at most two system calls; leaves `errno` alone.
pub fn check_thread() {
    area::check_thread();
}

/// Aborts every sequence in progress in this process, and is a full barrier on every CPU that runs
/// one of its threads. Only after [`available`] was true; otherwise it does nothing, as there are
/// no sequences.
///
/// # Context
/// Signal-safe, never allocates, does not block; one system call (0.4 µs alone, 9 µs with running
/// siblings).
#[inline]
pub fn fence() {
    area::fence();
}

/// Why a sequence did not commit. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The gate is closed: somebody looks into the slots.
    Closed,
    /// This thread has no registered area, or its CPU's number is beyond the slots.
    Unregistered,
}

impl Refused {
    /// Why a sequence that read this number from its area was refused.
    #[inline]
    pub(crate) fn of_cpu(cpu: u32) -> Self {
        if (cpu as usize) < cpu::count() { Self::Closed } else { Self::Unregistered }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the per-CPU slots are closed for a moment",
            Self::Unregistered => "this thread has no restartable-sequence area",
        })
    }
}

impl core::error::Error for Refused {}

/// Whether sequences may run, and on how many slots.
///
/// The low half of the word is the number of slots that sequences may use: all, or none while a
/// visitor keeps the gate closed. So the one comparison that checks the CPU's number checks the
/// gate too. The high half counts the visitors: a count and not a flag, so that visitors need not
/// exclude each other, and one that never comes back (killed, left behind by a fork) costs speed
/// only.
#[derive(Debug)]
pub struct Gate {
    state: AtomicU64,
    slots: u32,
    /// Where the threads' areas lie, beside the word that each sequence reads anyway: a static of
    /// another crate costs two loads and a test more.
    area: isize,
}

const VISITOR: u64 = 1 << 32;

impl Gate {
    /// An open gate for one slot per possible CPU ([`cpu::count`]).
    pub fn new() -> Self {
        let slots = cpu::count() as u32;
        Self { state: AtomicU64::new(u64::from(slots)), slots, area: sequence::area() }
    }

    /// How many slots a structure behind this gate must have.
    #[inline]
    pub fn slots(&self) -> usize {
        self.slots as usize
    }

    /// Closes the gate for one more visitor and aborts the sequences in progress. No sequence
    /// commits until the result is dropped; if it is forgotten, not before [`open`](Self::open).
    ///
    /// # Context
    /// Signal-safe, never allocates, does not block; one system call ([`fence()`]).
    pub fn close(&self) -> Closed<'_> {
        // SeqCst, then membarrier: a sequence that finds the gate open afterwards does not exist;
        // one that found it open before has committed or is aborted.
        self.update(Ordering::SeqCst, |state| (state & !(VISITOR - 1)) + VISITOR);
        fence();
        Closed { gate: self }
    }

    /// Takes back one [`close`](Self::close) whose [`Closed`] was forgotten.
    ///
    /// ```compile_fail,E0133
    /// percpu::rseq::Gate::new().open(); // nobody closed it
    /// ```
    ///
    /// # Safety
    /// A [`Closed`] of this gate was forgotten, and nobody relies on it any more: not by a copy
    /// from [`closed_for_good`](Self::closed_for_good), nor by another call of this.
    #[allow(unsafe_code)]
    pub unsafe fn open(&self) {
        self.leave();
    }

    /// What stands for a [`close`](Self::close) that is never taken back.
    ///
    /// # Safety
    /// A [`Closed`] of this gate was forgotten, by a call that happened before this one, and the
    /// gate is neither [opened](Self::open) for it nor [reset](Self::reset) while the result is
    /// used.
    #[allow(unsafe_code)]
    pub unsafe fn closed_for_good(&self) -> ManuallyDrop<Closed<'_>> {
        ManuallyDrop::new(Closed { gate: self })
    }

    fn leave(&self) {
        // Release pairs with the load of the gate at the start of each sequence (an acquire on
        // x86): it sees the visitor's changes.
        self.update(Ordering::AcqRel, |state| match state.wrapping_sub(VISITOR) {
            0 => u64::from(self.slots),
            others => others,
        });
    }

    fn update(&self, order: Ordering, f: impl Fn(u64) -> u64) {
        let mut state = self.state.load(Ordering::Relaxed);
        while let Err(now) =
            self.state.compare_exchange_weak(state, f(state), order, Ordering::Relaxed)
        {
            state = now;
        }
    }

    /// Whether sequences run at this moment.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) < VISITOR
    }

    /// The visitors of this moment, for [`reset`](Self::reset).
    pub fn visitors(&self) -> Visitors {
        Visitors(self.state.load(Ordering::Acquire))
    }

    /// Forgets all visitors, if they are still `these`: in a fork child those of the parent, whose
    /// threads do not exist here. False: others came or went.
    ///
    /// # Safety
    /// No [`Closed`] that `these` count is dropped or used in this process any more.
    #[allow(unsafe_code)]
    pub unsafe fn reset(&self, these: Visitors) -> bool {
        let open = u64::from(self.slots);
        // Orderings as in `leave`.
        self.state.compare_exchange(these.0, open, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The slots that sequences may use now, for sequences that are no assembly.
    #[cfg(simulated)]
    pub(crate) fn slots_open(&self) -> u32 {
        self.state.load(Ordering::Relaxed) as u32
    }

    #[inline(always)]
    pub(crate) fn area(&self) -> isize {
        self.area
    }

    /// The word whose low half the sequences compare with the CPU's number.
    #[inline(always)]
    pub(crate) fn word(&self) -> *const u64 {
        (&raw const self.state).cast()
    }
}

/// A gate that was closed: as long as this exists, no sequence behind the gate commits. Dropping it
/// takes the closing back.
///
/// The only way to look into another CPU's slot goes by it:
/// ```compile_fail,E0061
/// use percpu::rseq::lifo::Lifo;
/// fn look(lifo: Lifo<'_>) {
///     lifo.steal(0, 1);
/// }
/// ```
#[derive(Debug)]
#[must_use = "the gate opens when this is dropped"]
pub struct Closed<'g> {
    gate: &'g Gate,
}

impl Closed<'_> {
    /// Whether it is `gate` that is closed.
    #[inline]
    pub(crate) fn is_of(&self, gate: &Gate) -> bool {
        core::ptr::eq(self.gate, gate)
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

/// Who keeps a [`Gate`] closed at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitors(u64);

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds `value` to the cell of the CPU this thread is on: a plain add, wrapping, no locked
/// instruction.
///
/// `cells` has one cell per possible CPU ([`Gate::slots`]); with fewer, every add is
/// [`Refused::Unregistered`].
///
/// # Errors
/// See [`Refused`]; then nothing was added. After [`Refused::Unregistered`] the caller may try
/// [`register_thread`] once.
///
/// # Context
/// Signal-safe, never allocates, never blocks, no system call.
#[inline(always)]
pub fn add(gate: &Gate, cells: &[CachePadded<AtomicU64>], value: u64) -> Result<(), Refused> {
    if cells.len() < gate.slots() {
        return Err(Refused::Unregistered);
    }
    sequence::add(gate, cells, value)
}
