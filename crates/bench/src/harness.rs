//! The measuring rig: contenders, cases, repeats.
//!
//! A *campaign* measures every contender ([`Entry`]) in every case ([`Case`]): each repeat runs
//! each contender once, and the order of contenders rotates from repeat to repeat, so that a drift
//! of the machine meets all of them alike. Each measurement builds its contender afresh, starts its
//! threads, warms up, waits until all threads have, and then counts operations and CPU time until
//! the window closes ([`Meter`]).

mod campaign;
mod entry;
mod meter;

pub(crate) use campaign::progress;
pub use campaign::{Campaign, Cell, Plan};
pub use entry::{Case, Entry, Role};
pub use meter::{Budget, Job, Meter, Sample, Seat, measure};
