//! Puts a freestanding image into a process, running or at its start, and takes it out again.
//!
//! A tool that instruments programs needs code of its own in them: in a service that cannot be
//! restarted, in static, musl and Go programs that load no library, and before the first
//! instruction of those that it starts. This crate brings an ELF image there that needs no C
//! library, calls its functions, and changes the program's code so that it leads to the image, from
//! outside, with the rights of the user who runs the process, and so that the process does not
//! notice.
//!
//! # Examples
//! ```
//! use inject::{Force, launch};
//! use std::process::Command;
//!
//! // A program, stopped before its first instruction, makes a system call for us.
//! let (mut child, pid) = launch(Command::new("true"), Force::default(), |stopped| {
//!     stopped.remote()?.call(libc::SYS_getpid, [0; 6])
//! })?;
//! assert_eq!(pid, Ok(child.id().into()));
//! assert!(child.wait()?.success());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A process that runs, an image, and a function of the program that leads to it:
//! ```no_run
//! use inject::{Force, Image, Patch, Target, Window};
//!
//! # fn example(pid: i32, jump: Patch, window: Window) -> Result<(), Box<dyn std::error::Error>> {
//! let image = Image::parse(&std::fs::read("image.elf")?)?;
//! let target = Target::probe(pid, Force::default())?; // or one line that says what to do
//! target.trace(|tracer| {
//!     let mapped = tracer.stop_all()?.remote()?.map(&image)?;
//!     let start = mapped.address("start").expect("a function of the image");
//!     let ready = tracer.call(&mapped, start, &[1, 2])?; // the program goes on meanwhile
//!     tracer.stop_all()?.patch(&[jump.clone()], &[window])?;
//!     // ... and out again.
//!     let mut stopped = tracer.stop_all()?;
//!     stopped.patch(&[jump.reversed()], &[])?;
//!     stopped.remote()?.unmap(&mapped)
//! })?;
//! # Ok(()) }
//! ```
//!
//! # What you give and get
//! - [`Target::probe`] looks at a process without touching it, and refuses with a reason
//!   ([`Refusal`]) what cannot be traced or could be harmed.
//! - [`Target::trace`] runs your work on a thread that traces. [`Tracer::stop_one`] and
//!   [`Tracer::stop_all`] give threads that stand ([`Stopped`]); dropping that lets them go.
//! - [`Stopped::remote`] makes system calls in the process ([`Remote::call`]), and brings an
//!   [`Image`] there ([`Remote::map`], [`Remote::unmap`]): below the program, code never writable,
//!   by way of a memory file that both sides have. [`Remote::map_shared`] maps a file of yours,
//!   [`Remote::send`] gives the process a descriptor of one.
//! - [`Tracer::find`] finds an image that was left there.
//! - [`Tracer::call`] runs a function of the image on a thread of its own.
//! - [`Stopped::patch`] replaces code while nobody runs it, and moves threads out of the way, also
//!   those that would come back into it from a signal handler.
//! - [`launch`] starts a program with work done before its first instruction; [`follow_exec`] does
//!   it to one that a process executes. No tracer stays.
//!
//! # What the process notices
//! Nothing that it could tell from being scheduled away for a while:
//! - System calls that were interrupted go on or are made again by the kernel's own rules, decided
//!   together with signals that arrive; so do those that would end with `EINTR` at any stop. A
//!   relative time limit of the latter (`epoll_wait`, `sigtimedwait`, `semtimedop`, sockets) starts
//!   anew. `connect` and `close` may end with `EINTR`.
//! - Signals that come meanwhile are delivered when it goes on. A process that is stopped by job
//!   control stays so. Of a traced process the kernel keeps signals, too, that the program ignores:
//!   one that arrives in the microseconds in which threads are let go one after the other may end
//!   the call of one that has just been let go with `EINTR`.
//! - A signal's handler that looks where it has interrupted the program may find the copy of an
//!   instruction there ([`Window`]), in the place of one that was replaced meanwhile.
//! - Restartable sequences are aborted as the kernel does it; blocked signals, the signal stack,
//!   vector registers and dispositions are kept.
//! - If this process is killed at any moment, the threads put themselves back. What was mapped
//!   stays then, and so do patches that were written, until the next one comes who maps an image
//!   ([`Remote::map`]) or uses the one that is there ([`Tracer::find`]); a few bytes behind the end
//!   of the program's code and two sockets go with the next remote call of anybody's. A call whose
//!   thread has just come to a stop and was not looked at yet may end with `EINTR`. A patch that
//!   lies in two pages is written in two steps: half of it may stay.
//!
//! # When not
//! - To watch what a process does step by step: a debugger. Here a process is only stopped to be
//!   changed.
//! - To load a library: it would come with a C library of its own. `LD_PRELOAD`, or `dlopen` by a
//!   debugger.
//!
//! # Limits
//! - x86-64 Linux 5.4 and later; 64-bit processes without a shadow stack, of the same user unless
//!   this one may trace others.
//! - Of a process that filters its system calls nobody knows whether one more kills it: it is
//!   refused unless forced ([`Force`]). If the filter came later, no system calls are made on
//!   threads that have it, but code can be replaced.
//! - Where a thread will return to from a function is not looked at: no instruction of a window but
//!   its last may be a call, and an image that program code calls into (rather than jumps through)
//!   can be left only by arrangement.
//! - Where a handler of a signal will return to is known by the frame that the kernel has made. A
//!   program that leaves handlers for other stacks and comes back later (threads of its own, taken
//!   turns with by a timer) must not be in one meanwhile; nor is a frame found that lies more than
//!   16 MiB above the stack pointer, or, on a stack in the middle of other memory (without a page
//!   below it that nobody can use), 128 KiB.
//! - While other threads run, they can see for the time of a few system calls that the process has
//!   one descriptor more ([`Remote::map`]).
//! - A set-user-ID program that is launched or followed has no privileges, unless this process has
//!   them.
//! - A thread that waits in the kernel and cannot be interrupted (a parent in `vfork`) is left
//!   waiting; it stops before it runs any code.
//!
//! # Costs
//! Smallest of 50 rounds on a 2-core VM that had other work (load 12 to 17): one thread stopped,
//! two system calls made and the thread put back 0.2 ms, with 500 threads 3 ms, of which most is
//! looking for a thread; all of 2, 20 and 500 threads 0.2, 0.5 and 13 ms; with 3,000 patches 0.5,
//! 0.8 and 17 ms, and with windows, for which all stacks are read, 0.2, 0.3 and 3 ms more. A launch
//! with an image mapped and a function of it called 1 ms over a bare one. Each remote call waits
//! twice for a processor: on a busy machine medians were many times as much. The example
//! `stopped_time` measures yours.
//!
//! # Sources
//! ptrace(2), signal(7), rseq(2), and `kernel/ptrace.c`, `kernel/signal.c` and
//! `arch/x86/kernel/signal.c` of Linux, for what is decided when. The trick of a thread that puts
//! itself back from a signal frame is that of checkpoint/restore tools (CRIU), turned around.
#![deny(unsafe_code)]

mod arch;
mod aside;
mod call;
mod error;
mod exec;
mod frames;
mod image;
mod launch;
mod left;
mod mapped;
mod maps;
mod memory;
mod patch;
mod proc;
mod ptrace;
mod refusal;
mod remote;
mod share;
mod stopped;
mod target;
mod tracer;

pub use arch::Registers;
pub use error::Error;
pub use exec::{Follower, follow_exec};
pub use image::{Image, ImageError, Symbol};
pub use launch::{Launch, launch};
pub use mapped::{Found, Mapped};
pub use patch::{Patch, Window};
pub use refusal::{Refusal, Refused};
pub use remote::Remote;
pub use stopped::Stopped;
pub use target::{Force, Target};
pub use tracer::Tracer;
