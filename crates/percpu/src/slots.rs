//! One padded value per possible CPU.

use crate::{CachePadded, cpu};
use alloc::boxed::Box;

/// One `T` per possible CPU, each on cache lines of its own.
///
/// # Examples
/// ```
/// let slots = percpu::PerCpu::new(|cpu| cpu * 10);
/// assert_eq!(slots.len(), percpu::cpu::count());
/// assert_eq!(*slots.get(0), 0);
/// ```
#[derive(Debug)]
pub struct PerCpu<T> {
    slots: Box<[CachePadded<T>]>,
}

impl<T> PerCpu<T> {
    /// Calls `init` for each possible CPU. Allocates 128 bytes or more per CPU.
    pub fn new(init: impl FnMut(usize) -> T) -> Self {
        Self { slots: (0..cpu::count()).map(init).map(CachePadded::new).collect() }
    }

    /// The value of `cpu`.
    ///
    /// # Panics
    /// `cpu` is not below [`len`](Self::len).
    #[inline]
    pub fn get(&self, cpu: usize) -> &T {
        &self.slots[cpu]
    }

    /// The value of the CPU this thread is on, or was a moment ago.
    #[inline]
    pub fn current(&self) -> &T {
        // `cpu::current` is below `cpu::count`, but only this index proves it to the compiler.
        &self.slots[cpu::current() % self.slots.len()]
    }

    /// All values, by CPU number.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        self.slots.iter().map(|s| &**s)
    }

    /// How many there are: [`cpu::count`].
    #[expect(clippy::len_without_is_empty, reason = "there is always a CPU")]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// The padded values as they lie in memory.
    #[inline]
    pub fn as_slice(&self) -> &[CachePadded<T>] {
        &self.slots
    }
}
