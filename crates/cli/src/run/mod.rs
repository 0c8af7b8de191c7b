//! A run: the agent's file, the segment, the child, and what happens until it ends.

pub(crate) mod agent;
pub(crate) mod child;
mod ended;
pub(crate) mod events;
mod files;
mod handout;
mod leftovers;
mod limits;
mod opened;
mod ours_alone;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod tables;
mod tend;
