//! The tests of `stacks`, with returns seen at the functions' exits.
#![allow(unsafe_code)]

#[path = "stacks.rs"]
mod stacks;
