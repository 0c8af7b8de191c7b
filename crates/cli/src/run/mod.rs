//! A run: the agent's file, the segment, the child or the processes that ran already, and what
//! happens until it ends.

pub(crate) mod agent;
pub(crate) mod armed;
mod asked;
pub(crate) mod attached;
pub(crate) mod background;
pub(crate) mod c_library;
pub(crate) mod child;
mod ended;
pub(crate) mod events;
mod executed;
mod files;
mod handout;
mod image;
mod launched;
mod leftovers;
mod limits;
pub(crate) mod loaded;
mod numbers;
mod opened;
mod ours_alone;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod snapshot;
mod subject;
pub(crate) mod tables;
mod tend;
mod traced;
