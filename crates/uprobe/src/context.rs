//! What a consumer sees of the program: its registers at the site.

use patch::Registers;

/// The registers at a hit. At an entry they are those of the instruction at the site; at a return
/// those after the function's `ret`. Changes take effect when the consumer is done, with two
/// exceptions: `rsp` and, at a return, `rip` are for reading only.
#[repr(C)]
#[derive(Debug)]
pub struct Context {
    /// General registers, instruction pointer, flags (only the arithmetic ones can be changed).
    pub registers: Registers,
    pub(crate) site: u32,
    pub(crate) pad: [u32; 3],
    /// The low 128 bits of the vector registers 0 to 15. The rest of them is as the program left
    /// it, out of a consumer's sight.
    pub xmm: [[u64; 2]; 16],
}

const _: () = assert!(size_of::<Context>() == 416, "the assembly sets aside that much");
const _: () = assert!(core::mem::offset_of!(Context, xmm) == 160, "the assembly stores them there");

impl Context {
    /// The n-th integer argument of the function, for n below 6, under the System V calling
    /// convention.
    pub fn argument(&self, n: usize) -> Option<u64> {
        let r = &self.registers;
        [r.rdi, r.rsi, r.rdx, r.rcx, r.r8, r.r9].get(n).copied()
    }
}
