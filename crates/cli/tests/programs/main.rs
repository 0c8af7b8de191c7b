//! Small programs, one behaviour each (`tests/targets`), run bare and under `trapline stat`: same output, same exit code, exact counts.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod ends;
mod environment;
mod exceptions;
mod libraries;
mod patching;
mod processes;
mod registers;
mod reports;
mod signals;
mod symbols;
mod threads;
mod users;
