//! A run: the agent's file, the segment, the child, and what happens until it ends.

pub(crate) mod agent;
pub(crate) mod child;
pub(crate) mod events;
mod leftovers;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod tables;
