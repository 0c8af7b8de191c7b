//! One facade over atomics, cells, fences and threads.
//!
//! Everything in the trapline primitives that two threads touch comes from here, so that the same
//! source runs on the machine (`core`/`std`) and under a model checker (`--cfg loom`). A third
//! implementation, a coherence simulator that counts line transfers, has its place as one more
//! module beside `real` and `model`: it has to offer the same names.
//!
//! [`UnsafeCell`] has loom's closure interface on both sides; without loom it compiles to plain
//! pointer access. [`Futex`] is a word on which threads sleep: nothing here is built on locks of
//! the standard library, which a `no_std` user does not have.

#[cfg(loom)]
mod model;
#[cfg(not(loom))]
mod real;

#[cfg(loom)]
pub use model::*;
#[cfg(not(loom))]
pub use real::*;
