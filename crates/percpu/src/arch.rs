//! What differs between processors: reading a thread-local slot and the restartable sequences.
//!
//! Both sides offer the same functions. `portable` is used on other processors, under a model
//! checker, and with `--cfg percpu_no_asm`, which exists so that the path without assembly can be
//! tested on x86-64.

#[cfg(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri)))]
mod x86_64;
#[cfg(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri)))]
pub(crate) use x86_64::*;

#[cfg(not(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri))))]
mod portable;
#[cfg(not(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri))))]
pub(crate) use portable::*;
