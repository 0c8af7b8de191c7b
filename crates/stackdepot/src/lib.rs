//! A store that keeps each distinct stack trace once and hands out 32-bit handles.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

#[cfg(any(test, loom))]
extern crate std;

mod arena;
#[cfg(loom)]
pub mod broken;
mod builder;
mod compare;
mod depot;
mod error;
mod free;
mod grace;
mod handle;
mod hash;
mod layout;
mod memory;
mod open;
#[cfg(not(loom))]
mod reader;
mod record;
mod stats;
#[cfg(not(loom))]
mod sys;
mod table;
mod text;
mod view;
mod writer;

pub use builder::Builder;
pub use depot::Depot;
pub use error::{Error, FetchError, Miss, Put, PutError};
pub use grace::{GracePeriod, NoEviction, Rcu};
pub use handle::{Flags, Handle};
pub use memory::{Region, Sharing};
#[cfg(not(loom))]
pub use reader::Reader;
pub use stats::Stats;
pub use text::Display;
pub use view::{Entry, Iter, Refs};
