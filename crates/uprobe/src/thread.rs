//! A thread's states: its block of cells and its return instances; how they come and go.
//!
//! # Lifetime
//! A thread gets its first state at its first hit, with all signals blocked, from a registry (so
//! nothing is allocated), together with a block of cells from the [`Hooks`]. It keeps both to its
//! last instruction, for the C library's own functions run after everything that a thread can be
//! told at its end: a pthread destructor writes down that it is leaving, and whoever comes next (a
//! thread that starts or leaves) and finds that the kernel knows the thread no more gives its
//! states back. In a fork child the surviving thread keeps its states and pending instances and
//! gets a new block, and the states of the others are given back.
//!
//! In an image (without the feature `std`) nobody tells of the end of a thread or of a fork. States
//! belong to control blocks, and the next thread on one goes on with them. In a fork child the
//! words that lead to states are wiped: its thread finds at its first hit that it is a copy, gives
//! all states back, and begins as a new thread does.
//!
//! What a state is, and its critical sections: [`crate::thread_state`].
#![allow(unsafe_code)]

use crate::arch::x86_64::vectors::with_all_vectors_elsewhere;
use crate::arch::x86_64::{area, tls, vector};
use crate::instance::CHUNKS;
use crate::lists::Pages;
use crate::own_code::own_code;
use crate::process::{GLOBAL, Global, global, has_returns};
use crate::recorder::{self, Hooks};
use crate::signals::stack;
use crate::thread_state::{
    Busy, Critical, State, address, at, busy, forget_if_renewed, idle, is_stale, note_renewal, own,
    own_state, publish, renewals, set_busy, states,
};
use crate::{
    activation, chunk, host, kernel, lists, pending, sealed, shadow, site_table, stacks,
    wipe_on_fork,
};
use core::sync::atomic::Ordering;
use percpu::{Record, Registry};

/// How much of a thread's stack may be in use above its destructors.
const MOST_ABOVE: u64 = 1 << 20;

/// Why the hit path cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// No memory for the tables.
    OutOfMemory,
    /// Too many functions are to run at thread exit.
    ThreadExit,
}

impl core::fmt::Display for SetupError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::OutOfMemory => "no memory for the engine's tables",
            Self::ThreadExit => "too many functions run at thread exit already",
        })
    }
}

impl core::error::Error for SetupError {}

/// Sets up everything that hits need in this process; false: that was done before. Whether return
/// probes can be made is [`has_returns`]'s to say.
pub(crate) fn start(hooks: Hooks) -> Result<bool, SetupError> {
    if GLOBAL.get().is_some() {
        return Ok(false);
    }
    if !tls::prepare() {
        return Err(SetupError::OutOfMemory);
    }
    percpu::init();
    vector::init();
    wipe_on_fork::own_memory();
    if !site_table::reserve() {
        return Err(SetupError::OutOfMemory);
    }
    recorder::set_lost_hook(hooks.lost);
    let pool = chunk::pool(CHUNKS).ok_or(SetupError::OutOfMemory)?;
    if !percpu::tls::on_thread_exit(leave) {
        return Err(SetupError::ThreadExit);
    }
    let first = GLOBAL.get().is_none();
    GLOBAL.get_or_init(|| Global { hooks, threads: Registry::new(), pool, returns: area::map() });
    Ok(first)
}

/// For a hit at `slot` of a thread in which a consumer seems to run: a state, if that consumer was
/// left for good, by a signal handler that ended in `siglongjmp`. Its frames would lie below the
/// hit that it was called for; a handler that interrupts it is below them, or on the signal stack.
#[cold]
pub(crate) fn escaped(slot: u64) -> Option<&'static State> {
    let slot = slot as usize;
    if busy() != Busy::Agent || stack::contains(slot) {
        return None;
    }
    let left =
        states().find(|state| (1..=slot).contains(&state.consuming.load(Ordering::Relaxed)))?;
    left.consuming.store(0, Ordering::Relaxed);
    publish(left);
    enter()
}

/// Gives the calling thread its block and state now, so that its first hit makes no system call.
/// Without this, or before [`Engine::start`](crate::Engine::start), that hit does it; at a
/// breakpoint it does so on the thread's alternative signal stack, if there is one, which has to
/// have some KiB then.
///
/// # Context
/// Calls [`Hooks::thread_start`]; some system calls; does not allocate.
pub fn prepare_thread() {
    if global().is_some()
        && let Some(state) = enter()
        && has_returns()
        && state.free.load(Ordering::Relaxed) == 0
        && let Some(_critical) = Critical::begin(state)
    {
        // The first instances, too: a breakpoint's handler may have little stack to get them on.
        chunk::refill(state);
    }
}

/// [`prepare_thread`] for a thread that the C library has just started on a stack of `stack` bytes,
/// for which calls that were left on it without a return are told from those that are active.
///
/// # Context
/// As [`prepare_thread`].
pub fn prepare_started_thread(stack: usize) {
    prepare_thread();
    let stack = activation::made_stack(stack);
    states().for_each(|state| activation::note_stack(state, &stack));
}

/// The state that hits of this thread use, if it is not critical. None, too, while the thread
/// forks.
#[inline]
pub(crate) fn current() -> Option<&'static State> {
    at(tls::get::<{ tls::STATE }>()).filter(|state| state.critical.load(Ordering::Relaxed) == 0)
}

/// A state of this thread that is not critical, made if need be; hits use it from now on, unless
/// the thread forks. `None`: there is no block for the thread, or it has ended, or it is busy.
#[inline]
pub(crate) fn enter() -> Option<&'static State> {
    current().or_else(enter_slowly)
}

#[cold]
#[inline(never)]
fn enter_slowly() -> Option<&'static State> {
    match busy() {
        Busy::No => {}
        Busy::Forking => return idle(),
        _ => return None,
    }
    // First: a thread on a control block of an earlier one has that one's states, and may not know
    // it yet.
    let global = global().filter(|_| tls::prepare())?;
    let renewals = renewals();
    let stale = own().is_some_and(is_stale);
    if let Some(state) = idle().filter(|_| !stale) {
        publish(state);
        forget_if_renewed(renewals);
        return Some(state);
    }
    let mask = kernel::block_signals();
    set_busy(Busy::Own);
    let critical = tls::get::<{ tls::STATE }>();
    tls::set::<{ tls::STATE }>(0);
    let mut made = None;
    // Code of others from here on: libc, the hooks.
    with_all_vectors_elsewhere(&mut || {
        made = match own() {
            None => first(global, renewals),
            Some(first) if stale => renewed(global, first, renewals),
            Some(first) => another(global, first),
        }
    });
    match made {
        Some(state) => {
            publish(state);
            set_busy(Busy::No);
        }
        // Without a second state a thread does not lose its first one.
        None if critical != 0 => {
            tls::set::<{ tls::STATE }>(critical);
            set_busy(Busy::No);
        }
        None => set_busy(Busy::NoBlock),
    }
    forget_if_renewed(renewals);
    kernel::restore_signals(mask);
    made
}

/// The thread's state, with a new block.
fn renewed(
    global: &'static Global,
    first: &'static State,
    renewals: u32,
) -> Option<&'static State> {
    note_renewal(first, renewals);
    let block = (global.hooks.thread_start)();
    if block.is_null() {
        return None;
    }
    states().for_each(|state| state.block.store(block.expose_provenance(), Ordering::Relaxed));
    first.word.store(0, Ordering::Relaxed);
    stacks::drop_pending(first);
    idle().or_else(|| another(global, first))
}

fn another(global: &'static Global, first: &'static State) -> Option<&'static State> {
    let state: &'static State = global.threads.acquire()?;
    shadow::forget(state);
    state.block.store(first.block.load(Ordering::Relaxed), Ordering::Relaxed);
    let stack =
        |s: &State| s.stack_low.load(Ordering::Relaxed)..s.stack_end.load(Ordering::Relaxed);
    activation::note_stack(state, &stack(first));
    state.next.store(first.next.load(Ordering::Relaxed), Ordering::Relaxed);
    first.next.store(address(state), Ordering::Relaxed);
    Some(state)
}

fn first(global: &'static Global, renewals: u32) -> Option<&'static State> {
    // The hit may be of a function of the C library that starts the thread.
    if !sealed::is_sealed() {
        percpu::rseq::check_thread();
        reap_exited_threads(global);
    }
    if !host::SEES && wipe_on_fork::is_copy() {
        find_fork(global);
    }
    let block = (global.hooks.thread_start)();
    if block.is_null() {
        return None;
    }
    let Some(state) = global.threads.acquire() else {
        (global.hooks.thread_exit)(block);
        return None;
    };
    // Best effort: without memory for the record, a consumer's section makes it.
    let _ = reclaim::rcu::register_thread();
    percpu::tls::arm_exit();
    state.block.store(block.expose_provenance(), Ordering::Relaxed);
    state.word.store(0, Ordering::Relaxed);
    shadow::forget(state);
    note_renewal(state, renewals);
    let is_first = !sealed::is_sealed() && kernel::thread_id() == kernel::process_id();
    activation::note_stack(state, &if is_first { activation::first_stack() } else { 0..0 });
    tls::set::<{ tls::OWN }>(address(state));
    Some(state)
}

/// Runs at thread exit; see the module.
extern "C" fn leave() {
    let Some(state) = own() else { return };
    if !host::SEES {
        // Another thread has the words already, and says so.
        leave_now(state);
        return set_busy(Busy::No);
    }
    if sealed::is_sealed() {
        return leave_now(state);
    }
    own_code(|| {
        let here = 0_u8;
        let here = (&raw const here).addr() as u64;
        // A stack of the program's own making may be anywhere.
        let end = Some(tls::control_block())
            .filter(|c| (here..here + MOST_ABOVE).contains(c))
            .unwrap_or(here);
        state.stack[0].store(here, Ordering::Relaxed);
        state.stack[1].store(end, Ordering::Relaxed);
        let departures = state.departures.load(Ordering::Relaxed).wrapping_add(1);
        state.departures.store(departures, Ordering::Relaxed);
        // Frames that the thread has left, by pthread_exit say, are seen best now, while its stack
        // is its own.
        let mut pages = Pages::of_exiting_thread();
        states()
            .filter_map(Critical::begin)
            .for_each(|critical| _ = lists::collect(critical.0, &mut pages));
        pending::abandon(state, here);
        // Release pairs with the Acquire in `reap_exited_threads`.
        state
            .leaving
            .store(u64::from(departures) << 32 | u64::from(kernel::thread_id()), Ordering::Release);
        if let Some(global) = global() {
            reap_exited_threads(global);
        }
    });
}

/// In a process without system calls nobody could tell when the thread has ended: it gives its
/// states back itself, and what it calls from here on is lost.
fn leave_now(first: &'static State) {
    let Some(global) = global() else { return };
    set_busy(Busy::NoBlock);
    tls::set::<{ tls::STATE }>(0);
    own_code(|| {
        let mut pages = Pages::of_exiting_thread();
        states()
            .filter_map(Critical::begin)
            .for_each(|critical| _ = lists::collect(critical.0, &mut pages));
        pending::bury(first);
        let block = first.block.load(Ordering::Relaxed);
        tls::set::<{ tls::OWN }>(0);
        give_back(global, first, block, &mut pages);
    });
}

/// Gives back the states of a thread, which counts no more, and its block.
fn give_back(global: &Global, first: &State, block: usize, pages: &mut Pages) {
    let mut next = Some(first);
    while let Some(state) = next {
        next = at(state.next.load(Ordering::Relaxed));
        release(global, state, pages);
    }
    (global.hooks.thread_exit)(core::ptr::with_exposed_provenance_mut(block));
}

/// Gives back the states of threads that have ended. The caller has blocked signals.
fn reap_exited_threads(global: &'static Global) {
    let own = kernel::thread_id();
    for first in global.threads.iter() {
        // Acquire pairs with the Release in `leave`.
        let leaving = first.leaving.load(Ordering::Acquire);
        let thread = leaving as u32;
        // The caller's own number on another thread's state: that one is gone, and the number was
        // given again.
        let is_callers = thread == own && core::ptr::eq::<State>(&**first, own_state());
        if leaving == 0 || is_callers || (thread != own && kernel::signal_thread(thread, 0)) {
            continue;
        }
        // Acquire: one of us has it from here on; the number of departures tells this thread's
        // state from that of a later one with its number.
        if first.leaving.compare_exchange(leaving, 0, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            continue;
        }
        let mut pages = Pages::of_exited_thread(
            first.stack[0].load(Ordering::Relaxed)..first.stack[1].load(Ordering::Relaxed),
        );
        let block = first.block.load(Ordering::Relaxed);
        let mut next: Option<&State> = Some(first);
        while let Some(state) = next {
            next = at(state.next.load(Ordering::Relaxed));
            // One that stayed critical was left in the middle of a change: its lists are not to be
            // trusted.
            if state.critical.load(Ordering::Relaxed) == 0 {
                lists::collect(state, &mut pages);
            }
        }
        pending::bury(first);
        give_back(global, first, block, &mut pages);
    }
}

/// In a fork child, whose threads may come here at once: the first of them settles what the child
/// has of its parent, and the others wait.
#[cold]
fn find_fork(global: &Global) {
    // Beside those of signals, by their numbers.
    const FORK: wipe_on_fork::Lock = wipe_on_fork::Lock::new(0);
    FORK.with(|| {
        if wipe_on_fork::is_copy() {
            forget_parents(global);
            host::forked();
            wipe_on_fork::own_memory();
        }
    });
}

/// In a fork child: gives back the states of threads that only the parent has. The parent goes on
/// writing to their blocks: those are not given back, only forgotten. Any number of threads may do
/// so at once.
pub(crate) fn forget_parents(global: &Global) {
    for record in global.threads.iter() {
        if record.try_adopt() {
            release(global, record, &mut Pages::none());
        }
    }
}

/// Gives back a state whose thread is gone.
fn release(global: &Global, state: &State, pages: &mut Pages) {
    chunk::give_back(&global.pool, state, pages);
    stacks::give_back(state);
    state.block.store(0, Ordering::Relaxed);
    state.next.store(0, Ordering::Relaxed);
    state.critical.store(0, Ordering::Relaxed);
    state.consuming.store(0, Ordering::Relaxed);
    state.patience.store(0, Ordering::Relaxed);
    state.leaving.store(0, Ordering::Relaxed);
    // SAFETY: every state is the value of a record, which lives for ever, and a record begins with
    // its value.
    let record = unsafe { &*core::ptr::from_ref(state).cast::<Record<State>>() };
    record.release();
}
