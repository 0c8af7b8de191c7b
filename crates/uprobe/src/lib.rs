//! A probe engine in user space: entry and return probes on functions of the running process, without traps where it can be done
#![deny(unsafe_code)]

mod consumer;
mod entry;
mod recorder;
mod site_table;

pub use recorder::{Hooks, LOSSES, Loss, losses};
