//! Which shadow stack is beside an address of a program's stack.
//!
//! A thread's own stack has one, as far as its bounds are known: it was said where it is, or its
//! pages join the thread's control block, which C libraries put at its upper end. Of any other
//! stack (a coroutine's, a signal stack) nobody knows where it begins and ends: there each page has
//! a shadow stack of its own, found in a table of the process by the page's number. Pages are never
//! taken out of it.
#![allow(unsafe_code)]

use crate::arch::x86_64::tls;
use crate::kernel::readable;
use crate::shadow::{ENTRY, Stack};
use crate::thread_state::{self, State};
use crate::{mapping, sealed, site_table};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use sys::memory;

const PAGE: u64 = 4096;

/// The shadow stack beside `slot` of the calling thread, whose hits use `state`; it is the one that
/// the hit path looks at from now on. None: there is no memory for it.
///
/// # Context
/// Signal-safe. A system call for memory at a stack's first hit, and one for each page by which a
/// stack is seen to be larger.
pub(crate) fn of(state: &State, slot: u64) -> Option<&'static Stack> {
    let current = Stack::at(state.shadow.load(Ordering::Relaxed));
    if let Some(current) = current.filter(|stack| stack.has(slot)) {
        return Some(current);
    }
    let first = thread_state::own().unwrap_or(state);
    let stack = own(first, slot).or_else(|| page(slot, current))?;
    if let Some(left) = current {
        hand_up(left);
    }
    state.shadow.store(stack.address(), Ordering::Relaxed);
    Some(stack)
}

/// What was called on a page that is left empty is part of what called it, on a page above.
fn hand_up(left: &Stack) {
    if !left.is_empty() {
        return;
    }
    if let Some(above) = Stack::at(left.above.load(Ordering::Relaxed)) {
        let child = left.entry(left.bottom()).child.swap(0, Ordering::Relaxed);
        above.entry(above.top()).child.fetch_add(child, Ordering::Relaxed);
    }
}

/// How far from a thread's control block its first hit is looked for, and how far at a time its
/// stack is seen to be larger.
const NEAR: u64 = 1 << 20;

/// The shadow stack beside the thread's own stack, if the slot is on it.
fn own(first: &State, slot: u64) -> Option<&'static Stack> {
    let stack = Stack::at(first.own_shadow.load(Ordering::Relaxed));
    if let Some(stack) = stack.filter(|stack| stack.size.load(Ordering::Relaxed) != 0) {
        return (stack.has(slot) || extend(stack, slot)).then_some(stack);
    }
    let (low, end) = bounds(first, slot)?;
    let stack = stack.or_else(|| {
        let new = reserve()?;
        first.own_shadow.store(new.address(), Ordering::Relaxed);
        Some(new)
    })?;
    stack.cover(low, end);
    Some(stack)
}

/// The state's thread is gone: what is on its own stack's is gone with it, and the memory is the
/// next thread's of this state.
pub(crate) fn give_back(state: &State) {
    drop_pending(state);
    if let Some(stack) = Stack::at(state.own_shadow.load(Ordering::Relaxed)) {
        stack.cover(0, 0);
    }
}

/// Nobody wants to know any more what is pending on the thread's own stack.
pub(crate) fn drop_pending(first: &State) {
    if let Some(stack) = Stack::at(first.own_shadow.load(Ordering::Relaxed)) {
        while !stack.is_empty() {
            stack.pop();
        }
    }
}

/// Where the thread's own stack begins and ends, as far as it is known, if the slot is on it.
fn bounds(first: &State, slot: u64) -> Option<(u64, u64)> {
    if first.is_on_stack(slot) {
        let bound = |word: &AtomicU64| word.load(Ordering::Relaxed);
        return Some((bound(&first.stack_low), bound(&first.stack_end)));
    }
    let end = tls::control_block();
    let low = slot & !(PAGE - 1);
    let known = first.stack_end.load(Ordering::Relaxed) != 0;
    (!known && slot < end && end - slot <= NEAR && joined(low, end)).then_some((low, end))
}

/// Whether the stack goes down to the slot, too.
fn extend(stack: &Stack, slot: u64) -> bool {
    let low = stack.low.load(Ordering::Relaxed);
    let (new, bytes) = (slot & !(PAGE - 1), stack.size.load(Ordering::Relaxed));
    let larger = slot < low && low - slot <= NEAR && joined(new, low);
    if larger {
        stack.cover(new, low + bytes + 7);
    }
    larger
}

/// Whether all pages from `low` to `end` can be read. False where the kernel cannot be asked.
fn joined(low: u64, end: u64) -> bool {
    (low..end).step_by(PAGE as usize).all(readable)
}

/// Addresses for the shadow stack of a thread's own stack. Only what is needed of them is mapped:
/// address space is limited, and programs lock all that is mapped into memory.
const ROOM: u64 = 256 << 20;
/// What is mapped at first.
const FIRST: u64 = 64 << 10;
/// Where no addresses are to be had, and nothing can be added: for a thousand calls and more.
const FIXED: usize = 1 << 20;

/// A shadow stack that grows where it is.
fn reserve() -> Option<&'static Stack> {
    static RESERVED: AtomicU64 = AtomicU64::new(0);
    if sealed::is_sealed() {
        return spare();
    }
    let place = site_table::behind().and_then(|behind| {
        let number = RESERVED.fetch_add(1, Ordering::Relaxed);
        let at = behind.checked_add(number.checked_mul(ROOM)?)?;
        mapping::map_at(at, FIRST).then_some(at)
    });
    let (at, bytes) = match place {
        Some(at) => (ptr::with_exposed_provenance_mut(at as usize), FIRST as usize),
        None => (mapping::zeros(FIXED)?, FIXED),
    };
    // SAFETY: a new mapping of its own, which is never unmapped.
    let stack = unsafe { Stack::new(at, bytes) };
    let mapped = if place.is_some() { FIRST as usize } else { 0 };
    stack.mapped.store(mapped, Ordering::Relaxed);
    Some(stack)
}

/// How many threads have a shadow stack for the first time when nothing can be mapped any more.
const SPARES: usize = 64;
/// What is put aside for the first of them, and for the thread that gives up system calls: for
/// 80,000 calls.
const LARGE: usize = 4 << 20;
/// And for each of the others: for 5,000.
const SMALL: usize = 256 << 10;
/// Memory for them; null: the program has not been about to give up system calls.
static SPARE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// One of those. It does not grow.
fn spare() -> Option<&'static Stack> {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let memory = SPARE.load(Ordering::Acquire);
    let free = !memory.is_null() && TAKEN.load(Ordering::Relaxed) < SPARES;
    let number = free.then(|| TAKEN.fetch_add(1, Ordering::Relaxed));
    let number = number.filter(|number| *number < SPARES)?;
    let (offset, bytes) = match number {
        0 => (0, LARGE),
        more => (LARGE + (more - 1) * SMALL, SMALL),
    };
    // SAFETY: a part of the mapping that nobody else has got; it is never unmapped.
    Some(unsafe { Stack::new(memory.wrapping_add(offset), bytes) })
}

/// The program is about to give up system calls ([`crate::seal`] comes next): memory for what is
/// pending on stacks then. 21 MiB of addresses, and nothing of memory until it is used. 64 threads
/// may be timed that have not been before; what is beyond has no time.
///
/// # Context
/// System calls. Not in a signal handler.
pub fn put_aside() {
    once(&SPARE, LARGE + (SPARES - 1) * SMALL);
    let own = thread_state::own().map(|first| first.own_shadow.load(Ordering::Relaxed));
    if let Some(own) = own.and_then(Stack::at) {
        while own.mapped.load(Ordering::Relaxed) < LARGE && grow(own) {}
    }
    table();
    let next = USED.load(Ordering::Relaxed) / AT_A_TIME;
    MEMORY.iter().skip(next).take(2).for_each(|memory| {
        once(memory, AT_A_TIME * BYTES);
    });
}

/// Makes room for more calls on a shadow stack, if it can have more. True: there is some.
pub(crate) fn grow(stack: &Stack) -> bool {
    let mapped = stack.mapped.load(Ordering::Relaxed) as u64;
    if mapped == 0 || mapped >= ROOM || sealed::is_sealed() {
        return false;
    }
    // A handler that comes in between has done the same.
    if mapping::map_at(stack.address() as u64 + mapped, mapped) {
        stack.mapped.store(2 * mapped as usize, Ordering::Relaxed);
        stack.reaches(2 * mapped as usize);
    }
    stack.has_room()
}

/// Pages in the table, and at a time in memory for their shadow stacks.
const PAGES: usize = 1 << 15;
const AT_A_TIME: usize = 16;
/// Bytes of the shadow stack of a page: for all slots that a page has.
const BYTES: usize = (PAGE as usize / 8 + 2) * ENTRY;
/// How many places of the table are looked at for a page.
const PROBES: usize = 64;

/// Addresses of shadow stacks, by the numbers of their pages: twice as many places as pages.
static TABLE: AtomicPtr<AtomicUsize> = AtomicPtr::new(ptr::null_mut());
/// Shadow stacks that were handed out.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Where they are.
static MEMORY: [AtomicPtr<u8>; PAGES / AT_A_TIME] =
    [const { AtomicPtr::new(ptr::null_mut()) }; PAGES / AT_A_TIME];

/// Where the table has a page, if it has it.
fn places(table: *const AtomicUsize, low: u64, mut f: impl FnMut(&AtomicUsize) -> bool) {
    let hash = (low / PAGE).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (63 - PAGES.trailing_zeros());
    for n in 0..PROBES {
        // SAFETY: inside the table.
        let place = unsafe { table.add((hash as usize + n) % (2 * PAGES)) };
        // SAFETY: all bytes of the table are atomics, and it is never unmapped.
        let place = unsafe { &*place };
        if f(place) {
            return;
        }
    }
}

/// The shadow stack beside the page at `low`, if there is one.
fn known(low: u64) -> Option<&'static Stack> {
    let table = TABLE.load(Ordering::Acquire);
    let mut found = None;
    if !table.is_null() {
        places(table, low, |place| {
            // Acquire pairs with the Release in `page`.
            let stack = Stack::at(place.load(Ordering::Acquire));
            found = stack.filter(|stack| stack.low.load(Ordering::Relaxed) == low);
            found.is_some() || stack.is_none()
        });
    }
    found
}

/// The shadow stack beside the slot's page. `from`: of the page, if it is one, that was used last.
fn page(slot: u64, from: Option<&'static Stack>) -> Option<&'static Stack> {
    let low = slot & !(PAGE - 1);
    let table = table()?;
    let (mut found, mut new) = (None, None);
    places(table, low, |place| {
        // Acquire pairs with the Release below: what is found is covered.
        let mut there = place.load(Ordering::Acquire);
        if there == 0 {
            new = new.or_else(|| fresh(low));
            let Some(fresh) = new else { return true };
            let order = (Ordering::Release, Ordering::Acquire);
            match place.compare_exchange(0, fresh.address(), order.0, order.1) {
                Ok(_) => there = fresh.address(),
                Err(other) => there = other,
            }
        }
        let stack = Stack::at(there);
        found = stack.filter(|stack| stack.low.load(Ordering::Relaxed) == low);
        found.is_some()
    });
    let stack = found?;
    if stack.is_empty() {
        stack.above.store(above(low, from).map_or(0, Stack::address), Ordering::Relaxed);
    }
    Some(stack)
}

/// From which page the calls on an empty one come: the next one above it with pending calls, if it
/// is so near that no other stack's end is likely to lie between them.
fn above(low: u64, from: Option<&'static Stack>) -> Option<&'static Stack> {
    const NEAR: u64 = 4;
    let next = from.filter(|from| from.has(low + PAGE) && !from.is_empty());
    next.or_else(|| {
        let pages = (1..=NEAR).filter_map(|n| known(low + n * PAGE));
        pages.into_iter().find(|stack| !stack.is_empty())
    })
}

/// A shadow stack for the page at `low`. One that is not used after all is lost.
fn fresh(low: u64) -> Option<&'static Stack> {
    let number = USED.fetch_add(1, Ordering::Relaxed);
    let Some(memory) = MEMORY.get(number / AT_A_TIME) else {
        USED.store(PAGES, Ordering::Relaxed);
        return None;
    };
    let base = once(memory, AT_A_TIME * BYTES)?;
    let at = base.wrapping_add(number % AT_A_TIME * BYTES);
    // SAFETY: a part of the mapping that nobody else has got.
    let stack = unsafe { Stack::new(at, BYTES) };
    stack.cover(low, low + PAGE);
    Some(stack)
}

fn table() -> Option<*const AtomicUsize> {
    let at = TABLE.load(Ordering::Acquire);
    if !at.is_null() {
        return Some(at);
    }
    let new = mapping::zeros(2 * PAGES * size_of::<AtomicUsize>())?.cast();
    // Acquire and Release: the memory is zeros, whoever was first.
    let order = (Ordering::AcqRel, Ordering::Acquire);
    match TABLE.compare_exchange(ptr::null_mut(), new, order.0, order.1) {
        Ok(_) => Some(new),
        // That mapping stays, unused: a race of two first hits.
        Err(other) => Some(other),
    }
}

/// The memory that a place leads to, mapped by the first who wants it.
fn once(place: &AtomicPtr<u8>, bytes: usize) -> Option<*mut u8> {
    let at = place.load(Ordering::Acquire);
    if !at.is_null() {
        return Some(at);
    }
    let new = mapping::zeros(bytes)?;
    match place.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(new),
        Err(other) => {
            // SAFETY: the mapping that was just made, of which nobody knows.
            let _ = unsafe { memory::munmap(new, bytes) };
            Some(other)
        }
    }
}
