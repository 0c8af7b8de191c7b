//! What differs between processors: adding one to a word that only this thread writes, undisturbed
//! by its own signal handlers.

#[cfg(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri)))]
mod x86_64;
#[cfg(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri)))]
pub(super) use x86_64::add_one;

#[cfg(not(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri))))]
mod portable;
#[cfg(not(all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri))))]
pub(super) use portable::add_one;
