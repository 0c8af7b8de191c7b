//! What the hit path needs of a thread: its states, which of them is in use, and who may change it.
//!
//! # Critical sections
//! Whoever changes a state's lists sets its `critical` before and clears it afterwards, with plain
//! stores: only the thread and its signal handlers are concerned. A handler that hits a probe while
//! the state is critical goes on with another state of the same thread, made at the first such hit,
//! whose address it puts into the thread-local word; the end of the interrupted section puts the
//! first state's back. No order of nesting is assumed: if the handler never returns (`siglongjmp`)
//! or switches to another stack for good, the thread stays with the other state, and what was made
//! in the first returns by the slow path.
#![allow(unsafe_code)]

use crate::arch::x86_64::tls;
use crate::host;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence, fence};

/// What the hit path needs of a thread. Written by the thread and its signal handlers only; read by
/// whoever takes it over when the thread is gone.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Offset of the first free instance; 0: none.
    pub(crate) free: AtomicU32,
    /// Offset of the newest active instance; that of a chunk's header: none.
    pub(crate) top: AtomicU32,
    /// Address of the block of cells, the same in all states of a thread.
    pub(crate) block: AtomicUsize,
    /// 1: the lists are being changed.
    pub(crate) critical: AtomicU32,
    /// The first instance of the side list: active ones that are not on the stack that the thread
    /// runs on, as far as is known. 0: none.
    pub(crate) side: AtomicU32,
    /// Offset of the newest of the state's chunks, plus 1.
    pub(crate) chunks: AtomicU32,
    /// How many chunks the state has.
    pub(crate) chunk_count: AtomicU32,
    /// Instances that were alive at the last scan.
    pub(crate) survivors: AtomicU32,
    /// The thread's own stack, as [`crate::activation`] uses it; 0 and 0: not known.
    pub(crate) stack_low: AtomicU64,
    pub(crate) stack_end: AtomicU64,
    /// Calls to let pass before a free instance is looked for again.
    pub(crate) patience: AtomicU32,
    /// While a consumer runs: the program's stack pointer at the hit.
    pub(crate) consuming: AtomicUsize,
    /// The thread's word; see [`thread_word`]. In the first state only.
    pub(crate) word: AtomicUsize,
    /// Address of the thread's next state; 0: none.
    pub(crate) next: AtomicUsize,
    /// Of a thread that is at its end: its number, and in the upper half how many times the state
    /// has been at this point. 0: it is not. Set by the thread, in its first state; cleared by
    /// compare-and-swap by the one who gives the thread's states back.
    pub(crate) leaving: AtomicU64,
    /// How many times that was.
    pub(crate) departures: AtomicU32,
    /// The stack when it began to leave: from the stack pointer to the thread's control block,
    /// which glibc puts above.
    pub(crate) stack: [AtomicU64; 2],
    /// Address of the shadow stack beside the program's stack that the thread runs on, as far as is
    /// known: of [`crate::shadow::Stack`].
    pub(crate) shadow: AtomicUsize,
    /// Address of that of the thread's own stack; 0: there was none yet. In the first state only.
    /// Stays with the state, whose next thread has it beside its own.
    pub(crate) own_shadow: AtomicUsize,
    /// How many renewals there had been when the thread got its block; see [`is_stale`]. In the
    /// first state only.
    pub(crate) renewal: AtomicU32,
}

impl State {
    /// Whether an address is on the thread's own stack, as far as that is known.
    pub(crate) fn is_on_stack(&self, address: u64) -> bool {
        let (low, end) = (&self.stack_low, &self.stack_end);
        (low.load(Ordering::Relaxed)..end.load(Ordering::Relaxed)).contains(&address)
    }
}

/// Why a thread has no state for hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Busy {
    /// It has one, or has had no hit yet.
    No = 0,
    /// A consumer runs. What is hit is its doing, or a signal handler's.
    Agent = 2,
    /// Code of the engine or its user runs, with signals blocked: what is hit is no business of the
    /// program.
    Own = 3,
    /// There was no block for it.
    NoBlock = 4,
    /// It is in the middle of a fork: its states serve the slow path only. See [`crate::fork`].
    Forking = 5,
}

/// Why this thread has no state for hits, if it has none.
#[inline]
pub(crate) fn busy() -> Busy {
    match tls::get::<{ tls::BUSY }>() {
        0 if tls::get::<{ tls::STATE }>() == 0 && own().is_some_and(|own| !is_stale(own)) => {
            Busy::Agent
        }
        0 => Busy::No,
        2 => Busy::Agent,
        3 => Busy::Own,
        5 => Busy::Forking,
        _ => Busy::NoBlock,
    }
}

pub(crate) fn set_busy(busy: Busy) {
    tls::set::<{ tls::BUSY }>(busy as usize);
}

/// This thread's state, if it has one.
#[inline]
pub(crate) fn own() -> Option<&'static State> {
    at(tls::get::<{ tls::OWN }>())
}

/// How often all threads were told to ask for a new block.
static RENEWALS: AtomicU32 = AtomicU32::new(0);

/// Whether this thread, whose first state this is, has been told to ask for a new block since it
/// got the one it has. Never where the engine sees what threads do.
#[inline]
pub(crate) fn is_stale(first: &State) -> bool {
    // Relaxed: a thread that does not see it yet uses its old block a little longer.
    !host::SEES && first.renewal.load(Ordering::Relaxed) != RENEWALS.load(Ordering::Relaxed)
}

/// [`is_stale`] of the calling thread.
#[inline]
pub(crate) fn is_own_stale() -> bool {
    !host::SEES && own().is_some_and(is_stale)
}

/// How often that was: to be asked before a thread asks for a block.
pub(crate) fn renewals() -> u32 {
    RENEWALS.load(Ordering::Relaxed)
}

/// The thread, whose first state this is, asks for a block, or has asked after so many renewals.
pub(crate) fn note_renewal(first: &State, renewals: u32) {
    first.renewal.store(renewals, Ordering::Relaxed);
}

/// Forgets what this thread has just said of itself for its next hits, if all threads were told
/// meanwhile to ask for a new block, by somebody who has not seen it: `renewals` is how often that
/// was before it looked.
pub(crate) fn forget_if_renewed(renewals: u32) {
    if host::SEES {
        return;
    }
    // In the single order with the count in `renew`: one of the two sees the other.
    fence(Ordering::SeqCst);
    if RENEWALS.load(Ordering::Relaxed) != renewals {
        tls::set::<{ tls::STATE }>(0);
        if tls::get::<{ tls::BUSY }>() == Busy::NoBlock as usize {
            set_busy(Busy::No);
        }
    }
}

/// Tells all threads to ask for a new block at their next hit.
#[cfg(not(feature = "std"))]
pub(crate) fn renew() {
    // SeqCst: see `forget_if_renewed`.
    RENEWALS.fetch_add(1, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    for words in percpu::host::all_words() {
        tls::forget_state(words, Busy::NoBlock as usize);
    }
}

/// This thread's states.
pub(crate) fn states() -> impl Iterator<Item = &'static State> {
    core::iter::successors(own(), |state| at(state.next.load(Ordering::Relaxed)))
}

/// One of them that is not critical.
pub(crate) fn idle() -> Option<&'static State> {
    states().find(|state| state.critical.load(Ordering::Relaxed) == 0)
}

/// This thread's state with that address.
pub(crate) fn state_at(address: usize) -> Option<&'static State> {
    states().find(|state| core::ptr::from_ref(*state).addr() == address)
}

pub(crate) fn at(address: usize) -> Option<&'static State> {
    // SAFETY: 0 or the address of a record of the registry, which lives for ever.
    unsafe { core::ptr::with_exposed_provenance::<State>(address).as_ref() }
}

pub(crate) fn address(state: &State) -> usize {
    core::ptr::from_ref(state).expose_provenance()
}

/// While it lives, the lists of the state belong to whoever holds it.
#[derive(Debug)]
pub(crate) struct Critical(pub(crate) &'static State);

impl Critical {
    /// None: the state is critical already: this is a handler, or has never come back from one.
    #[inline]
    pub(crate) fn begin(state: &'static State) -> Option<Self> {
        // A handler in between has left the lists whole when it returns.
        if state.critical.load(Ordering::Relaxed) != 0 {
            return None;
        }
        state.critical.store(1, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        Some(Self(state))
    }
}

impl Drop for Critical {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        self.0.critical.store(0, Ordering::Relaxed);
        // In this order: a handler in between may use either state, and leaves the word as it
        // likes. 0 stays: a consumer runs.
        let current = tls::get::<{ tls::STATE }>();
        if current != 0 && current != address(self.0) {
            publish(self.0);
        }
    }
}

/// While it lives, hits of this thread find no state, because a consumer runs: [`Busy::Agent`].
#[derive(Debug)]
pub(crate) struct Consuming {
    state: &'static State,
    before: Busy,
}

impl Consuming {
    /// For a thread that is not busy and does not fork; `slot` is the stack pointer of the hit.
    #[inline]
    pub(crate) fn begin(state: &'static State, slot: u64) -> Self {
        state.consuming.store(slot as usize, Ordering::Relaxed);
        tls::set::<{ tls::STATE }>(0);
        compiler_fence(Ordering::SeqCst);
        Self { state, before: Busy::No }
    }

    /// For a thread that may be forking.
    pub(crate) fn begin_slowly(state: &'static State, slot: u64) -> Self {
        let before = busy();
        if before == Busy::Forking {
            set_busy(Busy::Agent);
        }
        let mut begun = Self::begin(state, slot);
        begun.before = before;
        begun
    }

    pub(crate) fn state(&self) -> &'static State {
        self.state
    }
}

impl Drop for Consuming {
    #[inline]
    fn drop(&mut self) {
        self.state.consuming.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        match self.before {
            Busy::Forking => set_busy(Busy::Forking),
            _ => {
                publish(self.state);
                compiler_fence(Ordering::SeqCst);
                // Afterwards, or who tells all threads could come in between.
                if is_own_stale() {
                    tls::set::<{ tls::STATE }>(0);
                }
            }
        }
    }
}

/// Hits of this thread use this state from now on.
#[inline]
pub(crate) fn publish(state: &'static State) {
    tls::set::<{ tls::STATE }>(address(state));
}

/// The address of [`own`].
pub(crate) fn own_state() -> *const State {
    core::ptr::with_exposed_provenance(tls::get::<{ tls::OWN }>())
}

/// A word that the engine's user may use for the calling thread, and the thread's block of cells.
/// The word is 0 at the thread's first hit and in a fork child. `None`: the thread has had no hit.
///
/// # Context
/// Signal-safe; no system call. In a consumer there always is one.
#[inline]
pub fn thread_word() -> Option<(&'static AtomicUsize, usize)> {
    own().map(|state| (&state.word, state.block.load(Ordering::Relaxed)))
}

/// The calling thread's own stack, as far as it is known: the first thread's, and those of threads
/// that were said to be started ([`prepare_started_thread`](crate::prepare_started_thread)). From
/// any frame on it to its end it is mapped as long as the thread lives.
///
/// # Context
/// Signal-safe; no system call.
pub fn own_stack() -> Option<core::ops::Range<u64>> {
    let state = own()?;
    let end = state.stack_end.load(Ordering::Relaxed);
    (end != 0).then(|| state.stack_low.load(Ordering::Relaxed)..end)
}
