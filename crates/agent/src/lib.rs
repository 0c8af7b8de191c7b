//! The shared object that `trapline` puts inside a program with `LD_PRELOAD`.
//!
//! Glue only: the engine is [`uprobe`], what is probed and counted is in the [`wire`] segment,
//! names are the command line's business. Its constructor runs before the program's
//! (`-z initfirst`): it maps the segment, takes its variables out of the environment, and arms the
//! functions of everything that is loaded.
//!
//! | module | what |
//! |---|---|
//! | `start` | the constructor |
//! | `announce` | what the command line learns of a process |
//! | `segment` | the one mapped segment, and blocks for threads |
//! | `objects` | what is loaded |
//! | `identity` | which file an object is |
//! | `namespaces` | what is loaded in namespaces that `dlmopen` has made |
//! | `follow` | programs that are executed without the agent |
//! | `fetch` | its files |
//! | `own_probes`, `watched` | functions that the agent probes for itself, and that the user may want, too |
//! | `decided` | what the command line has decided about them |
//! | `arm` | from the segment's functions to the engine's targets, and back to states |
//! | `loader` | libraries that are opened and closed later |
//! | `overwritten` | probes that the program has written over |
//! | `stacks` | the recorder of call stacks |
//! | `sandbox`, `bpf`, `control_block` | filters of system calls: what they say, and doing without |
//! | `hooks` | functions of the C library that the program reaches through us: threads, signals, exec, mappings |
//! | [`resident`] | what every agent has: memory of its own, blocks for threads |
//!
//! Whatever goes wrong, the program runs on, unprobed; the reason is in the segment's log.
#![deny(unsafe_code)]

mod announce;
mod arm;
mod bpf;
mod control_block;
mod decided;
mod environment;
mod fetch;
mod follow;
mod fork;
mod hooks;
mod identity;
mod loader;
mod log;
mod namespaces;
mod objects;
mod overwritten;
mod own_probes;
mod sandbox;
mod segment;
mod stacks;
mod start;
mod watched;

/// Memory for this object alone: a probed `malloc` is never called from here.
#[cfg_attr(not(test), global_allocator)]
static MEMORY: resident::Allocator = resident::Allocator::new();
