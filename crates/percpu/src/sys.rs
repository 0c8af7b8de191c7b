//! The few system calls that the crate makes, each with the errors it can meet.

pub(crate) mod membarrier;
