//! A run: the agent's file, the segment, the child, and what happens until it ends.

pub(crate) mod agent;
