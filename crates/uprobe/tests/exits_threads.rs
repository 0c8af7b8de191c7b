//! The tests of `threads`, with returns seen at the functions' exits.
#![allow(unsafe_code)]

#[path = "threads.rs"]
mod threads;
