//! What the kernel has given to the program.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char};

/// What the kernel has started.
pub(crate) struct Program {
    /// The number of arguments, then their addresses.
    pub(crate) arguments: *const usize,
    /// Where its first byte is.
    pub(crate) base: u64,
}

impl Program {
    /// An argument, if there are as many.
    pub(crate) fn argument(&self, index: usize) -> Option<&'static CStr> {
        // SAFETY: the first word on the stack at the first instruction.
        let number = unsafe { self.arguments.read() };
        let place = self.arguments.wrapping_add(1 + index).cast::<*const c_char>();
        (index < number).then(|| {
            // SAFETY: there are as many.
            let argument = unsafe { place.read() };
            // SAFETY: arguments are strings of C, and stay where they are.
            unsafe { CStr::from_ptr(argument) }
        })
    }

    /// The end of the first stack, or not far from it: it ends with what arguments are made of.
    pub(crate) fn stack_end(&self) -> u64 {
        let last =
            (0..).map_while(|n| self.argument(n)).map(|a| a.to_bytes_with_nul().as_ptr_range());
        last.map(|bytes| bytes.end.addr() as u64).max().unwrap_or(0)
    }
}
