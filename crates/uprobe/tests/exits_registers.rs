//! The tests of `registers`, with returns seen at the functions' exits.
#![allow(unsafe_code)]

#[path = "registers.rs"]
mod registers;
