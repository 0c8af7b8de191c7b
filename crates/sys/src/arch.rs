//! What differs between processors: the instruction, the numbers, two structures, the way back from
//! a signal handler. Each folder offers the same names.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub use aarch64::*;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
compile_error!("trapline-sys knows the system calls of x86-64 and aarch64 only");
