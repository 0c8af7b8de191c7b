//! What differs between processors: reading a thread-local slot and the restartable sequences.
//!
//! All sides offer the same functions. `portable` is used on other processors, under a model
//! checker, and with `--cfg percpu_no_asm`, which exists so that the path without assembly can be
//! tested on x86-64. `simulated` is a modelled machine, where a sequence is what it is to the
//! machine.

#[cfg(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri), not(simulated)))]
mod x86_64;
#[cfg(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri), not(simulated)))]
pub(crate) use x86_64::*;

#[cfg(not(any(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri)), simulated)))]
mod portable;
#[cfg(not(any(
    all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri)),
    simulated
)))]
pub(crate) use portable::*;

#[cfg(simulated)]
mod simulated;
#[cfg(simulated)]
pub(crate) use simulated::*;
