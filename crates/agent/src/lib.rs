//! The shared object that `trapline` puts inside a program with `LD_PRELOAD`.
//!
//! Glue only: the engine is [`uprobe`], what is probed and counted is in the [`wire`] segment, names are the command line's business. Its constructor runs before the program's
//! (`-z initfirst`): it maps the segment, takes its variables out of the environment, and arms the functions of everything that is loaded.
//!
//! | module | what |
//! |---|---|
//! | `start` | the constructor |
//! | `segment` | the one mapped segment, and blocks for threads |
//! | `objects` | what is loaded, and which files those are |
//! | `arm` | from the segment's functions to the engine's targets, and back to states |
//! | `loader` | libraries that are opened and closed later |
//! | `stacks` | the recorder of call stacks |
//! | `watched` | functions that the agent and the user both want |
//! | `hooks` | functions of the C library that the program reaches through us: threads, signals, exec |
//! | `allocator` | memory for this object alone: a probed `malloc` is never called from here |
//!
//! Whatever goes wrong, the program runs on, unprobed; the reason is in the log file that the segment names.
#![deny(unsafe_code)]

mod allocator;
mod arm;
mod environment;
mod fork;
mod hooks;
mod loader;
mod log;
mod objects;
mod segment;
mod stacks;
mod start;
mod watched;
