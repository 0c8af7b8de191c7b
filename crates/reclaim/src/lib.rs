//! (crate under construction)
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test, loom))]
extern crate std;

mod asymmetric;
mod backoff;
#[cfg(feature = "alloc")]
pub mod cached;
mod callbacks;
pub mod hazptr;
#[cfg(feature = "alloc")]
pub mod percpu_ref;
mod policy;
pub mod rcu;
#[cfg(feature = "alloc")]
pub mod srcu;
