//! One facade over atomics, cells, fences and threads.
//!
//! Everything in the trapline primitives that two threads touch comes from here, so that the same
//! source runs on the machine (`core`/`std`), under a model checker (`--cfg loom`), and on a
//! modelled machine of any size (`--cfg simulated`, on the crate coresim): whether it is right, and
//! how it scales. The modules `real`, `model` and `simulated` offer the same names.
//!
//! [`UnsafeCell`] has loom's closure interface on both sides; without loom it compiles to plain
//! pointer access. [`Futex`] is a word on which threads sleep: nothing here is built on locks of
//! the standard library, which a `no_std` user does not have.

#[cfg(loom)]
mod model;
#[cfg(not(any(loom, simulated)))]
mod real;
#[cfg(simulated)]
mod simulated;

#[cfg(loom)]
pub use model::*;
#[cfg(not(any(loom, simulated)))]
pub use real::*;
#[cfg(simulated)]
pub use simulated::*;
