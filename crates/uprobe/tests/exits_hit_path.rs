//! The tests of `hit_path`, with returns seen at the functions' exits.
#![allow(unsafe_code)]

#[path = "hit_path.rs"]
mod hit_path;
