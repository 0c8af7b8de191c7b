//! The freestanding image that `trapline` puts into processes from outside.
//!
//! Glue only: the engine is [`uprobe`], what is probed and counted is in the [`wire`] segment, what
//! comes in from outside and goes out is [`wire::image`]'s to say. It has no C library, and no use
//! for that of the process: whatever it needs it asks the kernel for.
//!
//! | module | what |
//! |---|---|
//! | `calls` | the functions that whoever has put it there calls |
//! | `control` | a thread pointer for them |
//! | `host` | where the words of threads are |
//! | `segment` | the segment, and blocks for threads |
//! | `objects` | what is loaded |
//! | `stacks` | call stacks of hits, where the segment wants them |
//! | `memory` | how much of it there is |
//! | `arm` | from the segment's functions to the engine's targets, and back to states |
//! | `hooks` | probes of the image's own: libraries and programs to come, signals |
//! | `fresh` | what is known of a process that has yet to run |
//! | `known` | what was looked through already |
//! | `threads` | threads that are started |
//! | `panics` | what becomes of a panic |
//!
//! A hit makes no system call, but for those of `hooks`; a thread's first takes a block of the
//! segment. With stacks, the first sight of an address or a stack makes some, too.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod arm;
mod calls;
mod control;
mod fresh;
mod hooks;
mod host;
mod known;
mod memory;
mod objects;
mod panics;
mod segment;
mod stacks;
mod threads;

/// Memory for the image alone.
#[global_allocator]
static MEMORY: resident::Allocator = resident::Allocator::new();
