//! Thousands of small functions, made at run time, for the cost of arming many at once.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

/// What compilers put at a function's start, and what makes it whole again: first the probed part,
/// then a sum in rax, then the end.
const BODIES: [&[u8]; 6] = [
    // push rbp; mov rbp, rsp; lea rax, [rdi + 7]; pop rbp; ret
    &[0x55, 0x48, 0x89, 0xe5, 0x48, 0x8d, 0x47, 0x07, 0x5d, 0xc3],
    // push rbx; sub rsp, 16; lea rax, [rdi + 7]; add rsp, 16; pop rbx; ret
    &[0x53, 0x48, 0x83, 0xec, 0x10, 0x48, 0x8d, 0x47, 0x07, 0x48, 0x83, 0xc4, 0x10, 0x5b, 0xc3],
    // mov rax, rdi; add rax, 7; ret
    &[0x48, 0x89, 0xf8, 0x48, 0x83, 0xc0, 0x07, 0xc3],
    // endbr64; lea rax, [rdi + 7]; ret
    &[0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8d, 0x47, 0x07, 0xc3],
    // test edi, edi; jz to the end; nop; lea rax, [rdi + 7]; ret
    &[0x85, 0xff, 0x74, 0x01, 0x90, 0x48, 0x8d, 0x47, 0x07, 0xc3],
    // lea rax, [rip + 0]; lea rax, [rdi + 7]; ret
    &[0x48, 0x8d, 0x05, 0x00, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x47, 0x07, 0xc3],
];

/// Functions lie this far apart, with 0xcc in between.
const STRIDE: usize = 32;

/// A mapping full of functions, each of which returns its argument plus seven. It is never
/// unmapped: stubs jump back into it.
pub(super) struct Village {
    start: NonNull<u8>,
    functions: usize,
}

impl Village {
    /// Builds that many.
    pub(super) fn build(functions: usize) -> io::Result<Self> {
        let mut code = vec![0xcc_u8; functions * STRIDE];
        for (number, place) in code.chunks_exact_mut(STRIDE).enumerate() {
            let body = BODIES[number % BODIES.len()];
            place[..body.len()].copy_from_slice(body);
        }
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), code.len(), access, kind, -1, 0) };
        let Some(start) = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED)
        else {
            return Err(io::Error::last_os_error());
        };
        let village = Self { start, functions };
        // SAFETY: the mapping is writable, as long as `code`, and nobody else knows it.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), start.as_ptr(), code.len()) };
        // SAFETY: the mapping is ours; nothing refers to it as data from here on.
        let rc = unsafe {
            libc::mprotect(start.as_ptr().cast(), code.len(), libc::PROT_READ | libc::PROT_EXEC)
        };
        if rc == 0 { Ok(village) } else { Err(io::Error::last_os_error()) }
    }

    /// Address and length of each function.
    pub(super) fn functions(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..self.functions).map(|number| {
            let start = self.start.as_ptr() as u64 + (number * STRIDE) as u64;
            (start, BODIES[number % BODIES.len()].len() as u64)
        })
    }

    /// Calls every function once and says how many answered right.
    pub(super) fn call_all(&self) -> usize {
        let right = |&(start, _): &(u64, u64)| {
            // SAFETY: at `start` is a function of the C convention that computes a sum.
            let function: extern "C" fn(u64) -> u64 =
                unsafe { std::mem::transmute(start as usize) };
            function(35) == 42
        };
        self.functions().filter(right).count()
    }
}

#[cfg(test)]
mod tests {
    use super::{BODIES, Village};

    #[test]
    fn every_body_answers() {
        let village = Village::build(2 * BODIES.len()).expect("a mapping");
        assert_eq!(village.call_all(), 2 * BODIES.len());
    }
}
