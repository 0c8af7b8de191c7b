//! The slow changes to a thread's lists: who is dead, who is on another stack, who returned out of
//! order.
//!
//! All but [`look`] need the lists for themselves: the state is
//! [`Critical`](crate::thread_state::Critical), or its thread is gone.
#![allow(unsafe_code)]

use crate::arch::x86_64::area;
use crate::arch::x86_64::exit::Return;
use crate::instance::{self, DONE, LEAVING, MAX_CHAIN, OFFSET, Record};
use crate::kernel::readable;
use crate::sealed;
use crate::thread_state::{State, own};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use wire::cell;

/// Reads of stacks that may be gone: the page that was found to be readable last, and the page of
/// the present stack pointer.
#[derive(Debug)]
pub(crate) struct Pages {
    current: u64,
    last: u64,
    /// For a thread at its end or dead: the lowest page found so far that is joined to the current
    /// one by readable pages.
    left: Option<u64>,
    /// Where what has been left ends: about the caller's stack pointer, or the upper end of a dead
    /// thread's stack.
    here: u64,
}

const PAGE: u64 = !4095;

impl Pages {
    /// Knows the page that the caller's frame is in.
    pub(crate) fn none() -> Self {
        let here = 0_u8;
        let here = (&raw const here).addr() as u64;
        let current = here & PAGE;
        Self { current, last: current, left: None, here }
    }

    /// The same for a thread that is about to end: what lies below the caller's frame on the same
    /// stack has been left for good.
    pub(crate) fn of_exiting_thread() -> Self {
        let pages = Self::none();
        Self { left: Some(pages.current), ..pages }
    }

    /// For a thread that has ended, whose frames were in `stack` and below it.
    pub(crate) fn of_exited_thread(stack: Range<u64>) -> Self {
        Self { left: Some(stack.start & PAGE), here: stack.end, ..Self::none() }
    }

    /// Whether the frame at `slot` has been left because its thread is about to end, or has ended.
    /// A stack ends below at a page that cannot be read.
    fn is_left(&mut self, slot: u64) -> bool {
        let Some(lowest) = &mut self.left else { return false };
        if slot >= self.here {
            return false;
        }
        while slot < *lowest && *lowest > 4096 && readable(*lowest - 8) {
            *lowest -= 4096;
        }
        slot >= *lowest
    }

    /// The word at a stack address that was valid once.
    fn read(&mut self, address: u64) -> Word {
        let page = address & PAGE;
        if page != self.last && page != self.current {
            // What was a frame on the thread's own stack is mapped as long as the thread is there.
            if sealed::may_mask() {
                if !readable(address) {
                    return Word::Gone;
                }
            } else if !own().is_some_and(|state| state.is_on_stack(address)) {
                return Word::Unknown;
            }
            self.last = page;
        }
        let place = core::ptr::with_exposed_provenance::<AtomicU64>(address as usize);
        // SAFETY: the page is readable: it has the caller's frame, or one of its thread's, or the
        // kernel read from it just now, in this pass over the lists. Slots are aligned to 8.
        let word = unsafe { &*place };
        Word::Is(word.load(Ordering::Relaxed))
    }
}

/// What stands on a stack.
enum Word {
    Is(u64),
    /// It is not mapped any more.
    Gone,
    /// The kernel cannot be asked.
    Unknown,
}

/// What has become of an instance that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its function may still return through it, or is about to be done with it.
    Alive,
    /// Its frame was left. Whoever is told so has it: its `slot` is 0 now.
    Dead,
    /// It returned, elsewhere.
    Done,
}

/// Looks at an instance. A dead one is claimed, so that a return on another thread, which marks
/// `slot` before it restores the return address, and this cannot both have it.
pub(crate) fn look(at: u32, pages: &mut Pages) -> Life {
    let record = instance::record(at);
    // Acquire pairs with the Release of whoever made it done: it uses the record no more.
    let slot = record.slot.load(Ordering::Acquire);
    if slot & LEAVING != 0 {
        return Life::Alive;
    }
    if slot == DONE {
        return Life::Done;
    }
    let is_there = |word| match word {
        Word::Is(content) => leads_to(content, at),
        Word::Gone => false,
        Word::Unknown => true,
    };
    if slot > DONE && !pages.is_left(slot) && is_there(pages.read(slot)) {
        return Life::Alive;
    }
    match record.slot.compare_exchange(slot, 0, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) => Life::Dead,
        Err(_) => Life::Alive,
    }
}

/// Whether a return address is the stub of `at`, or of an instance whose chain has `at` in it.
pub(crate) fn leads_to(mut address: u64, at: u32) -> bool {
    for _ in 0..=MAX_CHAIN {
        let Some(next) = area::offset_of(address) else { return false };
        if next == at {
            return true;
        }
        address = instance::record(next).orig_ra.load(Ordering::Relaxed);
    }
    false
}

/// The parts of a state while its lists are being changed; written back by [`Lists::store`].
struct Lists<'a> {
    state: &'a State,
    top: u32,
    free: u32,
    side: u32,
}

impl<'a> Lists<'a> {
    fn load(state: &'a State) -> Self {
        Self {
            state,
            top: state.top.load(Ordering::Relaxed),
            free: state.free.load(Ordering::Relaxed),
            side: state.side.load(Ordering::Relaxed),
        }
    }

    fn store(self) {
        self.state.top.store(self.top, Ordering::Relaxed);
        self.state.free.store(self.free, Ordering::Relaxed);
        self.state.side.store(self.side, Ordering::Relaxed);
    }

    fn free(&mut self, at: u32) {
        instance::record(at).next_free.store(self.free, Ordering::Relaxed);
        self.free = at;
    }

    /// Frees one that will not return, and counts that its frame was left; whoever returned
    /// elsewhere was counted there.
    fn reap(&mut self, at: u32, life: Life, parent: u32) {
        let dead = instance::record(at);
        if life == Life::Dead {
            let child = dead.child.load(Ordering::Relaxed);
            if parent != 0 {
                instance::record(parent).child.fetch_add(child, Ordering::Relaxed);
            }
            if dead.on_return.load(Ordering::Relaxed) != Return::Call.routine() {
                add(self.state, dead, cell::UNWOUND, 1);
            }
        }
        self.free(at);
    }

    fn put_aside(&mut self, at: u32) {
        let record = instance::record(at);
        let chain = record.parent.load(Ordering::Relaxed) & !OFFSET;
        record.parent.store(chain | self.side, Ordering::Relaxed);
        self.side = at;
    }
}

/// Adds to a field of an instance's cell in the block of `state`.
pub(crate) fn add(state: &State, record: &Record, field: usize, n: u64) {
    let block = state.block.load(Ordering::Relaxed);
    if block != 0 {
        let at = block + record.cell.load(Ordering::Relaxed) as usize + field;
        let place = core::ptr::with_exposed_provenance::<AtomicU64>(at);
        // SAFETY: the cell lies in the block, as whoever armed the site has promised; its fields
        // are aligned words.
        let word = unsafe { &*place };
        word.fetch_add(n, Ordering::Relaxed);
    }
}

fn parent_of(at: u32) -> u32 {
    instance::record(at).parent.load(Ordering::Relaxed) & OFFSET
}

pub(crate) fn is_header(at: u32) -> bool {
    (at as usize).is_multiple_of(instance::CHUNK)
}

/// Before a new instance at `slot`: takes off the active list what is not above it. The dead are
/// freed, the living are put on the side list, for they are on another stack (or left over on this
/// one, at an address that nobody has written since). A living one at `slot` itself stays: a tail
/// call.
pub(crate) fn settle(state: &State, slot: u64) {
    let mut lists = Lists::load(state);
    let mut pages = Pages::none();
    while !is_header(lists.top) {
        let at = lists.top;
        let its = instance::record(at).slot.load(Ordering::Acquire) & !LEAVING;
        if its > slot {
            break;
        }
        let life = look(at, &mut pages);
        if life == Life::Alive && its == slot {
            break;
        }
        lists.top = parent_of(at);
        if life == Life::Alive { lists.put_aside(at) } else { lists.reap(at, life, lists.top) }
    }
    lists.store();
}

/// Frees the dead of both lists. How many are alive.
pub(crate) fn collect(state: &State, pages: &mut Pages) -> u32 {
    if !area::EXIST {
        return 0;
    }
    let mut lists = Lists::load(state);
    let mut alive = 0;
    // The last one that stays, whose parent is to be the next that stays.
    let mut kept = None;
    let mut at = lists.top;
    while !is_header(at) {
        let parent = parent_of(at);
        let life = look(at, pages);
        if life == Life::Alive {
            alive += 1;
            kept = Some(at);
        } else {
            match kept {
                None => lists.top = parent,
                Some(kept) => relink(kept, parent),
            }
            lists.reap(at, life, parent);
        }
        at = parent;
    }
    kept = None;
    at = lists.side;
    while at != 0 {
        let parent = parent_of(at);
        let life = look(at, pages);
        if life == Life::Alive {
            alive += 1;
            kept = Some(at);
        } else {
            match kept {
                None => lists.side = parent,
                Some(kept) => relink(kept, parent),
            }
            lists.reap(at, life, 0);
        }
        at = parent;
    }
    lists.store();
    state.survivors.store(alive, Ordering::Relaxed);
    alive
}

fn relink(at: u32, parent: u32) {
    let record = instance::record(at);
    let chain = record.parent.load(Ordering::Relaxed) & !OFFSET;
    record.parent.store(chain | parent, Ordering::Relaxed);
}

/// Takes an instance that has returned off the lists and frees it. Those above it on the active
/// list are on other stacks, or were left: to the side list. Returns its parent (0 if it was on the
/// side list), or `None` if it is on neither.
pub(crate) fn remove(state: &State, gone: u32) -> Option<u32> {
    let mut lists = Lists::load(state);
    let mut at = lists.top;
    while !is_header(at) && at != gone {
        at = parent_of(at);
    }
    if at == gone {
        while lists.top != gone {
            let above = lists.top;
            lists.top = parent_of(above);
            if instance::record(above).slot.load(Ordering::Acquire) == DONE {
                lists.free(above)
            } else {
                lists.put_aside(above)
            }
        }
        let parent = parent_of(gone);
        lists.top = parent;
        lists.free(gone);
        lists.store();
        return Some(parent);
    }
    let mut before = None;
    at = lists.side;
    while at != 0 && at != gone {
        before = Some(at);
        at = parent_of(at);
    }
    if at == 0 {
        return None;
    }
    match before {
        None => lists.side = parent_of(gone),
        Some(before) => relink(before, parent_of(gone)),
    }
    lists.free(gone);
    lists.store();
    Some(0)
}

/// Takes the whole chain of instances at `slot` off the top of the active list: their functions
/// have all called their successors last and will not run again. Calls `finished` for each; returns
/// the oldest one's return address, which belongs into the slot now. `None`: there is no chain.
pub(crate) fn collapse(
    state: &State,
    slot: u64,
    mut finished: impl FnMut(&Record, u32),
) -> Option<u64> {
    let mut lists = Lists::load(state);
    let mut original = None;
    while !is_header(lists.top) {
        let at = lists.top;
        let record = instance::record(at);
        if record.slot.load(Ordering::Relaxed) != slot {
            break;
        }
        original = Some(record.orig_ra.load(Ordering::Relaxed));
        lists.top = parent_of(at);
        finished(record, lists.top);
        lists.free(at);
    }
    lists.store();
    original
}
