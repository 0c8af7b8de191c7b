//! How a function of a running program can be patched so that a probe sees every call: decode it, find out what may be displaced, relocate that, or choose a breakpoint.
//!
//! Pure code for **x86-64**: bytes and addresses in, bytes and addresses out. It touches no process, makes no system call and needs no particular host; the one exception is
//! [`Emulation::apply`], which is unsafe and reads and writes the calling process's stack.
#![deny(unsafe_code)]

mod arch;
mod function;
mod plan;
mod refusal;

pub use arch::x86_64::{
    body::{Body, Presented, Step},
    branches::branch_targets,
    emulate::{Emulation, Memory},
    hop::{TRAPS, Targets, Trap, jump, trap_safe, trap_safe_targets},
    liveness::Liveness,
    registers::Registers,
};
pub use function::{Function, Options};
pub use plan::{Breakpoint, Detour, Method, Plan, Probe, Resume, plan};
pub use refusal::{NoDetour, NoReturn, Refusal};
