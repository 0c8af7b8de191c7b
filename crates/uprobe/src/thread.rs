//! A thread's states: its block of cells and its return instances; how they come and go.
//!
//! # Lifetime
//! A thread gets its first state at its first hit, with all signals blocked, from a registry (so nothing is allocated), together with a block of cells from the [`Hooks`]. It keeps both to its
//! last instruction, for the C library's own functions run after everything that a thread can be told at its end: a pthread destructor writes down that it is leaving, and whoever
//! comes next (a thread that starts or leaves) and finds that the kernel knows the thread no more gives its states back.
//! In a fork child the surviving thread keeps its states and pending instances and gets a new block, and the states of the others are given back.
//!
//! # Critical sections
//! Whoever changes a state's lists sets its `critical` before and clears it afterwards, with plain stores: only the thread and its signal handlers are concerned. A handler that hits a probe while
//! the state is critical goes on with another state of the same thread, made at the first such hit, whose address it puts into the thread-local word; the end of the interrupted section puts the
//! first state's back. No order of nesting is assumed: if the handler never returns (`siglongjmp`) or switches to another stack for good, the thread stays with the other state, and what was
//! made in the first returns by the cold path.
#![allow(unsafe_code)]

use crate::arch::x86_64::consumer::{with_all_vectors_and_stack_elsewhere, with_all_vectors_elsewhere};
use crate::arch::x86_64::{area, tls, vector};
use crate::instance::CHUNKS;
use crate::lists::Pages;
use crate::recorder::{self, Hooks};
use crate::{chunk, kernel, lists, signals, site_table};
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence};
use objpool::DefaultPool;
use percpu::{Record, Registry};
use std::sync::OnceLock;

/// What the hit path needs of a thread. Written by the thread and its signal handlers only; read by whoever takes it over when the thread is gone.
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
    /// The first instance of the side list: active ones that are not on the stack that the thread runs on, as far as is known. 0: none.
    pub(crate) side: AtomicU32,
    /// Offset of the newest of the state's chunks, plus 1.
    pub(crate) chunks: AtomicU32,
    /// How many chunks the state has.
    pub(crate) chunk_count: AtomicU32,
    /// Instances that were alive at the last scan.
    pub(crate) survivors: AtomicU32,
    /// Calls to let pass before a free instance is looked for again.
    pub(crate) patience: AtomicU32,
    /// While a consumer runs: the program's stack pointer at the hit.
    consuming: AtomicUsize,
    /// The thread's word; see [`thread_word`]. In the first state only.
    word: AtomicUsize,
    /// Address of the thread's next state; 0: none.
    next: AtomicUsize,
    /// Of a thread that is at its end: its number, and in the upper half how many times the state has been at this point. 0: it is not. Set by the thread, in its first state; cleared by
    /// compare-and-swap by the one who gives the thread's states back.
    leaving: AtomicU64,
    /// How many times that was.
    departures: AtomicU32,
    /// The stack when it began to leave: from the stack pointer to the thread's control block, which glibc puts above.
    stack: [AtomicU64; 2],
}

/// Why a thread has no state for hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Busy {
    /// It has one, or has had no hit yet.
    No = 0,
    /// A consumer runs. What is hit is its doing, or a signal handler's.
    Agent = 2,
    /// Code of the engine or its user runs, with signals blocked: what is hit is no business of the program.
    Own = 3,
    /// There was no block for it.
    NoBlock = 4,
}

/// What the process has one of.
pub(crate) struct Global {
    hooks: Hooks,
    threads: Registry<State>,
    pub(crate) pool: DefaultPool,
    /// Whether the code half is mapped.
    returns: bool,
}

/// How much of a thread's stack may be in use above its destructors.
const MOST_ABOVE: u64 = 1 << 20;

static GLOBAL: OnceLock<Global> = OnceLock::new();

pub(crate) fn global() -> Option<&'static Global> {
    GLOBAL.get()
}

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

/// Sets up everything that hits need. A second call changes nothing. Whether return probes can be made is [`has_returns`]'s to say.
pub(crate) fn start(hooks: Hooks) -> Result<(), SetupError> {
    if GLOBAL.get().is_some() {
        return Ok(());
    }
    percpu::init();
    vector::init();
    if !site_table::reserve() {
        return Err(SetupError::OutOfMemory);
    }
    recorder::set_lost_hook(hooks.lost);
    let pool = chunk::pool(CHUNKS).ok_or(SetupError::OutOfMemory)?;
    if !percpu::tls::on_thread_exit(leave) {
        return Err(SetupError::ThreadExit);
    }
    let first = GLOBAL.get().is_none();
    let global = GLOBAL.get_or_init(|| Global { hooks, threads: Registry::new(), pool, returns: area::map() });
    if first && global.returns {
        // After percpu's own handler, which `init` has installed: that one says who has survived.
        // SAFETY: `child` is a function for the life of the process. If there is no memory for it, children count into their parent's blocks.
        unsafe { libc::pthread_atfork(None, None, Some(child)) };
    }
    Ok(())
}

/// Whether return probes can be made here.
pub(crate) fn has_returns() -> bool {
    global().is_some_and(|g| g.returns)
}

/// Why this thread has no state for hits, if it has none.
#[inline]
pub(crate) fn busy() -> Busy {
    match tls::get::<{ tls::BUSY }>() {
        0 if tls::get::<{ tls::STATE }>() == 0 && tls::get::<{ tls::OWN }>() != 0 => Busy::Agent,
        0 => Busy::No,
        2 => Busy::Agent,
        3 => Busy::Own,
        _ => Busy::NoBlock,
    }
}

fn set_busy(busy: Busy) {
    tls::set::<{ tls::BUSY }>(busy as usize);
}

/// This thread's state, if it has one.
#[inline]
pub(crate) fn own() -> Option<&'static State> {
    at(tls::get::<{ tls::OWN }>())
}

/// This thread's states.
fn states() -> impl Iterator<Item = &'static State> {
    core::iter::successors(own(), |state| at(state.next.load(Ordering::Relaxed)))
}

/// This thread's state with that address.
pub(crate) fn state_at(address: usize) -> Option<&'static State> {
    states().find(|state| core::ptr::from_ref(*state).addr() == address)
}

fn at(address: usize) -> Option<&'static State> {
    // SAFETY: 0 or the address of a record of the registry, which lives for ever.
    unsafe { core::ptr::with_exposed_provenance::<State>(address).as_ref() }
}

fn address(state: &State) -> usize {
    core::ptr::from_ref(state).expose_provenance()
}

/// While it lives, the lists of the state belong to whoever holds it.
#[derive(Debug)]
pub(crate) struct Critical(&'static State);

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
        // In this order: a handler in between may use either state, and leaves the word as it likes. 0 stays: a consumer runs.
        let current = tls::get::<{ tls::STATE }>();
        if current != 0 && current != address(self.0) {
            publish(self.0);
        }
    }
}

/// While it lives, hits of this thread find no state, because a consumer runs: [`Busy::Agent`].
#[derive(Debug)]
pub(crate) struct Consuming(&'static State);

impl Consuming {
    /// For a thread that is not busy; `slot` is the stack pointer of the hit.
    #[inline]
    pub(crate) fn begin(state: &'static State, slot: u64) -> Self {
        state.consuming.store(slot as usize, Ordering::Relaxed);
        tls::set::<{ tls::STATE }>(0);
        compiler_fence(Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Consuming {
    #[inline]
    fn drop(&mut self) {
        self.0.consuming.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        publish(self.0);
    }
}

/// For a hit at `slot` of a thread in which a consumer seems to run: a state, if that consumer was left for good, by a signal handler that ended in `siglongjmp`. Its frames would lie below the hit that it was
/// called for; a handler that interrupts it is below them, or on the signal stack.
#[cold]
pub(crate) fn escaped(slot: u64) -> Option<&'static State> {
    let slot = slot as usize;
    if busy() != Busy::Agent || signals::stack::contains(slot) {
        return None;
    }
    let left = states().find(|state| (1..=slot).contains(&state.consuming.load(Ordering::Relaxed)))?;
    left.consuming.store(0, Ordering::Relaxed);
    publish(left);
    enter()
}

#[inline]
fn publish(state: &'static State) {
    tls::set::<{ tls::STATE }>(address(state));
}

/// Gives the calling thread its block and state now, so that its first hit makes no system call. Without this, or before [`Engine::start`](crate::Engine::start), that hit does it; at a
/// breakpoint it does so on the thread's alternative signal stack, if there is one, which has to have some KiB then.
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

/// A word that the engine's user may use for the calling thread, and the thread's block of cells. The word is 0 at the thread's first hit and in a fork child. `None`: the thread has had no hit.
///
/// # Context
/// Signal-safe; no system call. In a consumer there always is one.
#[inline]
pub fn thread_word() -> Option<(&'static AtomicUsize, usize)> {
    own().map(|state| (&state.word, state.block.load(Ordering::Relaxed)))
}

/// [`own_code`] with all vector registers saved around it: for code of any kind in the middle of a consumer that promised [`Vectors::Sse`](crate::Vectors::Sse).
///
/// # Context
/// As [`own_code`]. On another stack where a place is free: the thread may be on one that is small. Otherwise 2 KiB, and what `f` needs.
#[cold]
#[inline(never)]
pub fn slowly(f: &mut dyn FnMut()) {
    let mut f = f;
    own_code_in_place(&mut || with_all_vectors_and_stack_elsewhere(&mut f));
}

/// Runs `f` with all signals blocked; hits meanwhile are its own doing, not the program's, and are passed over in silence. For the engine's user, when it runs in the middle of the program.
///
/// # Context
/// Two system calls. Not to be left by unwinding or `longjmp`.
pub fn own_code<R>(f: impl FnOnce() -> R) -> R {
    let mut f = Some(f);
    let mut result = None;
    own_code_in_place(&mut || result = f.take().map(|f| f()));
    result.expect("it was called")
}

fn own_code_in_place(f: &mut dyn FnMut()) {
    let mask = kernel::block_signals();
    let (state, busy) = (tls::get::<{ tls::STATE }>(), tls::get::<{ tls::BUSY }>());
    set_busy(Busy::Own);
    tls::set::<{ tls::STATE }>(0);
    // The program may be between a call and its look at `errno`.
    // SAFETY: every thread has one.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the thread's own.
    let errno = unsafe { place.read() };
    f();
    // SAFETY: as above.
    unsafe { place.write(errno) };
    tls::set::<{ tls::STATE }>(state);
    tls::set::<{ tls::BUSY }>(busy);
    kernel::restore_signals(mask);
}

/// A state of this thread that is not critical, made if need be; hits use it from now on. `None`: there is no block for the thread, or it has ended, or it is busy.
#[inline]
pub(crate) fn enter() -> Option<&'static State> {
    match at(tls::get::<{ tls::STATE }>()) {
        Some(state) if state.critical.load(Ordering::Relaxed) == 0 => Some(state),
        _ => enter_slowly(),
    }
}

#[cold]
#[inline(never)]
fn enter_slowly() -> Option<&'static State> {
    if busy() != Busy::No {
        return None;
    }
    if let Some(state) = states().find(|s| s.critical.load(Ordering::Relaxed) == 0) {
        publish(state);
        return Some(state);
    }
    let global = global()?;
    let mask = kernel::block_signals();
    set_busy(Busy::Own);
    let critical = tls::get::<{ tls::STATE }>();
    tls::set::<{ tls::STATE }>(0);
    let mut made = None;
    // Code of others from here on: libc, the hooks.
    with_all_vectors_elsewhere(&mut || {
        made = match own() {
            None => first(global),
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
    kernel::restore_signals(mask);
    made
}

fn another(global: &'static Global, first: &'static State) -> Option<&'static State> {
    let state: &'static State = global.threads.acquire()?;
    state.block.store(first.block.load(Ordering::Relaxed), Ordering::Relaxed);
    state.next.store(first.next.load(Ordering::Relaxed), Ordering::Relaxed);
    first.next.store(address(state), Ordering::Relaxed);
    Some(state)
}

fn first(global: &'static Global) -> Option<&'static State> {
    // The hit may be of a function of the C library that starts the thread.
    percpu::rseq::check_thread();
    bury_the_dead(global);
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
    tls::set::<{ tls::OWN }>(address(state));
    Some(state)
}

/// Runs at thread exit; see the module.
extern "C" fn leave() {
    let Some(state) = own() else { return };
    own_code(|| {
        let here = 0_u8;
        let here = (&raw const here).addr() as u64;
        // A stack of the program's own making may be anywhere.
        let end = Some(tls::control_block()).filter(|c| (here..here + MOST_ABOVE).contains(c)).unwrap_or(here);
        state.stack[0].store(here, Ordering::Relaxed);
        state.stack[1].store(end, Ordering::Relaxed);
        let departures = state.departures.load(Ordering::Relaxed).wrapping_add(1);
        state.departures.store(departures, Ordering::Relaxed);
        // Frames that the thread has left, by pthread_exit say, are seen best now, while its stack is its own.
        let mut pages = Pages::at_the_end();
        states().filter_map(Critical::begin).for_each(|critical| _ = lists::collect(critical.0, &mut pages));
        // Release pairs with the Acquire in `bury_the_dead`.
        state.leaving.store(u64::from(departures) << 32 | u64::from(kernel::thread_id()), Ordering::Release);
        if let Some(global) = global() {
            bury_the_dead(global);
        }
    });
}

/// Gives back the states of threads that have ended. The caller has blocked signals.
fn bury_the_dead(global: &'static Global) {
    let own = kernel::thread_id();
    for first in global.threads.iter() {
        // Acquire pairs with the Release in `leave`.
        let leaving = first.leaving.load(Ordering::Acquire);
        let thread = leaving as u32;
        // The caller's own number on another thread's state: that one is gone, and the number was given again.
        let is_callers = thread == own && core::ptr::eq::<State>(&**first, own_state());
        if leaving == 0 || is_callers || (thread != own && kernel::signal_thread(thread, 0)) {
            continue;
        }
        // Acquire: one of us has it from here on; the number of departures tells this thread's state from that of a later one with its number.
        if first.leaving.compare_exchange(leaving, 0, Ordering::Acquire, Ordering::Relaxed).is_err() {
            continue;
        }
        let mut pages = Pages::of_the_dead(first.stack[0].load(Ordering::Relaxed)..first.stack[1].load(Ordering::Relaxed));
        let block = first.block.load(Ordering::Relaxed);
        let mut next: Option<&State> = Some(first);
        while let Some(state) = next {
            next = at(state.next.load(Ordering::Relaxed));
            // One that stayed critical was left in the middle of a change: its lists are not to be trusted.
            if state.critical.load(Ordering::Relaxed) == 0 {
                lists::collect(state, &mut pages);
            }
            release(global, state, &mut pages);
        }
        (global.hooks.thread_exit)(core::ptr::with_exposed_provenance_mut(block));
    }
}

fn own_state() -> *const State {
    core::ptr::with_exposed_provenance(tls::get::<{ tls::OWN }>())
}

/// Gives back a state whose thread is gone.
fn release(global: &Global, state: &State, pages: &mut Pages) {
    chunk::give_back(&global.pool, state, pages);
    state.block.store(0, Ordering::Relaxed);
    state.next.store(0, Ordering::Relaxed);
    state.critical.store(0, Ordering::Relaxed);
    state.patience.store(0, Ordering::Relaxed);
    state.leaving.store(0, Ordering::Relaxed);
    // SAFETY: every state is the value of a record, which lives for ever, and a record begins with its value.
    let record = unsafe { &*core::ptr::from_ref(state).cast::<Record<State>>() };
    record.release();
}

/// In a fork child, whose only thread this is.
unsafe extern "C" fn child() {
    let Some(global) = global() else { return };
    let mask = kernel::block_signals();
    // The parent goes on writing to its blocks: they are not given back, only forgotten.
    for record in global.threads.iter() {
        if record.try_adopt() {
            release(global, record, &mut Pages::none());
        }
    }
    if let Some(first) = own() {
        first.word.store(0, Ordering::Relaxed);
        let block = (global.hooks.thread_start)();
        states().for_each(|state| state.block.store(block.expose_provenance(), Ordering::Relaxed));
        if block.is_null() {
            tls::set::<{ tls::OWN }>(0);
            tls::set::<{ tls::STATE }>(0);
            set_busy(Busy::NoBlock);
        }
    }
    kernel::restore_signals(mask);
}
