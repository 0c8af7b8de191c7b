//! (crate under construction)
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", loom))]
extern crate std;

pub mod fence;
mod padded;
pub mod sync;
#[cfg(not(loom))]
mod sys;

pub use padded::CachePadded;
