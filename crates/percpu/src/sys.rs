//! The few system and library calls that the crate makes, each with the errors it can meet.

pub(crate) mod membarrier;
pub(crate) mod nanosleep;
pub(crate) mod pages;
pub(crate) mod possible_cpus;
pub(crate) mod pthread_key;
