//! What every free list has to know about the pool it serves, and which slot a thread uses.

use core::ops::Range;
use percpu::cpu;

/// Sizes and switches, fixed when the pool is built.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Objects are numbered `0..capacity`.
    pub capacity: u32,
    /// How many slots share them: one per possible CPU.
    pub slots: u32,
    /// Whether restartable sequences (and the CPU number that their area shows) may be used.
    pub rseq: bool,
    /// Whether a pop that finds nothing else may look into the private lists of other CPUs, at the
    /// price of a system call.
    pub visits: bool,
}

impl Plan {
    /// For `capacity` objects on this machine, everything allowed.
    pub fn new(capacity: u32) -> Self {
        Self { capacity, slots: cpu::count() as u32, rseq: true, visits: true }
    }

    /// The objects that lie near slot `slot` and start there. The regions of all slots are all
    /// objects, in order.
    pub(crate) fn region(&self, slot: u32) -> Range<u32> {
        let start =
            |slot: u32| (u64::from(self.capacity) * u64::from(slot) / u64::from(self.slots)) as u32;
        start(slot)..start(slot + 1)
    }
}

/// Which slot this thread uses now: a hint for spreading, never a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    slots: u32,
    by_cpu: bool,
}

impl Spread {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { slots: plan.slots, by_cpu: plan.rseq }
    }

    /// The slot of the CPU this thread is on where that costs one load, else the slot this thread
    /// was given.
    #[inline(always)]
    pub(crate) fn here(self) -> u32 {
        if self.by_cpu
            && let Some(cpu) = percpu::rseq::cpu_id()
            && cpu < self.slots
        {
            return cpu;
        }
        self.hinted()
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn hinted(self) -> u32 {
        use percpu::tls::{self, Key};
        // The value is a number, slot + 1; the slot count is the same for all pools of the process.
        match tls::get(Key::Pool).addr() as u32 {
            0 => self.rehint(),
            slot => slot - 1,
        }
    }

    /// Gives this thread the slot of the CPU it is on now: at its first use, and when another slot
    /// had to be searched.
    #[cfg(not(loom))]
    #[cold]
    #[inline(never)]
    #[allow(unsafe_code)]
    pub(crate) fn rehint(self) -> u32 {
        use percpu::tls::{self, Key};
        let slot = cpu::current() as u32 % self.slots;
        // SAFETY: the key is this crate's, which reads a number out of it.
        unsafe { tls::set(Key::Pool, core::ptr::without_provenance_mut(slot as usize + 1)) };
        slot
    }

    #[cfg(loom)]
    fn hinted(self) -> u32 {
        cpu::current() as u32 % self.slots
    }

    #[cfg(loom)]
    pub(crate) fn rehint(self) -> u32 {
        self.hinted()
    }
}
