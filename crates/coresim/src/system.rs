//! System calls: what they cost, and those that have an effect on other threads.

use crate::context;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::time::picoseconds;
use core::time::Duration;

/// A system call that has no effect here.
pub fn call() {
    context::await_turn();
    context::with(|world| world.scheduler.spend(world.scheduler.machine.costs.system_call));
}

/// `membarrier(2)`, private and expedited: interrupts every other CPU that runs a thread, one after
/// the other, and each of them loses the same time.
pub fn membarrier() {
    call();
    context::with(|world| {
        let interrupted = world.scheduler.interrupt_others();
        world.scheduler.spend(interrupted * world.scheduler.machine.costs.interrupt);
    });
}

/// `membarrier(2)`, private and expedited, for restartable sequences: as [`membarrier()`], and the
/// [sequences](crate::rseq) that are in progress begin anew.
pub fn membarrier_rseq() {
    membarrier();
    context::await_turn();
    context::with(|world| world.scheduler.disturb());
}

/// `futex(2)`, wait: sleeps until it is woken, if the word is `seen`. False: the time is over.
///
/// # Panics
/// Outside of a simulation, if it has to sleep.
#[track_caller]
pub fn futex_wait(word: &AtomicU32, seen: u32, timeout: Option<Duration>) -> bool {
    call();
    // From here on no other thread runs until this one sleeps: as under the kernel's own lock.
    if word.load(Ordering::Relaxed) != seen {
        return true;
    }
    context::expect(|world| {
        let until = timeout.map(|timeout| world.scheduler.now() + picoseconds(timeout));
        world.sleep_on(word.as_ptr().addr(), until);
    });
    context::suspend();
    context::expect(|world| !world.scheduler.timed_out())
}

/// `futex(2)`, wake: wakes up to `count` threads that sleep on the word. Returns how many.
pub fn futex_wake(word: &AtomicU32, count: usize) -> usize {
    call();
    context::await_turn();
    context::with(|world| world.wake(word.as_ptr().addr(), count)).unwrap_or(0)
}
