//! Atomic types with the interface of `std::sync::atomic`, and fences.
//!
//! Each access charges the CPU for the line of its address. Outside of a simulation they are the
//! types of `std`. Making one, [`get_mut`](AtomicU64::get_mut) and `Debug` are free: what is set up
//! before threads share it is not what is measured.
//!
//! Threads of a simulation run one at a time, so every execution is sequentially consistent,
//! whatever the orderings; what they change is the price of stores and fences.

mod integer;
mod others;

pub use core::sync::atomic::{Ordering, compiler_fence};
pub use integer::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32,
    AtomicU64, AtomicUsize,
};
pub use others::{AtomicBool, AtomicPtr};

use crate::context;

/// A fence. Costs what the machine's table says, and touches no line.
///
/// # Panics
/// With [`Ordering::Relaxed`], as in `std`.
#[inline]
pub fn fence(order: Ordering) {
    assert!(order != Ordering::Relaxed, "there is no such thing as a relaxed fence");
    context::await_turn();
    context::with(|world| {
        let costs = &world.scheduler.machine.costs;
        let cost = if order == Ordering::SeqCst { costs.fence } else { costs.fence_weak };
        world.scheduler.spend(cost);
    });
}
