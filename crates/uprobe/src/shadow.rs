//! Shadow stacks: which calls are pending on a stack of the program, kept beside it.
//!
//! An entry is made when a probed function is entered, and taken off when one of its exits is hit;
//! what names it is its *slot*, the address at which the function's return address lies. On the
//! program's own stack nothing is put or changed.
//!
//! # States
//! Entries from the bottom to `top` are in use, in the order in which they were made. An entry is
//! - *free*: above `top`; its slot is 0.
//! - *in progress*: at or below `top`, and its slot is 0: somebody is just making it or taking it
//!   off, and was interrupted, or was interrupted and never came back.
//! - *pending*: its slot is set. On one stack older calls have higher slots.
//! - *left*: pending, but its frame is gone: `longjmp`, an exception, a stack that was given up.
//!   Seen when a younger call has a slot that is not lower, or when an older one returns.
//!
//! To make one: raise `top` over it, fill it in, set its slot. To take one off: read it, clear its
//! slot, lower `top`. One thread at a time runs on a stack, so that only its signal handlers come
//! in between: they find an entry in progress, leave it alone, and make and take off their own
//! above it. So no flag says that a stack is being changed, and a handler that never returns leaves
//! nothing behind but an entry in progress, which goes with the one below it.
//!
//! Where two threads' stacks share a page, and with it a shadow stack, entries get lost, and times
//! with them; `top` stays within the stack's bounds whatever happens.
#![allow(unsafe_code)]

use crate::thread_state::State;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence};

/// A pending call. The assembly knows the offsets.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Address of the return address; 0: free, or in progress. On a goroutine's stack, how far
    /// below its end that is ([`crate::goroutines`]).
    pub(crate) slot: AtomicU64,
    /// Time stamp at entry, or a consumer's cookie.
    pub(crate) start: AtomicU64,
    /// Ticks spent in timed functions that were called meanwhile.
    pub(crate) child: AtomicU64,
    /// What was in the slot at entry.
    pub(crate) caller: AtomicU64,
    /// Offset of the function's cell, or the number of a consumer.
    pub(crate) cell: AtomicU32,
    /// Number of the site at the function's entry.
    pub(crate) site: AtomicU32,
    /// Of a measured call: the address of the entry that was the newest of its function when it was
    /// made, or 0, and [`NESTED`]; on a goroutine's stack, which functions it and those below it
    /// may be of ([`crate::goroutine_calls`]), and [`NESTED`]. Else the cookie of a consumer that
    /// wants to know how long the call takes.
    pub(crate) before: AtomicU64,
}

/// Bit of [`Entry::before`]: the call is part of another one of the same function.
pub(crate) const NESTED: u64 = 1;

/// A shadow stack: a header, and entries behind it. The assembly knows the offsets.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Stack {
    /// The lowest address of the program's stack that this is beside.
    pub(crate) low: AtomicU64,
    /// How many addresses from there on can be a slot's; 0: nobody uses it.
    pub(crate) size: AtomicU64,
    /// Address of the newest entry, or of `bottom`.
    pub(crate) top: AtomicUsize,
    /// The first address at which no entry has room.
    pub(crate) end: AtomicUsize,
    /// Of a page of a stack of unknown bounds: address of the shadow stack of the page above, from
    /// which calls came here; 0: none.
    pub(crate) above: AtomicUsize,
    /// Bytes that are mapped, of one that grows; 0: it does not.
    pub(crate) mapped: AtomicUsize,
    /// No call: its slot is above all others. Takes the time of outermost calls.
    bottom: Entry,
}

pub(crate) const ENTRY: usize = size_of::<Entry>();
const HEADER: usize = offset_of!(Stack, bottom);

const _: () = assert!(ENTRY == 48 && HEADER == 48, "the assembly counts in these");
const _: () =
    assert!(offset_of!(Entry, site) == offset_of!(Entry, cell) + 4, "one move copies both");

/// Stands where a thread has no shadow stack yet: no slot is on it, and no entry.
static NONE: Stack = Stack {
    low: AtomicU64::new(0),
    size: AtomicU64::new(0),
    top: AtomicUsize::new(0),
    end: AtomicUsize::new(0),
    above: AtomicUsize::new(0),
    mapped: AtomicUsize::new(0),
    bottom: Entry {
        slot: AtomicU64::new(u64::MAX),
        start: AtomicU64::new(0),
        child: AtomicU64::new(0),
        caller: AtomicU64::new(0),
        cell: AtomicU32::new(0),
        site: AtomicU32::new(0),
        before: AtomicU64::new(0),
    },
};

/// A new state, or one whose thread is another now, uses no shadow stack.
pub(crate) fn forget(state: &State) {
    NONE.top.store(NONE.bottom(), Ordering::Relaxed);
    state.shadow.store(NONE.address(), Ordering::Relaxed);
}

impl Stack {
    /// Makes one of zeroed memory: `bytes` from `at` on.
    ///
    /// # Safety
    /// The memory is writable for the life of the process, aligned to 8, and nobody else's.
    pub(crate) unsafe fn new(at: *mut u8, bytes: usize) -> &'static Self {
        // SAFETY: the caller's; all fields are atomic, and zeros are valid for them.
        let stack = unsafe { &*at.cast_const().cast::<Self>() };
        stack.bottom.slot.store(u64::MAX, Ordering::Relaxed);
        at.expose_provenance();
        stack.reaches(bytes);
        stack.top.store(stack.bottom(), Ordering::Relaxed);
        stack
    }

    /// So many bytes of memory are its own from now on.
    pub(crate) fn reaches(&self, bytes: usize) {
        // An entry at the end has room for itself.
        let end = self.address() + bytes / ENTRY * ENTRY - (ENTRY - 1);
        self.end.store(end, Ordering::Relaxed);
    }

    /// Whether there is room for another call.
    pub(crate) fn has_room(&self) -> bool {
        self.top() + ENTRY < self.end.load(Ordering::Relaxed)
    }

    /// The one at an address.
    pub(crate) fn at(address: usize) -> Option<&'static Self> {
        // SAFETY: 0, or that of one that was made, which live for ever.
        unsafe { ptr::with_exposed_provenance::<Self>(address).as_ref() }
    }

    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self).expose_provenance()
    }

    /// Says which addresses of the program's stack this is beside.
    pub(crate) fn cover(&self, low: u64, end: u64) {
        self.low.store(low, Ordering::Relaxed);
        // A slot has 8 bytes.
        self.size.store(end.saturating_sub(low).saturating_sub(7), Ordering::Relaxed);
    }

    /// Whether a slot is on the stack that this is beside.
    pub(crate) fn has(&self, slot: u64) -> bool {
        let above = slot.wrapping_sub(self.low.load(Ordering::Relaxed));
        above < self.size.load(Ordering::Relaxed)
    }

    pub(crate) fn bottom(&self) -> usize {
        (&raw const self.bottom).expose_provenance()
    }

    pub(crate) fn top(&self) -> usize {
        self.top.load(Ordering::Relaxed)
    }

    /// Whether no call is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.top() == self.bottom()
    }

    /// The entry at an address between `bottom` and `end`.
    pub(crate) fn entry(&self, at: usize) -> &'static Entry {
        debug_assert!((self.bottom()..self.end.load(Ordering::Relaxed).max(at)).contains(&at));
        // SAFETY: inside the stack's memory, which lives for ever; all fields are atomic.
        unsafe { &*ptr::with_exposed_provenance::<Entry>(at) }
    }

    /// The address of the youngest of the pending calls and those in progress for which `is` is
    /// true, of which the youngest `most` are looked at. (A loop, not an iterator, which would be
    /// moved: that may be a call of memcpy, which uses registers that slow paths do not save.)
    pub(crate) fn youngest(
        &self,
        most: usize,
        mut is: impl FnMut(&Entry) -> bool,
    ) -> Option<usize> {
        let mut at = self.top();
        let mut looked = 0;
        while at > self.bottom() && looked < most {
            if is(self.entry(at)) {
                return Some(at);
            }
            at -= ENTRY;
            looked += 1;
        }
        None
    }

    /// Makes an entry above all others, without its slot: [`Entry::commit`]. None: there is no
    /// room.
    pub(crate) fn begin(&self) -> Option<&'static Entry> {
        if !self.has_room() {
            return None;
        }
        let at = self.top() + ENTRY;
        self.top.store(at, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        Some(self.entry(at))
    }

    /// Takes off the entry at the top, of which all that is needed has been read.
    pub(crate) fn pop(&self) {
        let at = self.top();
        if at > self.bottom() {
            self.entry(at).slot.store(0, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            self.top.store(at - ENTRY, Ordering::Relaxed);
        }
    }

    /// Takes off what a call at `slot` proves to be left: all at the top that is not above it.
    /// `left` is told of each, before it goes.
    pub(crate) fn sweep(&self, slot: u64, mut left: impl FnMut(usize, &Entry)) {
        loop {
            let at = self.top();
            let top = self.entry(at);
            match top.slot.load(Ordering::Relaxed) {
                // In progress: it goes if the one below it does.
                0 => {
                    let mut below = u64::MAX;
                    self.youngest(usize::MAX, |entry| {
                        let its = entry.slot.load(Ordering::Relaxed);
                        below = if its == 0 { below } else { its };
                        its != 0
                    });
                    if below > slot {
                        return;
                    }
                }
                its if its > slot => return,
                _ => left(at, top),
            }
            self.pop();
        }
    }

    /// The address of the youngest entry of a call of the site with this number, whose return
    /// address is at `slot`. Looks at no more than are younger than it.
    pub(crate) fn find(&self, slot: u64, site: u32) -> Option<usize> {
        let mut found = false;
        let at = self.youngest(usize::MAX, |entry| {
            let its = entry.slot.load(Ordering::Relaxed);
            found = its == slot && entry.site.load(Ordering::Relaxed) == site;
            found || its > slot
        });
        at.filter(|_| found)
    }
}

impl Entry {
    /// The end of what [`Stack::begin`] began.
    pub(crate) fn commit(&self, slot: u64) {
        compiler_fence(Ordering::SeqCst);
        self.slot.store(slot, Ordering::Relaxed);
    }

    /// The entry below, on the same stack, or the bottom.
    pub(crate) fn below(&self) -> &'static Self {
        let at = ptr::from_ref(self).expose_provenance() - ENTRY;
        // SAFETY: entries are never at the bottom, and what is below one is one, or the bottom.
        unsafe { &*ptr::with_exposed_provenance::<Self>(at) }
    }

    /// Whether the slot, which counts from the address `base`, holds what it held at entry. Not in
    /// progress, nor if the frame was left and its place written to since.
    ///
    /// # Safety
    /// The slot is mapped, if the call is pending.
    pub(crate) unsafe fn is_as_it_was(&self, base: u64) -> bool {
        let slot = self.slot.load(Ordering::Relaxed);
        if slot == 0 {
            return false;
        }
        let at = base.wrapping_add(slot) as usize;
        // SAFETY: the caller's; slots are aligned to 8.
        let word = unsafe { &*ptr::with_exposed_provenance::<AtomicU64>(at) };
        word.load(Ordering::Relaxed) == self.caller.load(Ordering::Relaxed)
    }
}
