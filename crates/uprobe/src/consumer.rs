//! Functions that are called at a hit, with the registers.
//!
//! # States
//! A consumer's number names a place in a table and the use of that place. *registered*: the place
//! holds it, and its site's list names it. *removed*: neither does; calls that found it before go
//! on until the RCU section they are in ends, after which its memory is freed. A return that is
//! still to come finds the place empty, or in another use, and is dropped.
//!
//! The list of a site is replaced as a whole by whoever holds the lock (never a hit) and freed
//! after a grace period.
#![allow(unsafe_code)]

use crate::arch::x86_64::area;
use crate::arch::x86_64::exit::Return;
use crate::arch::x86_64::vectors::with_all_vectors;
use crate::context::Context;
use crate::counting::now;
use crate::instance;
use crate::recorder::{self, Loss};
use crate::registered::{Consumer, ConsumerId, List, Registered, Span, Vectors, Verdict};
use crate::shadow::Stack;
use crate::site_table::{self, Action, Site};
use crate::thread;
use crate::thread_state::{self, Busy, Consuming, State};
use crate::unsettled;
use crate::{pending, slow_path};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use percpu::Mutex;
use reclaim::rcu;

const PLACES: usize = 1 << 16;
const PLACE_BITS: u32 = PLACES.trailing_zeros();

static TABLE: [AtomicPtr<Registered>; PLACES] = [const { AtomicPtr::new(ptr::null_mut()) }; PLACES];
/// Uses of each place so far; the lock of all changes.
static USES: Mutex<Uses> = Mutex::new(Uses { of: [0; PLACES], next: 0 });

struct Uses {
    of: [u16; PLACES],
    /// Where to look for a free place first.
    next: usize,
}

/// Why a consumer was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl core::fmt::Display for TooMany {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{PLACES} consumers are registered")
    }
}

impl core::error::Error for TooMany {}

/// Adds a consumer to a site, behind those that are there. Returns to it are told in the opposite
/// order.
///
/// # Errors
/// [`TooMany`].
pub(crate) fn add(site: &Site, consumer: Consumer) -> Result<ConsumerId, TooMany> {
    let mut uses = USES.lock();
    let free = |place: &usize| TABLE[*place].load(Ordering::Relaxed).is_null();
    let place = (0..PLACES).map(|n| (uses.next + n) % PLACES).find(free).ok_or(TooMany)?;
    uses.next = place + 1;
    uses.of[place] = uses.of[place].wrapping_add(1);
    let id = u32::from(uses.of[place]) << PLACE_BITS | place as u32;
    let registered =
        Box::into_raw(Box::new(Registered { consumer, id, waiting: AtomicU32::new(0) }));
    // Release pairs with the Acquire of hits.
    TABLE[place].store(registered, Ordering::Release);
    replace(site, |all| all.extend(ptr::NonNull::new(registered)));
    Ok(ConsumerId(id))
}

/// Takes a consumer off its site. It may still be running; [`sync`] waits for that. False: it is
/// not there.
pub(crate) fn remove(site: &Site, id: ConsumerId) -> bool {
    let _uses = USES.lock();
    let place = &TABLE[id.0 as usize % PLACES];
    let registered = place.load(Ordering::Relaxed);
    // SAFETY: freed only after it was taken off the table, by a holder of the lock.
    if unsafe { registered.as_ref() }.is_none_or(|r| r.id != id.0) {
        return false;
    }
    replace(site, |all| all.retain(|r| r.as_ptr() != registered));
    place.store(ptr::null_mut(), Ordering::Release);
    // SAFETY: made by `add` from a box, and nobody can find it any more but those whose sections
    // are open.
    let registered = unsafe { Box::from_raw(registered) };
    rcu::defer_drop(registered);
    true
}

/// Takes all of its consumers off a site.
pub(crate) fn remove_all(site: &Site) {
    let uses = USES.lock();
    // SAFETY: null, or a list that is freed only by changes, and the lock is held.
    let list = unsafe { site.consumers.load(Ordering::Relaxed).as_ref() };
    // SAFETY: they are registered, as only holders of the lock remove them.
    let ids = |list: &List| list.all.iter().map(|r| ConsumerId(unsafe { r.as_ref() }.id)).collect();
    let ids: Vec<ConsumerId> = list.map(ids).unwrap_or_default();
    drop(uses);
    for id in ids {
        remove(site, id);
    }
}

/// Waits until no consumer that was removed before is running, and frees them. Not from a consumer.
pub fn sync() {
    rcu::synchronize();
    rcu::run_callbacks();
}

/// A wait, from now on, for all consumers that run. What threads count in blocks that they had
/// before `Engine::renew_blocks` (in an image) is over, too, as far as it is
/// counted by consumers.
#[derive(Clone, Copy, Debug)]
pub struct GracePeriod(rcu::Cookie);

impl GracePeriod {
    /// Begins now.
    ///
    /// # Context
    /// Some system calls. Not from a consumer.
    pub fn begin() -> Self {
        Self(rcu::start_poll())
    }

    /// Whether those that ran at its beginning have returned. Frees what was removed before.
    ///
    /// # Context
    /// As [`GracePeriod::begin`]; waits for nobody.
    pub fn is_over(self) -> bool {
        rcu::run_callbacks();
        rcu::poll(self.0)
    }
}

fn replace(site: &Site, change: impl FnOnce(&mut Vec<ptr::NonNull<Registered>>)) {
    let old = site.consumers.load(Ordering::Relaxed);
    // SAFETY: null, or the list that the last change made; freed only by changes, and the caller
    // holds the lock.
    let mut all = unsafe { old.as_ref() }.map_or_else(Vec::new, |list| list.all.clone());
    change(&mut all);
    // SAFETY: they are registered, as only holders of the lock remove them.
    let any_all = all.iter().any(|r| unsafe { r.as_ref() }.consumer.vectors == Vectors::All);
    let vectors = if any_all { Vectors::All } else { Vectors::Sse };
    let new = if all.is_empty() {
        ptr::null_mut()
    } else {
        Box::into_raw(Box::new(List { all, vectors }))
    };
    // Release pairs with the Acquire of hits.
    site.consumers.store(new, Ordering::Release);
    if !old.is_null() {
        // SAFETY: made by an earlier change from a box, and off the site now.
        rcu::defer_drop(unsafe { Box::from_raw(old) });
    }
}

/// Where the assembly goes on; two registers.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Jump {
    target: u64,
    /// Whether that is the stub of an instance, which comes in without the return address.
    instance: bool,
}

/// Called by the assembly at a site with consumers.
pub(crate) extern "C" fn entered(context: &mut Context, index: u32) -> Jump {
    let site = site_table::site(index);
    let address = site.address.load(Ordering::Relaxed);
    context.site = index;
    context.registers.rip = address;
    if site.action() == Some(Action::LeaveCall) {
        left(context, site);
        return Jump { target: site.resume.load(Ordering::Relaxed), instance: false };
    }
    match call(context, site, index) {
        Some(at) => Jump { target: instance::stub(at), instance: true },
        None if context.registers.rip != address => {
            Jump { target: context.registers.rip, instance: false }
        }
        None => Jump { target: site.resume.load(Ordering::Relaxed), instance: false },
    }
}

/// Calls the consumers of a site. The newest instance, if some want to see the return.
#[inline]
pub(crate) fn call(context: &mut Context, site: &Site, index: u32) -> Option<u32> {
    let slot = context.registers.rsp;
    if slow_path::is_same_call(site, index, slot) {
        return None;
    }
    let (consuming, section) = begin(slot, || begin_slowly(site, slot))?;
    let state = consuming.state();
    // Acquire pairs with the Release in `replace`.
    let list = site.consumers.load(Ordering::Acquire);
    // SAFETY: freed a grace period after it was replaced, and the section is open.
    let Some(list) = (unsafe { list.as_ref() }) else {
        recorder::lost(Loss::Disabled);
        return None;
    };
    let mut newest = None;
    match list.vectors {
        Vectors::Sse => enter_all(list, context, state, site, &mut newest),
        Vectors::All => {
            with_all_vectors(&mut || enter_all(list, context, state, site, &mut newest))
        }
    }
    drop(section);
    drop(consuming);
    newest
}

/// The thread calls consumers at a hit with this stack pointer. `slowly`: for one without a state
/// for hits.
#[inline]
fn begin(
    slot: u64,
    slowly: impl Fn() -> Option<Consuming>,
) -> Option<(Consuming, rcu::Guard<'static>)> {
    let mut consuming = match thread::current() {
        Some(state) => Consuming::begin(state, slot),
        None => slowly()?,
    };
    let mut section = rcu::read_lock();
    // Until the section began nobody waited for this thread, and what its state leads to may be
    // gone.
    while thread_state::is_own_stale() {
        drop(section);
        drop(consuming);
        consuming = slowly()?;
        section = rcu::read_lock();
    }
    Some((consuming, section))
}

/// For a thread without a state for hits.
#[cold]
#[inline(never)]
fn begin_slowly(site: &Site, slot: u64) -> Option<Consuming> {
    if unsettled::is_child() {
        // What they write to is the parent's.
        meanwhile(site);
        return None;
    }
    let state = thread::enter().or_else(|| thread::escaped(slot));
    if state.is_none() {
        match thread_state::busy() {
            Busy::Own => {}
            Busy::Agent => meanwhile(site),
            Busy::No | Busy::NoBlock | Busy::Forking => recorder::lost(Loss::Capacity),
        }
    }
    state.map(|state| Consuming::begin_slowly(state, slot))
}

/// A hit while this thread runs a consumer, or in a fork child that has nothing of its own yet.
#[cold]
#[inline(never)]
fn meanwhile(site: &Site) {
    let _section = rcu::read_lock();
    // Acquire pairs with the Release in `replace`.
    let list = site.consumers.load(Ordering::Acquire);
    // SAFETY: freed a grace period after it was replaced, and the section is open.
    let Some(list) = (unsafe { list.as_ref() }) else { return recorder::lost(Loss::Disabled) };
    for registered in &list.all {
        // SAFETY: freed a grace period after it left the list.
        let consumer = &unsafe { registered.as_ref() }.consumer;
        match consumer.busy {
            Some(busy) => with_vectors(consumer.vectors, &mut || busy(consumer.data)),
            None => recorder::lost(Loss::Recursion),
        }
    }
}

/// Calls the consumers in turn, and makes an instance for each that wants to see the return.
#[inline]
fn enter_all(
    list: &List,
    context: &mut Context,
    state: &'static State,
    site: &Site,
    newest: &mut Option<u32>,
) {
    let (slot, index) = (context.registers.rsp, context.site);
    let mut shadow = None;
    for registered in &list.all {
        // SAFETY: freed a grace period after it left the list, and the caller's section is open.
        let registered = unsafe { registered.as_ref() };
        let consumer = &registered.consumer;
        let mut cookie = 0;
        let verdict = match consumer.entry {
            Some(entry) => entry(context, consumer.data, &mut cookie),
            None => Verdict::Return,
        };
        let wanted =
            (consumer.ret.is_some() || consumer.span.is_some()) && verdict == Verdict::Return;
        if wanted {
            let call = Call { site, index, slot, cookie };
            if site.has_exits() {
                shadow = shadow.or_else(|| pending::settle(state, slot));
                wait_for_exit(registered, shadow, &call);
            } else if area::EXIST {
                *newest = wait_for_return(registered, state, &call).or(*newest);
            }
        }
    }
}

/// A call whose return somebody wants to see.
struct Call<'s> {
    site: &'s Site,
    index: u32,
    slot: u64,
    cookie: u64,
}

/// One more waits for a return. False: there are enough of them.
fn may_wait(registered: &Registered) -> bool {
    let limit = registered.consumer.limit;
    if limit != 0 && registered.waiting.fetch_add(1, Ordering::Relaxed) >= limit {
        registered.waiting.fetch_sub(1, Ordering::Relaxed);
        recorder::lost(Loss::Depth);
        return false;
    }
    true
}

fn wait_no_more(registered: &Registered) {
    if registered.consumer.limit != 0 {
        registered.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// By an entry of a shadow stack, until an exit is hit.
#[inline]
fn wait_for_exit(registered: &Registered, stack: Option<&'static Stack>, call: &Call<'_>) {
    if !may_wait(registered) {
        return;
    }
    let made =
        stack.and_then(|stack| pending::begin_call(stack, call.index, registered.id, call.slot));
    match made {
        Some(entry) if registered.consumer.span.is_some() => {
            entry.before.store(u64::from(call.cookie as u32), Ordering::Relaxed);
            entry.start.store(now(), Ordering::Relaxed);
        }
        Some(entry) => entry.start.store(call.cookie, Ordering::Relaxed),
        None => {
            wait_no_more(registered);
            recorder::lost(Loss::Depth);
        }
    }
}

/// By a return instance.
#[inline(never)]
fn wait_for_return(registered: &Registered, state: &'static State, call: &Call<'_>) -> Option<u32> {
    let Call { site, index, slot, cookie } = *call;
    if !may_wait(registered) {
        return None;
    }
    let made = slow_path::make(state, site, index, slot, Return::Call, registered.id);
    match made {
        Some(at) if registered.consumer.span.is_some() => {
            let record = instance::record(at);
            record.next_free.store(cookie as u32, Ordering::Relaxed);
            record.start.store(now(), Ordering::Relaxed);
        }
        Some(at) => instance::record(at).start.store(cookie, Ordering::Relaxed),
        None => {
            wait_no_more(registered);
            recorder::lost(Loss::Depth);
        }
    }
    made
}

/// Called at an exit of a function with consumers: tells those that want to see this return, in the
/// opposite order of their entries. They see what the caller will see.
fn left(context: &mut Context, exit: &Site) {
    let (slot, function) = (context.registers.rsp, exit.index.load(Ordering::Relaxed));
    let Some((consuming, section)) = begin(slot, || begin_exit_slowly(function, slot)) else {
        return;
    };
    let state = consuming.state();
    let place = ptr::with_exposed_provenance::<AtomicU64>(slot as usize);
    // SAFETY: the word with the return address of the function that is about to return.
    let caller = unsafe { &*place };
    context.site = function;
    context.registers.rip = caller.load(Ordering::Relaxed);
    context.registers.rsp = slot + 8;
    let mut call = pending::Taken::none();
    while pending::take(state, function, slot, &mut call) {
        let its = Its {
            consumer: call.cell,
            start: call.start,
            child: call.child,
            cookie: call.before as u32,
        };
        call.hand_up(tell(context, &its).unwrap_or(call.child));
    }
    drop(section);
    drop(consuming);
}

/// For a thread without a state for hits.
#[cold]
#[inline(never)]
fn begin_exit_slowly(function: u32, slot: u64) -> Option<Consuming> {
    let state = thread::enter().or_else(|| thread::escaped(slot))?;
    if unsettled::is_child() {
        // The call is the parent's, and so is its return there.
        let _section = rcu::read_lock();
        let mut call = pending::Taken::none();
        while pending::take(state, function, slot, &mut call) {
            waiting(call.cell);
        }
        return None;
    }
    Some(Consuming::begin_slowly(state, slot))
}

/// Called by the assembly at the return of a call that a consumer wanted to see.
pub(crate) extern "C" fn returned(context: &mut Context, record: u64) {
    if !area::EXIST {
        return;
    }
    let slot = context.registers.rsp - 8;
    // SAFETY: the stub passes the address of its record.
    let its = unsafe { &*ptr::with_exposed_provenance::<instance::Record>(record as usize) };
    context.site = its.site.load(Ordering::Relaxed);
    context.registers.rip = its.orig_ra.load(Ordering::Relaxed);
    let mut ticks = None;
    let consuming = match thread::current() {
        Some(state) => Some(Consuming::begin(state, slot)),
        None => begin_return_slowly(its, slot),
    };
    if consuming.is_some() {
        let _section = rcu::read_lock();
        ticks = tell(context, &Its::of(its));
    }
    drop(consuming);
    slow_path::leave(record, slot, |_, its, parent| {
        if parent != 0 {
            let inside = ticks.unwrap_or_else(|| its.child.load(Ordering::Relaxed));
            instance::record(parent).child.fetch_add(inside, Ordering::Relaxed);
        }
    });
}

/// Whoever waits for the return of a call, if it is still there; it waits no more. To be called in
/// a section, which has to be open as long as that is used.
fn waiting(id: u32) -> Option<&'static Registered> {
    // Acquire pairs with the Release in `replace`.
    let registered = TABLE[id as usize % PLACES].load(Ordering::Acquire);
    // SAFETY: freed a grace period after it left the table, and the caller's section is open.
    let registered = unsafe { registered.as_ref() }.filter(|r| r.id == id)?;
    wait_no_more(registered);
    Some(registered)
}

/// For a thread without a state for hits.
#[cold]
#[inline(never)]
fn begin_return_slowly(its: &instance::Record, slot: u64) -> Option<Consuming> {
    if unsettled::is_child() {
        // The call is the parent's, and so is its return there.
        let _section = rcu::read_lock();
        waiting(its.cell.load(Ordering::Relaxed));
        return None;
    }
    let state = thread::enter().or_else(|| thread::escaped(slot));
    if state.is_none() {
        recorder::lost(Loss::Recursion);
    }
    state.map(|state| Consuming::begin_slowly(state, slot))
}

/// What was remembered of a call that a consumer wants to see the return of.
struct Its {
    consumer: u32,
    /// Its time stamp, or the cookie.
    start: u64,
    child: u64,
    /// The cookie beside a time stamp.
    cookie: u32,
}

impl Its {
    fn of(record: &instance::Record) -> Self {
        Self {
            consumer: record.cell.load(Ordering::Relaxed),
            start: record.start.load(Ordering::Relaxed),
            child: record.child.load(Ordering::Relaxed),
            cookie: record.next_free.load(Ordering::Relaxed),
        }
    }
}

/// How long the call took, if its consumer wants to know.
fn tell(context: &mut Context, its: &Its) -> Option<u64> {
    let Some(registered) = waiting(its.consumer) else {
        recorder::lost(Loss::Disabled);
        return None;
    };
    let consumer = &registered.consumer;
    if let Some(span) = consumer.span {
        let ticks = now().saturating_sub(its.start);
        let own = ticks.saturating_sub(its.child);
        let cookie = its.cookie;
        with_vectors(consumer.vectors, &mut || span(consumer.data, cookie, Span { ticks, own }));
        return Some(ticks);
    }
    if let Some(ret) = consumer.ret {
        with_vectors(consumer.vectors, &mut || ret(context, consumer.data, its.start));
    }
    None
}

#[inline]
fn with_vectors(vectors: Vectors, f: &mut impl FnMut()) {
    match vectors {
        Vectors::Sse => f(),
        Vectors::All => with_all_vectors(f),
    }
}
