//! Fixed-capacity object pools for any context, signal handlers included.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(any(feature = "std", loom, test))]
extern crate std;

mod builder;
mod error;
mod ledger;
mod list;
mod lists;
mod memory;
mod objects;
mod plan;
mod pool;
mod raw;
mod statistics;
mod tagged;
mod typed;

pub use builder::Builder;
pub use error::{BuildError, InitError, PushError};
pub use list::{FreeList, Pushed, Taken};
pub use lists::bitmap::Bitmap;
pub use lists::cas_lifo::CasLifo;
pub use lists::flat_array::FlatArray;
pub use lists::percpu_list::PerCpuList;
pub use lists::ring_array::RingArray;
pub use lists::rseq_lifo::RseqLifo;
pub use plan::Plan;
pub use pool::Pool;
pub use raw::RawPool;
pub use statistics::Statistics;
pub use typed::{ObjectPool, OwnedPooled, Pooled};

/// The most objects a pool can have.
pub const MAX_CAPACITY: usize = 1 << 24;
/// The largest object, in bytes.
pub const MAX_OBJECT_SIZE: usize = 64 << 10;

/// The pool to use unless there is a reason for another.
pub type DefaultPool = RawPool<RseqLifo>;
