//! A probe engine in user space: entry and return probes on functions of the running process, without traps where it can be done
#![deny(unsafe_code)]

mod arch;
mod chunk;
mod cold;
mod consumer;
mod entry;
mod instance;
mod lists;
mod recorder;
mod site_table;
mod thread;
mod word;

pub use recorder::{Hooks, LOSSES, Loss, losses};
pub use thread::SetupError;
