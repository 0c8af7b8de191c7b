//! The C library's functions that the program reaches through us.

mod c_library;
pub(crate) mod ends;
pub(crate) mod exec;
mod filters;
mod mappings;
pub(crate) mod names;
mod signals;
mod threads;

/// Looks up what stands behind the functions that this object offers in their place. Before
/// anything is armed.
pub(crate) fn prepare() {
    threads::prepare();
    mappings::prepare();
    filters::prepare();
}
