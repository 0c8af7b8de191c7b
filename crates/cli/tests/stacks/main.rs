//! Recorded call stacks against gdb's: the same frames, at the same addresses, as often.

#[path = "../common/mod.rs"]
mod common;

mod compare;
mod cpp;
mod gdb;
mod libraries;
mod python;
mod recorded;
mod redis;
mod rust;
mod split;
mod stack;
