//! Small programs, one behaviour each (`tests/targets`), run bare and under `trapline stat`: same
//! output, same exit code, exact counts.

#[path = "../common/mod.rs"]
mod common;

mod agent_file;
mod calls;
mod ends;
mod environment;
mod exceptions;
mod hostile_names;
mod libraries;
mod memory;
mod patching;
mod privsep;
mod processes;
mod registers;
mod reports;
mod signals;
mod symbols;
mod threads;
mod users;
mod writing;
