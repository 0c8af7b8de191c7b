//! Small programs of every kind, worked on while they run and as they start: what they do is as
//! bare.
#![cfg(target_arch = "x86_64")]

mod blocked;
mod calls;
mod common;
mod exec;
mod files;
mod interrupted;
mod killed;
mod launched;
mod patched;
mod refused;
mod states;
mod steps;
