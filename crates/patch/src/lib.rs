//! How a function of a running program can be patched so that a probe sees every call: decode it,
//! find out what may be displaced, relocate that, or choose a breakpoint.
//!
//! You give the bytes of a function and their address; you get a [`Plan`]:
//!
//! * **[`Detour`]**: a jump of five bytes to a stub, which ends with the displaced instructions and
//!   a jump back ([`Detour::emit_body`]). Allowed when control gets into the five bytes only
//!   through the first, when all of the function that can be reached decodes, and when every
//!   displaced instruction can be written so that it does the same elsewhere. In the programs of a
//!   Debian system that is 98.8 to 100 % of the functions. A small function that branches into its
//!   own first bytes (a retry loop around `cmpxchg`) is moved as a whole.
//! * **[`Breakpoint`]**: `int3`, with the reason why there is no detour. After the trap the
//!   instruction is computed ([`Emulation`]), or run in its slot ([`Breakpoint::emit_slot`]).
//! * **[`Refusal`]**: neither, and why.
//!
//! With [`Options::exits`], it also says where the function is left: at each `ret` and at each jump
//! to another function. An [`Exit`] is a detour over the instructions that end there, and
//! [`Exit::emit`] puts a hook in front of the one that leaves. All of a function's exits are found,
//! or none, with the reason ([`NoExits`]); in the programs of a Debian system 95 to 99 % of the
//! functions have them. [`Surroundings`] is what may be looked at for that: jump tables, and parts
//! of the function that lie elsewhere.
//!
//! A plan also says which registers and flags are dead at the site, so that a stub need not save
//! them ([`Liveness`]); whether the function branches back to the site, so that a hit is not always
//! a call, and how those branches are led past the probe ([`BackBranch`]); and whether the function
//! meddles with its return address, so that a return probe would be seen ([`Plan::returns`]). What
//! was emitted comes with a map ([`Body`]) between relocated and original instructions, in both
//! directions: for signal handlers, unwinders and threads that were caught inside the jump while it
//! was written. [`trap_safe_targets`] chooses jumps that can be written under running threads.
//!
//! A plan is data, and can be made elsewhere than where it is used: [`encode`] writes some 50 bytes
//! that do not depend on where the object is loaded, [`decode`] reads them, and to emit takes no
//! decoder; [`Catalogue`] and [`Decisions`] are for many of one object. Without the feature `plan`
//! (on by default) that is all there is, and the crate has no dependency. `no_std` with `alloc`
//! either way.
//!
//! Pure code for **x86-64**: bytes and addresses in, bytes and addresses out. It touches no
//! process, makes no system call and runs on any host; the one exception is [`Emulation::apply`],
//! which is unsafe and reads and writes the calling process's stack. Planning and emitting
//! allocate; [`Body::present`], [`Body::relocated`] and [`Emulation::apply`] do not and may be
//! called in a signal handler.
//!
//! # Example
//! ```
//! use patch::{Function, Method, Options};
//!
//! // push rbp; mov rbp,rsp; lea rax,[rip+0x2000]; pop rbp; ret
//! let code = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x8d, 0x05, 0x00, 0x20, 0x00, 0x00, 0x5d, 0xc3];
//! let function = Function { address: 0x40_1000, code: &code, after: &[], site: 0 };
//! let plan = patch::plan(&function, &Options::default())?;
//!
//! let Method::Detour(detour) = &plan.method else { panic!("{}", plan.method) };
//! assert_eq!(detour.window(), 11); // three whole instructions; the jump takes five bytes of them
//! assert_eq!(detour.boundaries(), [1, 4]); // a thread may have been preempted there
//! assert!(plan.live.rdi && !plan.loops && plan.returns.is_ok());
//!
//! // The stub: first whatever the probe does, then the displaced instructions and the jump back.
//! let (stub, mut bytes) = (0x40_8000, Vec::new());
//! let body = detour.emit_body(stub, &mut bytes)?;
//! assert_eq!(bytes[..7], [0x55, 0x48, 0x89, 0xe5, 0x48, 0x8d, 0x05]);
//! // The same operand, seen from the stub.
//! assert_eq!(i32::from_le_bytes(bytes[7..11].try_into()?), 0x40_300b - 0x40_800b);
//!
//! // A signal that arrives at the relocated `mov` shows the original one.
//! assert_eq!(body.present(1).unwrap().ip, 0x40_1001);
//! assert_eq!(body.relocated(0x40_100b), Some(11)); // the jump back
//!
//! // What is written at the site.
//! assert_eq!(patch::jump(plan.site, stub), Some([0xe9, 0xfb, 0x6f, 0x00, 0x00]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//! * The bounds of the function are believed. A fragment of a function (`.cold` parts) is not a
//!   function: its first instruction does not find the return address on top of the stack, and its
//!   red zone may be in use.
//! * A jump table or computed jump that leads into bytes 1 to 4 of the window is not seen, unless
//!   the label's address is taken by `lea` in the function, or is in [`Options::branch_targets`].
//!   So are other functions' jumps into this one: [`branch_targets`] finds them, and where tables
//!   may be.
//! * Exits are found by following all ways through the function. A jump that is not understood, or
//!   code that no way leads to, and the function has none; what is given as landing pads and other
//!   [`Options::branch_targets`] is believed to be all that leads into it from outside.
//! * A jump to another place counts as leaving the function where the stack is as at its entry,
//!   unless that place is known to be a part of it ([`Piece::part`]) or jumps back into it. A part
//!   that does neither is taken for another function.
//! * What is dead where a function leaves is what it overwrites itself, if it saves the registers
//!   that the System V ABI wants saved. Assembly that does, and still returns something in other
//!   registers than the ABI's, is not told from compiled code.
//! * A relocated `syscall` leaves its own address behind in rcx.
//! * Dead means dead to the program: a signal handler that looks at a register which its function
//!   is about to overwrite may see another value.
//!
//! # Costs
//! 25 us for a function of 200 bytes, both walks and the relocation included, without optimisation
//! 60 us. With exits some 40 us more. Sizes of relocated code: the window and five bytes; 29 more
//! for a call, 7 for a loop, 5 for a conditional jump that leaves.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod arch;
#[cfg(feature = "plan")]
mod back_branches;
mod catalogue;
#[cfg(feature = "plan")]
mod choose;
mod codec;
#[cfg(feature = "plan")]
mod elsewhere;
mod exit;
#[cfg(feature = "plan")]
mod exits;
#[cfg(feature = "plan")]
mod function;
#[cfg(feature = "plan")]
mod landing_pads;
#[cfg(feature = "plan")]
mod make;
mod method;
mod plan;
mod refusal;

#[cfg(feature = "plan")]
pub use arch::x86_64::branches::{branch_before, branch_targets};
pub use arch::x86_64::{
    body::{Body, Presented, Step},
    emulate::{Emulation, Memory},
    liveness::Liveness,
    registers::Registers,
    template::Redirect,
    trap_safe::{TRAPS, Targets, Trap, jump, trap_safe, trap_safe_targets},
};
pub use catalogue::{Catalogue, Decisions};
#[cfg(feature = "plan")]
pub use choose::plan;
pub use codec::{Decision, Malformed, decode, encode, sites};
#[cfg(feature = "plan")]
pub use elsewhere::{Image, branches_elsewhere, near};
pub use exit::{Exit, Hook, Leave, Leaving};
#[cfg(feature = "plan")]
pub use exits::keep_apart;
#[cfg(feature = "plan")]
pub use function::{Convention, Function, Options, Piece, Surroundings};
#[cfg(feature = "plan")]
pub use landing_pads::landing_pads;
pub use method::{Breakpoint, Detour, Method, Resume};
pub use plan::{BackBranch, Plan, Probe};
pub use refusal::{NoDetour, NoExits, NoReturn, Refusal};

/// The example of the page that a registry shows is a test.
#[cfg(all(doctest, feature = "plan"))]
#[doc = include_str!("../README.md")]
struct Readme;
