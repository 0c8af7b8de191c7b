//! From a run, or from a file, to a recording with symbols.

mod code;
pub(crate) mod collect;
mod load;
mod recover;
pub(crate) mod symbolize;

pub(crate) use load::load;
