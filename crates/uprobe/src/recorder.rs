//! What the engine needs from its user: a block of cells for each thread, and somewhere to report
//! what was lost.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Why a hit was not (wholly) recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Loss {
    /// The hit came from the engine or from a consumer: not counted.
    Recursion = 0,
    /// No place was free to remember the return: the call was counted, not timed.
    Depth = 1,
    /// No block was left for the thread: not counted.
    Capacity = 2,
    /// The consumers had been removed when the hit came.
    Disabled = 3,
    /// A call that was taken for left when something else came to stand at its place on the stack
    /// has returned all the same, and counts without a time: somebody copies stacks away and back,
    /// and times are not to be believed.
    Overlap = 4,
}

/// How many [`Loss`]es there are.
pub const LOSSES: usize = 5;

/// The functions that the engine's user provides. The engine calls them from slow paths in the
/// middle of the program's functions: they must not allocate, block or call anything that may be
/// probed. Signals are blocked during `thread_start` and `thread_exit`.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// A block of cells for the calling thread, or null if there is none left. Called again in a
    /// fork child, for its only thread.
    pub thread_start: fn() -> *mut u8,
    /// The thread of this block has ended. Another one calls, some time later.
    pub thread_exit: fn(*mut u8),
    /// A hit was lost. May be called by several threads, and by signal handlers; may use SSE only
    /// of the vector instructions (plain x86-64 code that calls no libc).
    pub lost: fn(Loss),
}

static LOST: [AtomicU64; LOSSES] = [const { AtomicU64::new(0) }; LOSSES];
static HOOK: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn set_lost_hook(hook: fn(Loss)) {
    HOOK.store(hook as usize, Ordering::Release);
}

/// Hits lost so far in this process, by [`Loss`].
pub fn losses() -> [u64; LOSSES] {
    // Relaxed: counters order nothing.
    core::array::from_fn(|i| LOST[i].load(Ordering::Relaxed))
}

#[allow(unsafe_code)]
#[cold]
pub(crate) fn lost(loss: Loss) {
    LOST[loss as usize].fetch_add(1, Ordering::Relaxed);
    let hook = HOOK.load(Ordering::Acquire);
    if hook != 0 {
        // SAFETY: only `set_lost_hook` stores here, a function of this type.
        let hook: fn(Loss) = unsafe { core::mem::transmute(hook) };
        hook(loss);
    }
}
