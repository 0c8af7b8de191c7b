//! The tests of `fork`, with returns seen at the functions' exits.
#![allow(unsafe_code)]

#[path = "fork.rs"]
mod fork;
