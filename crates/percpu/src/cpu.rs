//! Which CPU, and how many.

/// The CPU this thread runs on, as far as can be told without a system call: from the thread's
/// restartable-sequence area, else from `getcpu`, else 0. Always below [`count`]. The thread
/// may be elsewhere by the time the caller looks: a hint for spreading, never a lock.
///
/// # Context
/// Signal-safe, never allocates, never blocks.
#[inline]
pub fn current() -> usize {
    imp::current()
}

/// How many CPU numbers can occur in this machine's life (the kernel's "possible" CPUs), at least
/// 1. Read once.
///
/// # Context
/// Signal-safe, never allocates; the first call opens a file in `/sys`.
#[inline]
pub fn count() -> usize {
    imp::count()
}

#[cfg(loom)]
pub use imp::model_set_current;

#[cfg(not(any(loom, simulated)))]
mod imp {
    use core::sync::atomic::{AtomicUsize, Ordering};

    /// 0: not read yet.
    static COUNT: AtomicUsize = AtomicUsize::new(0);

    #[inline]
    pub(super) fn count() -> usize {
        match COUNT.load(Ordering::Relaxed) {
            0 => read(),
            n => n,
        }
    }

    #[cold]
    #[inline(never)]
    fn read() -> usize {
        let n = crate::kernel::possible_cpus::read();
        COUNT.store(n, Ordering::Relaxed);
        n
    }

    #[inline]
    pub(super) fn current() -> usize {
        let cpu = match crate::arch::area::cpu_id() {
            Some(cpu) => cpu as usize,
            None => crate::host::cpu(),
        };
        if cpu < count() { cpu } else { 0 }
    }
}

/// The machine's.
#[cfg(simulated)]
mod imp {
    use coresim::thread;

    pub(super) fn count() -> usize {
        thread::cpus()
    }

    pub(super) fn current() -> usize {
        thread::cpu()
    }
}

/// Models have two CPUs, and a thread is where the model puts it.
#[cfg(loom)]
mod imp {
    use core::cell::Cell;

    loom::thread_local! {
        static CURRENT: Cell<usize> = Cell::new(0);
    }

    pub(super) fn count() -> usize {
        2
    }

    pub(super) fn current() -> usize {
        CURRENT.with(Cell::get)
    }

    /// Puts the modelled thread on a CPU.
    pub fn model_set_current(cpu: usize) {
        assert!(cpu < count(), "models have two CPUs");
        CURRENT.with(|c| c.set(cpu));
    }
}
