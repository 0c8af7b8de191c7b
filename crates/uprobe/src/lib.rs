//! A probe engine in user space: entry and return probes on functions of the running process,
//! without traps where it can be done.
//!
//! [`Engine::start`] sets the process up; a [`Batch`] of [`Target`]s is armed in one go, quietly or
//! while threads run; each target comes back as [`Armed`] or with a [`Refusal`]. A probe counts
//! into a cell of the thread's own block of memory ([`Action::Count`], [`Action::Time`],
//! [`Action::CountReturn`]), or calls Rust functions ([`Action::Call`]). It is what the `trapline`
//! agent is made of, and knows nothing of symbols, files or other processes.
//!
//! # How
//! The first bytes of a function become a jump to a stub near it, which acts and runs the relocated
//! instructions; where there is no room for a jump, a breakpoint, handled in the process. What can
//! be done is the `patch` crate's decision. A return is seen at the function's *exits*, if all of
//! them have room: each `ret` and each jump to another function has a jump to a stub, too. Pending
//! calls are on *shadow stacks* beside the program's stacks, on which nothing is put: whoever looks
//! at them sees what is there without us, and how many coroutines are suspended makes no
//! difference. What an entry or an exit proves to have been left is counted as that.
//!
//! Where an exit has no room, the address of an *instance* (64 bytes of code and a record) is put
//! in the place of the return address, which has exact unwind information: exceptions, `longjmp`,
//! `backtrace` and debuggers find the true caller. An instance is free again when its function
//! returned, or when its stack slot no longer holds its address. [`Target::by`] chooses,
//! [`Armed::returns`] says which it is.
//!
//! A function that branches back to its own first byte is not called thereby: those branches are
//! patched, too, and lead past the probe. A probe that only counts entries never touches a return
//! address.
//!
//! # In a process that is not yours
//! Without the feature `std` the engine is part of an image that is put into a process from
//! outside, and uses no C library and no thread-local storage. The image calls
//! `percpu::host::supply`, then `host::supply`, then [`Engine::start`] (the items are in the
//! documentation of builds with `--no-default-features`). Differences:
//! - A thread is a control block. Where a C library gives one to another thread, that one goes on
//!   in the block of cells; [`Hooks::thread_exit`](Hooks) is called only if the image can tell
//!   (`percpu::tls::thread_has_ended`).
//! - A fork child finds that it is one at its first hit, however it was made.
//! - Returns at exits only: no loader knows the image, so unwinders would not find the stubs that
//!   instances return by. Where exits have no room, what asks for returns is told
//!   [`Armed::entry_only`].
//! - [`Batch::commit_outside`] leaves the writing to whoever has stopped the process. Stubs come
//!   from memory files: no memory is made executable that was writable (`PR_SET_MDWE` forbids it).
//!
//! Without the feature `plan` nothing is decided in the process: [`Batch::add_decided`] or
//! [`Refusal::OtherCode`].
//!
//! # Examples
//! ```
//! use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
//! use uprobe::{Action, Config, Engine, Hooks, Patching, Target};
//!
//! // Something to probe, whose size is known: a push, a lea, a pop and a ret.
//! std::arch::global_asm!(
//!     ".balign 16",
//!     "double:",
//!     "push rbx",
//!     "lea rax, [rdi + rdi]",
//!     "pop rbx",
//!     "ret",
//!     ".balign 16, 0xcc",
//! );
//! unsafe extern "C" {
//!     safe fn double(n: u64) -> u64;
//! }
//!
//! // A block of cells for each of at most four threads. One cell is enough here, at offset 0.
//! #[repr(align(64))]
//! struct Block([AtomicU64; 64]);
//! static BLOCKS: [Block; 4] = [const { Block([const { AtomicU64::new(0) }; 64]) }; 4];
//! static TAKEN: AtomicUsize = AtomicUsize::new(0);
//!
//! fn thread_start() -> *mut u8 {
//!     let block = BLOCKS.get(TAKEN.fetch_add(1, Ordering::Relaxed));
//!     block.map_or(std::ptr::null_mut(), |b| b.0.as_ptr().cast_mut().cast())
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hooks = Hooks { thread_start, thread_exit: |_| (), lost: |_| () };
//!
//! let engine = Engine::start(hooks, Config::default())?;
//! let mut batch = engine.batch();
//! let entry = Target::entry(double as *const () as u64, 7, Action::Count { cell: 0 });
//! batch.add(Target { after: 9, ..entry });
//! let armed = batch.commit(Patching::Live).remove(0)?;
//!
//! assert_eq!((1..=10).map(|n| double(n)).sum::<u64>(), 110);
//! let calls = BLOCKS.iter().map(|b| b.0[wire::cell::CALLS / 8].load(Ordering::Relaxed));
//! let calls: u64 = calls.sum();
//! assert_eq!(calls, 10);
//!
//! engine.remove(&[armed.id], Patching::Live)?;
//! assert_eq!(double(4), 8);
//! # Ok(())
//! # }
//! ```
//!
//! # Costs
//! Over the bare call, on a 2-core EPYC VM: an entry counted 0.6 to 0.8 ns; entry and return
//! counted 8 ns by instances (by exits less than a third of that); with a time and a histogram 26
//! ns, of which two time-stamp reads are 19; a consumer 13 ns, with all vector registers saved 41;
//! a breakpoint 2.4 us. `cargo run --release -p trapline-uprobe --example probe_cost` prints them
//! for your machine. In an image an entry counted costs the same (0.49 ns where both were
//! measured). Memory: 3 KiB a site at most, 4 KiB for 63 pending returns, 32 MiB of address space;
//! in an image no instances, and 17 MiB.
//!
//! # When not
//! * To probe another process: preload an object with this engine into it (`trapline`).
//! * Code that is written at run time by somebody else.
//! * Shadow stacks of the processor's (CET) forbid return instances.
//!
//! # Limits
//! * x86-64; with `std`, glibc. 131,072 control blocks in an image. 262,144 return instances in a
//!   process; at exits five million pending calls on a thread's own stack, and 32,768 pages of
//!   others; 131,072 goroutines at a time, with 1.4 million pending calls each; then calls are
//!   counted without a time.
//! * A program that copies stacks away and back loses times ([`Loss::Overlap`]).
//! * A breakpoint kills a thread that has blocked SIGTRAP by a system call of its own. Dispositions
//!   and masks have to go through [`signals`], which a preloaded agent arranges.
//! * A process that gives up its time-stamp counter must not be timed.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

mod activation;
mod arch;
mod armed;
mod back_branches;
mod batch;
mod breakpoint;
mod c_signals;
mod chosen;
mod chunk;
mod consumer;
mod context;
mod counting;
#[cfg(feature = "plan")]
mod decided_here;
mod descriptor;
mod engine;
mod exits;
mod fork;
mod goroutine_calls;
mod goroutines;
pub mod host;
#[cfg(feature = "plan")]
mod image;
mod instance;
mod kernel;
#[cfg(test)]
mod leaderless;
mod lists;
mod live;
mod looks;
mod mapping;
mod maps;
mod near;
mod original;
mod outside;
mod own_code;
mod parts;
mod pending;
mod planned;
mod planning;
mod process;
mod prologue;
mod recorder;
mod refusal;
mod registered;
mod sealed;
mod shadow;
pub mod signals;
mod site_code;
mod site_table;
mod sites;
mod slots;
mod slow_path;
mod stacks;
mod statistics;
mod stubs;
mod sync_core;
mod target;
#[doc(hidden)]
pub mod testing;
mod text;
mod thread;
mod thread_state;
mod trampolines;
mod trap;
mod trap_table;
mod unsettled;
mod wipe_on_fork;
mod work;

pub use armed::{Armed, EntryOnly, Method, Seen};
pub use batch::{Batch, Prepared};
pub use consumer::{GracePeriod, TooMany, sync};
pub use context::Context;
pub use counting::{add_own, count_call, count_call_in_consumer, count_span};
pub use engine::{Config, Engine, SiteId};
pub use instance::original_return_address;
pub use kernel::readable;
pub use outside::Change;
pub use own_code::{own_code, slowly};
pub use recorder::{Hooks, LOSSES, Loss, losses};
pub use refusal::Refusal;
pub use registered::{Consumer, ConsumerId, Span, Vectors, Verdict};
pub use sealed::{is_sealed, seal};
pub use sites::Patching;
pub use slots::SlotPolicy;
pub use stacks::put_aside;
pub use statistics::{Statistics, statistics};
pub use target::{Action, Returns, Target};
pub use thread::{SetupError, prepare_started_thread, prepare_thread};
pub use thread_state::{own_stack, thread_word};
pub use wipe_on_fork::Lock;
