//! Memory near some code, and how it becomes executable: two bodies.
//!
//! Where the engine is at home (`protected`), a fresh region is written like any memory, and made
//! executable when its first batch is complete. In a process that is not ours (`sealed`) that may
//! be forbidden (`PR_SET_MDWE`, which makes it impossible ever to execute what was ever writable):
//! each batch is written to a memory file, which is mapped executable and closed.

#[cfg(feature = "std")]
mod protected;
#[cfg(not(feature = "std"))]
mod sealed;

#[cfg(feature = "std")]
pub(crate) use protected::Region;
#[cfg(not(feature = "std"))]
pub(crate) use sealed::Region;
