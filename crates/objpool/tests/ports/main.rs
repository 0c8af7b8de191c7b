//! What the tests of others' pools and queues check (crossbeam-queue, folly, the kernel's pool test
//! and freelist): their behaviour, not their text.
#![cfg(not(loom))]

#[path = "../common/mod.rs"]
mod common;

mod capacity;
mod cpus;
mod drops;
mod finalisation;
mod nested;
mod order;
mod starvation;
