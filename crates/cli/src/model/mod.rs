//! What the tool knows of a run, as data: reports and recordings, and what follows from them alone.
//!
//! Nothing here runs a program, looks up a symbol or draws: what does is above.

pub(crate) mod compare;
pub(crate) mod counters;
pub(crate) mod diff;
pub(crate) mod file;
pub(crate) mod functions;
pub(crate) mod meta;
pub(crate) mod origin;
pub(crate) mod outside;
pub(crate) mod ps;
pub(crate) mod recording;
pub(crate) mod report;
pub(crate) mod tree;
mod unpack;
