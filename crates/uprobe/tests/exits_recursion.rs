//! The tests of `recursion`, with returns seen at the functions' exits.
#![allow(unsafe_code)]

#[path = "recursion.rs"]
mod recursion;
