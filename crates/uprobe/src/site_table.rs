//! The table of sites: one cache line for each, at a fixed address for the life of the process, found by its number.
//!
//! The memory is reserved once and never given back, so that a stub, a pending return or a signal handler may look at a site at any time. A site is filled by the thread that
//! arms it, before the first stub that names it can run; from then on the hit path only reads it.
#![allow(unsafe_code)]

use crate::consumer::List;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// One probed instruction.
#[repr(C, align(64))]
pub(crate) struct Site {
    /// Address of the relocated instructions (the end of the prologue in the stub, or the permanent slot). What a return instance calls.
    pub(crate) body: AtomicU64,
    /// Byte offset of the function's cell in every thread's block.
    pub(crate) cell: AtomicU32,
    /// Its own number. Behind `cell`, so that the assembly copies both in one move.
    pub(crate) index: AtomicU32,
    /// Where to go on when no return instance was made: `body`, or the code that first takes back the skipped red zone ([`Prologue::resume`](crate::entry::Prologue)).
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
    pub(crate) user: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Site>() == 64, "the assembly multiplies by 64");
const _: () = assert!(offset_of!(Site, index) == offset_of!(Site, cell) + 4, "one move copies both");

/// The bits of [`Site::flags`] that hold the action.
pub(crate) const ACTION: u32 = 0xff;
/// The function branches back to its first byte: the same site again at the same return slot is not a call.
pub(crate) const LOOPS: u32 = 1 << 8;
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
}

impl Action {
    /// The number in [`Site::flags`].
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Count { .. } => 1,
            Self::Time { .. } => 2,
            Self::CountReturn { .. } => 3,
            Self::Call => 4,
        }
    }

    /// The cell's offset.
    pub(crate) fn cell(self) -> u32 {
        match self {
            Self::Count { cell } | Self::Time { cell } | Self::CountReturn { cell } => cell,
            Self::Call => 0,
        }
    }

    /// What to do at a function that branches back to its own first byte: only an instance tells that from a call, so plain counting is not enough if a return probe may be put there.
    pub(crate) fn for_function(self, loops: bool, returns: bool) -> Self {
        match self {
            Self::Count { cell } if loops && returns => Self::CountReturn { cell },
            other => other,
        }
    }
}

/// Sites that there can be: 64 MiB of address space, of which only what is used becomes memory.
pub(crate) const CAPACITY: u32 = 1 << 20;

/// The table; null before [`reserve`]. The assembly reads it.
pub(crate) static SITES: AtomicPtr<Site> = AtomicPtr::new(ptr::null_mut());

static NEXT: AtomicU32 = AtomicU32::new(1);

/// Reserves the table. False: the kernel has no address space left. The caller calls it once, before any other function here.
pub(crate) fn reserve() -> bool {
    if !SITES.load(Ordering::Acquire).is_null() {
        return true;
    }
    let bytes = CAPACITY as usize * size_of::<Site>();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping of its own.
    let table = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if table == libc::MAP_FAILED {
        return false;
    }
    // Release pairs with the Acquire above; the hit path runs after the patching that followed.
    SITES.store(table.cast(), Ordering::Release);
    true
}

/// The site with this number; the caller has it from [`allocate`], or from a stub or an instance that was made for it.
#[inline]
pub(crate) fn site(index: u32) -> &'static Site {
    debug_assert!(index < CAPACITY);
    let table = SITES.load(Ordering::Relaxed);
    // SAFETY: numbers are handed out below CAPACITY, and only after the table was reserved.
    let site = unsafe { table.add(index as usize) };
    // SAFETY: the table is never unmapped, all fields are atomic, and zero bytes are valid for them.
    unsafe { &*site }
}

/// A number that nobody has had; number 0 is never given. `None`: the table is full.
pub(crate) fn allocate() -> Option<u32> {
    // Relaxed: only uniqueness matters.
    let index = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < CAPACITY).then_some(n + 1)).ok()?;
    site(index).index.store(index, Ordering::Relaxed);
    Some(index)
}

impl Site {
    /// Sets action, flags and cell. Before the first stub with this number can run.
    pub(crate) fn set(&self, action: Action, loops: bool, skips_red_zone: bool) {
        let flags = action.code() | if loops { LOOPS } else { 0 } | if skips_red_zone { SKIPS_RED_ZONE } else { 0 };
        // Relaxed: the patching that makes the stub reachable orders them.
        self.cell.store(action.cell(), Ordering::Relaxed);
        self.flags.store(flags, Ordering::Relaxed);
    }

    /// Says anew whether a branch back to the site has to be told from a call, after [`Site::set`].
    pub(crate) fn set_loops(&self, loops: bool) {
        let flags = self.flags.load(Ordering::Relaxed) & !LOOPS;
        self.flags.store(flags | if loops { LOOPS } else { 0 }, Ordering::Relaxed);
    }

    /// The action, as [`Site::set`] has it.
    pub(crate) fn action(&self) -> Option<Action> {
        let cell = self.cell.load(Ordering::Relaxed);
        match self.flags.load(Ordering::Relaxed) & ACTION {
            1 => Some(Action::Count { cell }),
            2 => Some(Action::Time { cell }),
            3 => Some(Action::CountReturn { cell }),
            4 => Some(Action::Call),
            _ => None,
        }
    }
}
