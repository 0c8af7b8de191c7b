//! Virtual time.

use crate::context;
use crate::machine::Picoseconds;
use core::time::Duration;

/// The clock of the CPU on which this runs; 0 outside of a simulation. Reading it is free.
pub fn now() -> Picoseconds {
    context::with(|world| world.scheduler.now()).unwrap_or(0)
}

/// Work that touches nothing that is shared takes this long.
pub fn work(time: Picoseconds) {
    settle();
    context::with(|world| world.scheduler.spend(time));
}

/// Preemption and migration that are due happen now.
pub(crate) fn settle() {
    context::await_turn();
}

pub(crate) fn picoseconds(duration: Duration) -> Picoseconds {
    Picoseconds::try_from(duration.as_nanos().saturating_mul(1000)).unwrap_or(Picoseconds::MAX / 2)
}
