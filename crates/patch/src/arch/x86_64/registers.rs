//! The general registers of an interrupted thread.

/// The general registers, in the order of their numbers in instructions, then the instruction
/// pointer and the flags.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct Registers {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

const _: () =
    assert!(size_of::<Registers>() == 18 * 8, "assembly stores sixteen registers, rip and rflags");
const _: () = assert!(core::mem::offset_of!(Registers, rip) == 128, "rip is behind r15");

impl Registers {
    /// These, but those that are as in `same` are taken from `other`: what somebody who was shown
    /// `same` has changed, applied to `other`.
    pub fn or_where_same(&self, same: &Self, other: &Self) -> Self {
        let pick = |own: u64, same: u64, other: u64| if own == same { other } else { own };
        macro_rules! each {
            ($($name:ident)*) => { Self { $($name: pick(self.$name, same.$name, other.$name)),* } };
        }
        each!(rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15 rip rflags)
    }

    /// The register with this number (0 rax, 1 rcx, 2 rdx, 3 rbx, 4 rsp, 5 rbp, 6 rsi, 7 rdi, 8 to
    /// 15 r8 to r15). Numbers wrap at 16.
    #[inline]
    pub fn get(&self, number: u8) -> u64 {
        match number & 15 {
            0 => self.rax,
            1 => self.rcx,
            2 => self.rdx,
            3 => self.rbx,
            4 => self.rsp,
            5 => self.rbp,
            6 => self.rsi,
            7 => self.rdi,
            8 => self.r8,
            9 => self.r9,
            10 => self.r10,
            11 => self.r11,
            12 => self.r12,
            13 => self.r13,
            14 => self.r14,
            _ => self.r15,
        }
    }
}
