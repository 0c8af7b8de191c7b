//! Spin hints.

use crate::context;

/// One round of a loop that waits for another CPU: the machine's `pause`.
pub fn spin_loop() {
    context::await_turn();
    context::with(|world| world.scheduler.spend(world.scheduler.machine.costs.pause));
}
