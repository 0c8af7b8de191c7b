//! Restartable sequences: `rseq(2)`, as what it is to the machine.
//!
//! A sequence reads the number of its CPU, does plain accesses to what belongs to that CPU, and
//! ends in one store. If its thread leaves the CPU before (preempted, or migrated), or somebody
//! calls [`membarrier_rseq`](crate::system::membarrier_rseq), the store does not happen, and the
//! sequence begins anew.
//!
//! ```
//! use coresim::rseq::Sequence;
//! use coresim::sync::atomic::AtomicU64;
//! use coresim::{Machine, Simulation};
//! let (count, _) = Simulation::new(Machine::EPYC_2).run(|| {
//!     let cells = [const { AtomicU64::new(0) }; 2];
//!     for _ in 0..3 {
//!         // Anew until it has happened on the CPU that it has read.
//!         while Sequence::begin().is_some_and(|s| !cells[s.cpu()].add_within(1, &s)) {}
//!     }
//!     cells.map(AtomicU64::into_inner).iter().sum::<u64>()
//! });
//! assert_eq!(count, 3);
//! ```

use crate::context;

/// A sequence in progress.
#[derive(Debug)]
pub struct Sequence {
    cpu: usize,
    disturbances: u64,
}

impl Sequence {
    /// Begins one: a store of its descriptor, and a load of the CPU's number. `None` outside of a
    /// simulation.
    #[inline]
    pub fn begin() -> Option<Self> {
        context::await_turn();
        context::with(|world| {
            let scheduler = &mut world.scheduler;
            scheduler.spend(2 * scheduler.machine.costs.hit);
            Self { cpu: scheduler.current_cpu(), disturbances: scheduler.disturbances() }
        })
    }

    /// The CPU on which it began, and on which it is unless it is disturbed.
    #[inline]
    pub fn cpu(&self) -> usize {
        self.cpu
    }

    /// Whether it has to begin anew: what it has read since the last time that this was false may
    /// be of another CPU, or another thread's.
    #[inline]
    pub fn is_disturbed(&self) -> bool {
        context::with(|world| world.scheduler.disturbances()) != Some(self.disturbances)
    }
}
