//! Asymmetric fences: [`light`] costs a compiler barrier, [`heavy`] pays for both sides.
//!
//! A `light()` on one thread and a `heavy()` on another order like two `SeqCst` fences: of "reader
//! stores, `light()`, reader loads" and "writer stores, `heavy()`, writer loads" at least one side
//! sees the other's store. Linux offers this as `membarrier(2)`, command `PRIVATE_EXPEDITED`: an
//! interrupt to every CPU that runs a thread of this process. The same idea is in Linux's
//! `sys_membarrier`, folly's `AsymmetricThreadFence` and C++ P1202.
//!
//! Where membarrier is refused (kernels before 4.14, a seccomp filter), and under a model checker,
//! both are `SeqCst` fences. The accesses around them can be `Relaxed` either way: all ordering
//! comes from the two fences.
//!
//! # Costs
//! On a 2-core EPYC VM: `light()` 0.2 ns (a predicted branch on a read-mostly byte), 2 to 16 ns in
//! the fallback; `heavy()` 0.35 µs alone, 8 to 9 µs with a running sibling thread.
//!
//! # Context
//! Both are signal-safe, allocate nothing and do not block. `heavy()` makes one system call.

#[cfg(not(simulated))]
use crate::sync::atomic::{Ordering, fence};

/// How the two fences are implemented in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `light()` is a compiler fence, `heavy()` a membarrier system call.
    Membarrier,
    /// Both are `SeqCst` fences.
    Symmetric,
}

/// The reader's side: a compiler fence in [`Mode::Membarrier`], else a `SeqCst` fence.
#[inline(always)]
pub fn light() {
    imp::light();
}

/// The writer's side: pairs with every [`light`] of every thread of this process.
#[inline]
pub fn heavy() {
    imp::heavy();
}

/// How the fences work here; registers the process with the kernel at the first call.
pub fn mode() -> Mode {
    imp::mode()
}

#[cfg(loom)]
mod imp {
    use super::{Mode, Ordering, fence};

    #[inline]
    pub(super) fn light() {
        fence(Ordering::SeqCst);
    }

    #[inline]
    pub(super) fn heavy() {
        fence(Ordering::SeqCst);
    }

    pub(super) fn mode() -> Mode {
        Mode::Symmetric
    }
}

/// The machine's: a system call that interrupts every CPU which runs a thread.
#[cfg(simulated)]
mod imp {
    use super::Mode;

    #[inline]
    pub(super) fn light() {}

    #[inline]
    pub(super) fn heavy() {
        coresim::system::membarrier();
    }

    pub(super) fn mode() -> Mode {
        Mode::Membarrier
    }
}

#[cfg(not(any(loom, simulated)))]
mod imp {
    use super::{Mode, Ordering, fence};
    use crate::kernel::membarrier;
    use core::sync::atomic::{AtomicU8, compiler_fence};

    const UNKNOWN: u8 = 0;
    const MEMBARRIER: u8 = 1;
    const SYMMETRIC: u8 = 2;

    /// UNKNOWN -> MEMBARRIER | SYMMETRIC, written by whoever asks first; both writers of a race
    /// write the same.
    static MODE: AtomicU8 = AtomicU8::new(UNKNOWN);

    #[inline(always)]
    pub(super) fn light() {
        // Relaxed: a thread that still reads UNKNOWN takes the full fence, which is right whatever
        // the others do.
        if MODE.load(Ordering::Relaxed) == MEMBARRIER {
            compiler_fence(Ordering::SeqCst);
        } else {
            light_slow();
        }
    }

    #[cold]
    #[inline(never)]
    fn light_slow() {
        mode();
        fence(Ordering::SeqCst);
    }

    #[inline]
    pub(super) fn heavy() {
        match mode() {
            Mode::Membarrier => membarrier::private_expedited(),
            Mode::Symmetric => fence(Ordering::SeqCst),
        }
    }

    #[inline]
    pub(super) fn mode() -> Mode {
        match MODE.load(Ordering::Relaxed) {
            MEMBARRIER => Mode::Membarrier,
            SYMMETRIC => Mode::Symmetric,
            _ => detect(),
        }
    }

    #[cold]
    #[inline(never)]
    fn detect() -> Mode {
        let (byte, mode) = if membarrier::register_private_expedited() {
            (MEMBARRIER, Mode::Membarrier)
        } else {
            (SYMMETRIC, Mode::Symmetric)
        };
        MODE.store(byte, Ordering::Relaxed);
        mode
    }
}
