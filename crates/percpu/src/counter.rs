//! A counter that many threads add to and few read.

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::{CachePadded, PerCpu, rseq};

/// A sum kept in one cell per CPU: adding touches no line that another CPU writes.
///
/// With restartable sequences an add is a plain add; threads that cannot use them, and all threads
/// where none are available, add atomically to cells of their own. Costs 256 bytes per possible
/// CPU. Wraps at 2^64.
///
/// # Examples
/// ```
/// let bytes = percpu::Counter::new();
/// bytes.add(100);
/// bytes.add(28);
/// assert_eq!(bytes.sum(), 128);
/// ```
#[derive(Debug)]
pub struct Counter {
    /// Written by sequences only.
    plain: PerCpu<AtomicU64>,
    /// Written by atomic adds only.
    atomic: PerCpu<AtomicU64>,
    /// Always open: nobody takes anything out of a counter.
    gate: CachePadded<rseq::Gate>,
}

impl Counter {
    /// A counter at zero. Allocates.
    pub fn new() -> Self {
        Self {
            plain: PerCpu::new(|_| AtomicU64::new(0)),
            atomic: PerCpu::new(|_| AtomicU64::new(0)),
            gate: CachePadded::new(rseq::Gate::new()),
        }
    }

    /// Adds `n`.
    ///
    /// # Context
    /// Signal-safe after [`crate::init`], never allocates, never blocks.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        if rseq::add(&self.gate, self.plain.as_slice(), n).is_err() {
            self.add_slow(n);
        }
    }

    #[cold]
    #[inline(never)]
    fn add_slow(&self, n: u64) {
        if rseq::register_thread() && rseq::add(&self.gate, self.plain.as_slice(), n).is_ok() {
            return;
        }
        // Relaxed: a sum orders nothing.
        self.atomic.current().fetch_add(n, Ordering::Relaxed);
    }

    /// The sum of all adds that happened before this call, and of some that run at the same time.
    /// Exact when none do.
    ///
    /// # Context
    /// Signal-safe, never allocates; reads two lines per possible CPU.
    pub fn sum(&self) -> u64 {
        self.plain
            .iter()
            .chain(self.atomic.iter())
            .fold(0, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}
