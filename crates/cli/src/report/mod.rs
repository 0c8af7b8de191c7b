//! From a run to its report.

pub(crate) mod armed;
pub(crate) mod collect;
pub(crate) mod cost;
pub(crate) mod outside;
pub(crate) mod people;
