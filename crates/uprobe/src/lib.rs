//! A probe engine in user space: entry and return probes on functions of the running process, without traps where it can be done
#![deny(unsafe_code)]

mod arch;
#[doc(hidden)]
pub mod by_hand;
mod chunk;
mod cold;
mod consumer;
mod context;
mod entry;
mod instance;
mod lists;
mod recorder;
mod site_table;
mod statistics;
mod thread;
mod trap;

pub use consumer::{Consumer, ConsumerId, TooMany, Vectors, Verdict, sync};
pub use context::Context;
pub use recorder::{Hooks, LOSSES, Loss, losses};
pub use statistics::{Statistics, statistics};
pub use thread::SetupError;
