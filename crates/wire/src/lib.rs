//! The shared-memory segment that the trapline agent writes and the command line reads: layout, versions, control protocol.
#![deny(unsafe_code)]

pub mod cell;
