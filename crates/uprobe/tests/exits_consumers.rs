//! The tests of `consumers`, with returns seen at the functions' exits.
#![allow(unsafe_code)]

#[path = "consumers.rs"]
mod consumers;
