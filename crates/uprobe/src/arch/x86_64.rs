//! x86-64: the code that runs at a hit.

pub(crate) mod area;
mod consumer;
#[cfg(feature = "std")]
pub(crate) mod entry;
#[cfg(feature = "std")]
pub(crate) mod exit;
pub(crate) mod frame;
mod goroutine;
mod measured;
pub(crate) mod prologue;
mod routines;
mod shadow;
mod slow_path;
pub(crate) mod switching;
pub(crate) mod tail;
pub(crate) mod tls;
pub(crate) mod vector;
pub(crate) mod vectors;
#[cfg(not(feature = "std"))]
mod without_instances;

#[cfg(not(feature = "std"))]
pub(crate) use without_instances::{entry, exit};
