//! Any system call, by number ([`crate::number`]).
//!
//! Numbers and pointers are `usize`; an `i32` that may be negative is sign-extended
//! (`as isize as usize`), as a C compiler would.
//!
//! # Context
//! As the call's.
#![allow(unsafe_code)]

use crate::Errno;
use crate::arch::call::call;

macro_rules! raw {
    ($($name:ident($($argument:ident),*; $($zero:literal),*), $text:literal;)+) => {$(
        #[doc = concat!("A system call with ", $text, ".")]
        ///
        /// # Errors
        /// The kernel's.
        ///
        /// # Safety
        /// The system call with these arguments does nothing that the caller may not do: pointers
        /// are what the call takes them for, memory that it changes, maps or unmaps is the
        /// caller's.
        #[inline(always)]
        pub unsafe fn $name(number: usize, $($argument: usize),*) -> Result<usize, Errno> {
            // SAFETY: the caller's promise; a call ignores arguments that it does not take.
            Errno::check(unsafe { call(number, [$($argument,)* $($zero),*]) })
        }
    )+};
}

raw! {
    syscall0(; 0, 0, 0, 0, 0, 0), "no argument";
    syscall1(a; 0, 0, 0, 0, 0), "one argument";
    syscall2(a, b; 0, 0, 0, 0), "two arguments";
    syscall3(a, b, c; 0, 0, 0), "three arguments";
    syscall4(a, b, c, d; 0, 0), "four arguments";
    syscall5(a, b, c, d, e; 0), "five arguments";
    syscall6(a, b, c, d, e, f;), "six arguments";
}
