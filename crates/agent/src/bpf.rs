//! What a filter of system calls says: classic BPF, as seccomp runs it.

use libc::{sock_filter, sock_fprog};

/// `struct seccomp_data` in words: the number, the architecture, the instruction's address, six
/// arguments.
type Data = [u32; 16];
const ARCHITECTURE: u32 = 0xc000_003e;

/// Instructions that are run for one answer; the kernel takes no longer programs, and they do not
/// loop.
const MOST: usize = 4096;

// Instructions, by class; the others of classic BPF look at packets, and the kernel refuses them.
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;

/// What the filter answers to a call with this number and arguments that are 0. `None`: it is not
/// one that the kernel would take.
pub(crate) fn answer(program: &[sock_filter], number: u32) -> Option<u32> {
    let mut data: Data = [0; 16];
    (data[0], data[1]) = (number, ARCHITECTURE);
    let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; 16]);
    let mut at = 0_usize;
    for _ in 0..MOST {
        let instruction = program.get(at)?;
        at += 1;
        let (code, k) = (instruction.code, instruction.k);
        let operand = if code & 8 == 0 { k } else { x };
        match code & 7 {
            RET => return Some(if code & 0x18 == 0x10 { a } else { k }),
            class @ (LD | LDX) => {
                let value = match code & 0xe0 {
                    // BPF_IMM
                    0 => k,
                    // BPF_ABS: a word of the data
                    0x20 => *data.get(k as usize / 4)?,
                    // BPF_MEM
                    0x60 => *memory.get(k as usize)?,
                    // BPF_LEN
                    0x80 => size_of::<Data>() as u32,
                    _ => return None,
                };
                if class == LD { a = value } else { x = value }
            }
            ST => *memory.get_mut(k as usize)? = a,
            STX => *memory.get_mut(k as usize)? = x,
            ALU => {
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x10 => a.wrapping_sub(operand),
                    0x20 => a.wrapping_mul(operand),
                    0x30 => a.checked_div(operand).unwrap_or(0),
                    0x40 => a | operand,
                    0x50 => a & operand,
                    0x60 => a.checked_shl(operand).unwrap_or(0),
                    0x70 => a.checked_shr(operand).unwrap_or(0),
                    0x80 => a.wrapping_neg(),
                    0xa0 => a ^ operand,
                    _ => return None,
                }
            }
            JMP => {
                let holds = match code & 0xf0 {
                    0x00 => {
                        at += k as usize;
                        continue;
                    }
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    0x40 => a & operand != 0,
                    _ => return None,
                };
                at += usize::from(if holds { instruction.jt } else { instruction.jf });
            }
            // BPF_MISC
            _ if code & 0x80 == 0 => x = a,
            _ => a = x,
        }
    }
    None
}

/// Whether a call with that number goes through, or is refused with an error at most: neither
/// killed, nor trapped, nor left to somebody else to decide.
pub(crate) fn spares(program: &[sock_filter], number: libc::c_long) -> bool {
    const ACTION: u32 = 0xffff_0000;
    let answer = answer(program, number as u32).map(|answer| answer & ACTION);
    [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG, libc::SECCOMP_RET_ERRNO]
        .into_iter()
        .any(|spared| answer == Some(spared))
}

/// The instructions of a program.
///
/// # Safety
/// It is readable, and nobody changes it meanwhile.
#[allow(unsafe_code)]
pub(crate) unsafe fn instructions<'a>(program: *const sock_fprog) -> &'a [sock_filter] {
    // SAFETY: the caller's.
    let program = unsafe { program.read() };
    if program.filter.is_null() {
        return &[];
    }
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(program.filter, usize::from(program.len)) }
}

#[cfg(test)]
mod tests {
    use super::{answer, spares};
    use libc::sock_filter;

    const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    fn of(instructions: &[(u16, u8, u8, u32)]) -> Vec<sock_filter> {
        instructions.iter().map(|&(code, jt, jf, k)| sock_filter { code, jt, jf, k }).collect()
    }

    #[test]
    fn lists_of_numbers() {
        // Loads the number; 1 and 60 are allowed, 2 fails, all others kill.
        let program = of(&[
            (0x20, 0, 0, 0),
            (0x15, 3, 0, 1),
            (0x15, 2, 0, 60),
            (0x15, 2, 0, 2),
            (0x06, 0, 0, KILL),
            (0x06, 0, 0, ALLOW),
            (0x06, 0, 0, libc::SECCOMP_RET_ERRNO | 1),
        ]);
        assert_eq!([1, 60, 7].map(|n| answer(&program, n)), [Some(ALLOW), Some(ALLOW), Some(KILL)]);
        assert_eq!([1, 2, 3].map(|n| spares(&program, n)), [true, true, false]);
    }

    #[test]
    fn arithmetic_memory_and_ranges() {
        // The architecture has to be this one; numbers are kept, masked, and compared in ranges.
        let program = of(&[
            (0x20, 0, 0, 4),
            (0x15, 1, 0, super::ARCHITECTURE),
            (0x06, 0, 0, KILL),
            (0x20, 0, 0, 0),
            (0x02, 0, 0, 3),
            (0x54, 0, 0, 0xff),
            (0x07, 0, 0, 0),
            (0x60, 0, 0, 3),
            (0x1c, 0, 0, 0),
            (0x35, 1, 0, 0x100),
            (0x06, 0, 0, ALLOW),
            (0x16, 0, 0, 0),
        ]);
        assert_eq!(answer(&program, 0x2a), Some(ALLOW));
        assert_eq!(answer(&program, 0x32a), Some(0x300), "what is left of it is the answer");
    }

    #[test]
    fn no_program_of_the_kernels() {
        assert_eq!(answer(&[], 1), None);
        assert_eq!(answer(&of(&[(0x05, 0, 0, 77)]), 1), None, "a jump behind the end");
        assert_eq!(answer(&of(&[(0x20, 0, 0, 64), (0x06, 0, 0, ALLOW)]), 1), None);
        assert!(!spares(&of(&[(0xff, 0, 0, 0)]), 1));
    }
}
