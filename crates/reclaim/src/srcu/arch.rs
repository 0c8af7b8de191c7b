//! What differs between processors: adding one to a word that only this thread writes, undisturbed
//! by its own signal handlers.

#[cfg(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri), not(simulated)))]
mod x86_64;
#[cfg(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri), not(simulated)))]
pub(super) use x86_64::add_one;

#[cfg(simulated)]
mod simulated;
#[cfg(simulated)]
pub(super) use simulated::add_one;

#[cfg(not(any(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri)), simulated)))]
mod portable;
#[cfg(not(any(
    all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri)),
    simulated
)))]
pub(super) use portable::add_one;
