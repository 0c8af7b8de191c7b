//! The tests of `counts`, with returns seen at the functions' exits.
#![allow(unsafe_code)]

#[path = "counts.rs"]
mod counts;
