//! The C library's functions that the program reaches through us.

pub(crate) mod exec;
mod signals;
mod threads;

/// Looks up what stands behind the functions that this object offers in their place. Before anything is armed.
pub(crate) fn prepare() {
    threads::prepare();
}
