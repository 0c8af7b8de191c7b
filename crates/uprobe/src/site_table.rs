//! The table of sites: one cache line for each, at a fixed address for the life of the process,
//! found by its number.
//!
//! The memory is at one place, grows there as sites are added, and is never given back, so that a
//! stub, a pending return or a signal handler may look at a site at any time. The place is in the
//! middle of nowhere, where the program maps nothing: room there need not be reserved. A site is
//! filled by the thread that arms it, before the first stub that names it can run; from then on the
//! hit path only reads it.
#![allow(unsafe_code)]

use crate::registered::List;
use crate::{mapping, maps};
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use sys::memory::{self, MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE};

/// One probed instruction.
#[repr(C, align(64))]
pub(crate) struct Site {
    /// Address of the relocated instructions (the end of the prologue in the stub, or the permanent
    /// slot). What a return instance calls.
    pub(crate) body: AtomicU64,
    /// Byte offset of the function's cell in every thread's block.
    pub(crate) cell: AtomicU32,
    /// Its own number; of an exit, that of its function's entry. Behind `cell`, so that the
    /// assembly copies or compares both in one move.
    pub(crate) index: AtomicU32,
    /// Where to go on when no return instance was made: `body`, or the code that first takes back
    /// the skipped red zone ([`Prologue::resume`](crate::prologue::Prologue)).
    pub(crate) resume: AtomicU64,
    /// Consumers, for [`Action::Call`]; see [`crate::consumer`].
    pub(crate) consumers: AtomicPtr<List>,
    /// Address of the probed instruction.
    pub(crate) address: AtomicU64,
    /// [`Action`] in the low byte, and the flags below.
    pub(crate) flags: AtomicU32,
    /// Free for the half that arms sites.
    pub(crate) state: AtomicU32,
    /// Free for the half that arms sites.
    pub(crate) user: [AtomicU64; 1],
    /// The time stamp when it was armed; `u64::MAX`: it is not armed any more.
    pub(crate) since: AtomicU64,
}

const _: () = assert!(size_of::<Site>() == 64, "the assembly multiplies by 64");
const _: () =
    assert!(offset_of!(Site, index) == offset_of!(Site, cell) + 4, "one move copies both");

/// The bits of [`Site::flags`] that hold the action.
pub(crate) const ACTION: u32 = 0xff;
/// The function branches back to its first byte, and those branches come by here: if its return is
/// waited for, the same site again at the same return slot is not a call.
pub(crate) const LOOPS: u32 = 1 << 8;
/// Returns are seen at the function's exits, which are sites of their own.
pub(crate) const EXITS: u32 = 1 << 10;
/// The stub moved rsp below the red zone before it pushed anything.
pub(crate) const SKIPS_RED_ZONE: u32 = 1 << 9;

/// What a hit does. The number is in [`Site::flags`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Counts entries.
    Count {
        /// Offset of the cell.
        cell: u32,
    },
    /// Counts entries and returns and measures the time between them.
    Time {
        /// Offset of the cell.
        cell: u32,
    },
    /// Counts entries and returns.
    CountReturn {
        /// Offset of the cell.
        cell: u32,
    },
    /// Calls the site's consumers with all registers.
    Call,
    /// An exit of a function that is timed.
    Leave {
        /// Offset of the cell.
        cell: u32,
    },
    /// An exit of a function whose consumers want to see its returns.
    LeaveCall,
}

impl Action {
    /// The number in [`Site::flags`].
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Count { .. } => 1,
            Self::Time { .. } => 2,
            Self::CountReturn { .. } => 3,
            Self::Call => 4,
            Self::Leave { .. } => 5,
            Self::LeaveCall => 6,
        }
    }

    /// The cell's offset.
    pub(crate) fn cell(self) -> u32 {
        match self {
            Self::Count { cell }
            | Self::Time { cell }
            | Self::CountReturn { cell }
            | Self::Leave { cell } => cell,
            Self::Call | Self::LeaveCall => 0,
        }
    }
}

/// Sites that there can be.
pub(crate) const CAPACITY: u32 = 1 << 20;
/// Sites that are mapped at a time: 1 MiB.
const STEP: u32 = 1 << 14;
/// The place is a multiple of this.
const ALIGN: u64 = 1 << 30;

/// The table; null before [`reserve`]. The assembly reads it.
pub(crate) static SITES: AtomicPtr<Site> = AtomicPtr::new(ptr::null_mut());

/// The time stamp when a site was last disarmed: what was pending then may be left over.
pub(crate) static DISARMED: AtomicU64 = AtomicU64::new(0);

static NEXT: AtomicU32 = AtomicU32::new(1);
/// Sites that have memory.
static MAPPED: AtomicU32 = AtomicU32::new(0);

/// Finds a place for the table, and maps its beginning. False: there is none. The caller calls it
/// once, before any other function here.
pub(crate) fn reserve() -> bool {
    if !SITES.load(Ordering::Acquire).is_null() {
        return true;
    }
    let gaps = maps::gaps(&maps::read());
    let widest = gaps.iter().max_by_key(|gap| gap.end - gap.start);
    // Not its middle, which others may want, and not its ends, where the heap and mappings grow.
    let place = widest.map(|gap| (gap.start + (gap.end - gap.start) / 32).next_multiple_of(ALIGN));
    let step = u64::from(STEP) * size_of::<Site>() as u64;
    if let Some(at) = place.filter(|at| mapping::map_at(*at, step)) {
        MAPPED.store(STEP, Ordering::Relaxed);
        // Release pairs with the Acquire above; the hit path runs after the patching that followed.
        SITES.store(ptr::with_exposed_provenance_mut(at as usize), Ordering::Release);
        return true;
    }
    // Nothing is known of the address space: all of it at once.
    let bytes = CAPACITY as usize * size_of::<Site>();
    let (both, flags) = (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    // SAFETY: a new mapping of its own.
    let Ok(table) = (unsafe { memory::mmap(0, bytes, both, flags, -1, 0) }) else {
        return false;
    };
    MAPPED.store(CAPACITY, Ordering::Relaxed);
    SITES.store(table.cast(), Ordering::Release);
    true
}

/// Where addresses behind the table begin that nobody else uses, in the middle of nowhere. None:
/// nothing is known of the address space.
pub(crate) fn behind() -> Option<u64> {
    let at = SITES.load(Ordering::Relaxed).addr() as u64;
    (at != 0 && MAPPED.load(Ordering::Relaxed) < CAPACITY).then_some(at + ALIGN)
}

/// Sees to it that the site with this number has memory. Callers have the engine's lock.
fn reach(index: u32) -> bool {
    let mapped = MAPPED.load(Ordering::Relaxed);
    if index < mapped {
        return true;
    }
    let bytes = |sites: u32| sites as usize * size_of::<Site>();
    let at = SITES.load(Ordering::Relaxed).addr() + bytes(mapped);
    let done = mapping::map_at(at as u64, bytes(STEP) as u64);
    if done {
        MAPPED.store(mapped + STEP, Ordering::Relaxed);
    }
    // Without the lock (benchmarks) somebody else may have been faster.
    done || index < MAPPED.load(Ordering::Relaxed)
}

/// The site with this number; the caller has it from [`allocate`], or from a stub or an instance
/// that was made for it.
#[inline]
pub(crate) fn site(index: u32) -> &'static Site {
    debug_assert!(index < CAPACITY);
    let table = SITES.load(Ordering::Relaxed);
    // SAFETY: numbers are handed out below CAPACITY, and only after the table was reserved.
    let site = unsafe { table.add(index as usize) };
    // SAFETY: the table is never unmapped, all fields are atomic, and zero bytes are valid for
    // them.
    unsafe { &*site }
}

/// A number that nobody has had; number 0 is never given. `None`: the table is full. With the
/// engine's lock.
pub(crate) fn allocate() -> Option<u32> {
    if !reach(NEXT.load(Ordering::Relaxed)) {
        return None;
    }
    // Relaxed: only uniqueness matters.
    let index = NEXT
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < CAPACITY).then_some(n + 1))
        .ok()?;
    site(index).index.store(index, Ordering::Relaxed);
    Some(index)
}

/// The number that [`allocate`] will give next, or a lower one.
pub(crate) fn next() -> u32 {
    NEXT.load(Ordering::Relaxed)
}

impl Site {
    /// Sets action, flags and cell. Before the first stub with this number can run.
    pub(crate) fn set(&self, action: Action, loops: bool, skips_red_zone: bool) {
        let flags = action.code()
            | if loops { LOOPS } else { 0 }
            | if skips_red_zone { SKIPS_RED_ZONE } else { 0 };
        // Relaxed: the patching that makes the stub reachable orders them.
        self.cell.store(action.cell(), Ordering::Relaxed);
        self.flags.store(flags, Ordering::Relaxed);
    }

    /// Says anew whether a branch back to the site has to be told from a call, after [`Site::set`].
    pub(crate) fn set_loops(&self, loops: bool) {
        let flags = self.flags.load(Ordering::Relaxed) & !LOOPS;
        self.flags.store(flags | if loops { LOOPS } else { 0 }, Ordering::Relaxed);
    }

    /// Says that returns are seen at these exits, after [`Site::set`].
    pub(crate) fn set_exits(&self) {
        self.flags.fetch_or(EXITS, Ordering::Relaxed);
    }

    /// Notes whether it is armed from now on: what was pending before has nobody who sees it end.
    pub(crate) fn note_armed(&self, armed: bool) {
        let now = crate::counting::now();
        self.since.store(if armed { now } else { u64::MAX }, Ordering::Relaxed);
        if !armed {
            DISARMED.store(now, Ordering::Relaxed);
        }
    }

    /// Whether returns are seen at exits.
    #[inline]
    pub(crate) fn has_exits(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & EXITS != 0
    }

    /// Whether a branch back to the site has to be told from a call.
    pub(crate) fn loops(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & LOOPS != 0
    }

    /// The action, as [`Site::set`] has it.
    pub(crate) fn action(&self) -> Option<Action> {
        let cell = self.cell.load(Ordering::Relaxed);
        match self.flags.load(Ordering::Relaxed) & ACTION {
            1 => Some(Action::Count { cell }),
            2 => Some(Action::Time { cell }),
            3 => Some(Action::CountReturn { cell }),
            4 => Some(Action::Call),
            5 => Some(Action::Leave { cell }),
            6 => Some(Action::LeaveCall),
            _ => None,
        }
    }
}
