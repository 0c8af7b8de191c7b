//! A probe engine in user space: entry and return probes on functions of the running process, without traps where it can be done
#![deny(unsafe_code)]

mod arch;
mod batch;
mod breakpoint;
#[doc(hidden)]
pub mod by_hand;
mod chunk;
mod cold;
mod consumer;
mod context;
mod engine;
mod entry;
mod hops;
mod instance;
mod kernel;
mod landings;
mod lists;
mod live;
mod maps;
mod near;
mod recorder;
mod refusal;
pub mod signals;
mod site_table;
mod slots;
mod statistics;
mod stubs;
mod sync_core;
mod text;
mod thread;
mod trap;
mod trap_table;

pub use batch::{Action, Armed, Batch, Method, Target};
pub use breakpoint::SlotPolicy;
pub use cold::count_call;
pub use consumer::{Consumer, ConsumerId, TooMany, Vectors, Verdict, sync};
pub use context::Context;
pub use engine::{Config, Engine, Patching, SiteId};
pub use recorder::{Hooks, LOSSES, Loss, losses};
pub use refusal::Refusal;
pub use statistics::{Statistics, statistics};
pub use thread::{SetupError, own_code, prepare_thread};
