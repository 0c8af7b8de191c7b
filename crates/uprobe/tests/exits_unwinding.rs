//! The tests of `unwinding`, with returns seen at the functions' exits.
#![allow(unsafe_code)]

#[path = "unwinding.rs"]
mod unwinding;
