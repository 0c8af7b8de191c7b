//! (crate under construction)
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod backoff;
mod callbacks;
mod policy;
pub mod rcu;
