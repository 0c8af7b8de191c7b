//! The restartable sequences.
//!
//! All have one shape. Pseudo-code, with the labels as in the assembly:
//!
//! ```text
//! 2:  area.rseq_cs = descriptor(start = 3, end = 4, abort = 6)
//! 3:  if gate != 0                  -> exit CLOSED
//!     cpu = area.cpu_id
//!     if cpu >= slots               -> exit UNREGISTERED     (an unregistered area says -1)
//!     ... compute; exits EMPTY, FULL ...
//!     slot[cpu].word = new          the commit, one store
//! 4:
//! 6:  goto 2                        where the kernel sends a thread that was disturbed between 3 and 4
//! ```
//!
//! The descriptor is left in the area: the kernel ignores and clears it when it finds the thread elsewhere. The exits and the abort handler are out of line. An abort
//! handler is preceded by the signature that was registered, so that nobody can point the kernel at other code.
//!
//! Nothing before the commit may be wrong to repeat: the only stores there go to links that the caller owns.
#![allow(unsafe_code)]

use super::area::{self, CPU_ID, RSEQ_CS, SIGNATURE};
use crate::CachePadded;
use crate::rseq::Refused;
use crate::rseq::lifo::{Chain, DEPTH_SHIFT, ENTRY_MASK, Lifo, Outcome, USER_MASK, VERSION_SHIFT, WORD_BITS};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// log2 of the distance between two slots.
const SLOT_SHIFT: u32 = 7;

const _: () = assert!(size_of::<CachePadded<AtomicU64>>() == 1 << SLOT_SHIFT, "the assembly shifts the CPU's number");

/// Descriptor, entry and gate: everything before the work of a sequence. `{t}` is scratch, `{code}` is set for each exit before it can be taken.
macro_rules! begin {
    () => {
        concat!(
            ".pushsection __rseq_cs,\"aw\",@progbits\n",
            ".balign 32\n",
            "5:\n",
            ".long 0, 0\n",
            ".quad 3f, 4f - 3f, 6f\n",
            ".popsection\n",
            ".pushsection .text.unlikely.trapline_rseq,\"ax\",@progbits\n",
            // The signature as the operand of an undefined instruction: disassemblers stay in step, and nobody runs into it.
            ".byte 0x0f, 0xb9, 0x3d\n",
            ".long {sig}\n",
            "6:\n",
            "jmp 2f\n",
            ".popsection\n",
            "2:\n",
            "lea {t}, [rip + 5b]\n",
            "mov qword ptr fs:[{off} + {cs}], {t}\n",
            "3:\n",
            "cmp qword ptr [{gate}], 0\n",
            "jne 7f\n",
            "mov {cpu:e}, dword ptr fs:[{off} + {id}]\n",
            "cmp {cpu:e}, {n:e}\n",
            "jae 8f\n",
        )
    };
}

/// The end of a sequence and its two common exits. `{entry}` 0 says that nothing was committed.
macro_rules! finish {
    ($($more:expr),*) => {
        concat!(
            "4:\n",
            ".pushsection .text.unlikely.trapline_rseq,\"ax\",@progbits\n",
            "7:\n",
            "mov {code:e}, {closed}\n",
            "jmp 20f\n",
            "8:\n",
            "mov {code:e}, {unregistered}\n",
            "jmp 20f\n",
            $($more,)*
            "20:\n",
            "xor {entry:e}, {entry:e}\n",
            "jmp 4b\n",
            ".popsection\n",
        )
    };
}

/// Adds `value` to this CPU's cell.
#[inline(always)]
pub(crate) fn add(gate: &AtomicU64, cells: &[CachePadded<AtomicU64>], value: u64) -> Result<(), Refused> {
    let code: u32;
    // SAFETY: the cells are `n` padded words and cpu < n; the gate is readable; the area at `off` is this thread's. The one store is the commit, to an atomic cell
    // that only sequences write. The descriptor and the abort handler follow the kernel's ABI.
    unsafe {
        asm!(
            begin!(),
            "shl {cpu}, {shift}",
            "add qword ptr [{cells} + {cpu}], {value}",
            finish!(),
            sig = const SIGNATURE,
            cs = const RSEQ_CS,
            id = const CPU_ID,
            shift = const SLOT_SHIFT,
            closed = const Outcome::CODE_CLOSED,
            unregistered = const Outcome::CODE_UNREGISTERED,
            off = in(reg) area::offset(),
            gate = in(reg) gate,
            n = in(reg) cells.len(),
            cells = in(reg) cells.as_ptr(),
            value = in(reg) value,
            cpu = out(reg) _,
            t = out(reg) _,
            entry = out(reg) _,
            code = inout(reg) 0 => code,
            options(nostack),
        );
    }
    match code {
        0 => Ok(()),
        Outcome::CODE_CLOSED => Err(Refused::Closed),
        _ => Err(Refused::Unregistered),
    }
}

/// Pops this CPU's top entry: word = the word below it, and if that is empty, its next version.
#[inline(always)]
pub(crate) fn pop(lifo: Lifo<'_>) -> Outcome {
    let (entry, cpu, code): (u64, u64, u64);
    // SAFETY: as in `add`; a list that is not empty has a head below links.len(), whose link is readable.
    unsafe {
        asm!(
            begin!(),
            "mov {t}, {cpu}",
            "shl {t}, {shift}",
            "mov {entry:e}, dword ptr [{slots} + {t}]",
            "and {entry:e}, {mask}",
            "jz 9f",
            "mov {code}, qword ptr [{links} + {entry}*8]",
            "shl {code}, 64 - {word_bits}",
            "shr {code}, 64 - {word_bits}",
            "test {code:e}, {mask}",
            "jnz 21f",
            "add {code}, {version}",
            "btr {code}, {word_bits}",
            "21:",
            "mov qword ptr [{slots} + {t}], {code}",
            finish!("9:\n", "mov {code:e}, {empty}\n"),
            sig = const SIGNATURE,
            cs = const RSEQ_CS,
            id = const CPU_ID,
            shift = const SLOT_SHIFT,
            mask = const ENTRY_MASK,
            word_bits = const WORD_BITS,
            version = const 1 << VERSION_SHIFT,
            closed = const Outcome::CODE_CLOSED,
            unregistered = const Outcome::CODE_UNREGISTERED,
            empty = const Outcome::CODE_EMPTY,
            off = in(reg) area::offset(),
            gate = in(reg) lifo.gate,
            n = in(reg) lifo.slots.len(),
            slots = in(reg) lifo.slots.as_ptr(),
            links = in(reg) lifo.links.as_ptr(),
            cpu = out(reg) cpu,
            t = out(reg) _,
            entry = out(reg) entry,
            code = out(reg) code,
            options(nostack),
        );
    }
    Outcome { entry: entry as u32, cpu: cpu as u32, code: code as u32 }
}

/// Pushes an entry: links[entry] = word | depth of the entry below + 1, word = entry.
#[inline(always)]
pub(crate) fn push(lifo: Lifo<'_>, entry: u32) -> Outcome {
    let (done, cpu, code): (u64, u64, u64);
    // SAFETY: as in `add`; the caller owns `entry`, whose number is below links.len(), and so its link may be written any number of times.
    unsafe {
        asm!(
            begin!(),
            "mov {t}, {cpu}",
            "shl {t}, {shift}",
            "mov {entry}, qword ptr [{slots} + {t}]",
            "mov {code:e}, {entry:e}",
            "and {code:e}, {mask}",
            // links[0] is 0: the depth of the bottom.
            "mov {code}, qword ptr [{links} + {code}*8]",
            "shr {code}, {depth}",
            "cmp {code:e}, {limit:e}",
            "jae 9f",
            "inc {code:e}",
            "shl {code}, {depth}",
            "or {code}, {entry}",
            "mov qword ptr [{links} + {new}*8], {code}",
            "mov {entry}, {new}",
            "mov qword ptr [{slots} + {t}], {entry}",
            finish!("9:\n", "mov {code:e}, {full}\n"),
            sig = const SIGNATURE,
            cs = const RSEQ_CS,
            id = const CPU_ID,
            shift = const SLOT_SHIFT,
            mask = const ENTRY_MASK,
            depth = const DEPTH_SHIFT,
            closed = const Outcome::CODE_CLOSED,
            unregistered = const Outcome::CODE_UNREGISTERED,
            full = const Outcome::CODE_FULL,
            off = in(reg) area::offset(),
            gate = in(reg) lifo.gate,
            n = in(reg) lifo.slots.len(),
            slots = in(reg) lifo.slots.as_ptr(),
            links = in(reg) lifo.links.as_ptr(),
            limit = in(reg) lifo.limit,
            new = in(reg) u64::from(entry),
            cpu = out(reg) cpu,
            t = out(reg) _,
            entry = out(reg) done,
            code = out(reg) code,
            options(nostack),
        );
    }
    Outcome { entry: done as u32, cpu: cpu as u32, code: code as u32 }
}

/// Detaches the top `len` entries: word = the word below the last of them, and if that is empty, its next version.
pub(crate) fn split(lifo: Lifo<'_>, len: u32) -> Outcome {
    let (entry, cpu, code): (u64, u64, u64);
    // SAFETY: as in `pop`: every entry that is followed is in the list, because its depth is at least `len`.
    unsafe {
        asm!(
            begin!(),
            "shl {cpu}, {shift}",
            "mov {code}, qword ptr [{slots} + {cpu}]",
            "mov {entry:e}, {code:e}",
            "and {entry:e}, {mask}",
            "mov {t}, qword ptr [{links} + {entry}*8]",
            "shr {t}, {depth}",
            "cmp {t:e}, {len:e}",
            "jb 9f",
            "mov {t:e}, {len:e}",
            "23:",
            "and {code:e}, {mask}",
            "mov {code}, qword ptr [{links} + {code}*8]",
            "dec {t:e}",
            "jnz 23b",
            "shl {code}, 64 - {word_bits}",
            "shr {code}, 64 - {word_bits}",
            "test {code:e}, {mask}",
            "jnz 21f",
            "add {code}, {version}",
            "btr {code}, {word_bits}",
            "21:",
            "mov qword ptr [{slots} + {cpu}], {code}",
            finish!("9:\n", "mov {code:e}, {empty}\n"),
            sig = const SIGNATURE,
            cs = const RSEQ_CS,
            id = const CPU_ID,
            shift = const SLOT_SHIFT,
            mask = const ENTRY_MASK,
            depth = const DEPTH_SHIFT,
            word_bits = const WORD_BITS,
            version = const 1 << VERSION_SHIFT,
            closed = const Outcome::CODE_CLOSED,
            unregistered = const Outcome::CODE_UNREGISTERED,
            empty = const Outcome::CODE_EMPTY,
            off = in(reg) area::offset(),
            gate = in(reg) lifo.gate,
            n = in(reg) lifo.slots.len(),
            slots = in(reg) lifo.slots.as_ptr(),
            links = in(reg) lifo.links.as_ptr(),
            len = in(reg) u64::from(len),
            cpu = out(reg) cpu,
            t = out(reg) _,
            entry = out(reg) entry,
            code = out(reg) code,
            options(nostack),
        );
    }
    Outcome { entry: entry as u32, cpu: cpu_of(cpu, code, entry), code: code as u32 }
}

/// Makes a chain the list, if the list is empty: the chain's last link = the empty word at depth 1, word = the chain's head.
pub(crate) fn install(lifo: Lifo<'_>, chain: Chain) -> Outcome {
    let (done, cpu, code): (u64, u64, u64);
    // The user bits of the last link stay, and its depth is 1.
    let tail = lifo.links[chain.tail as usize].load(Ordering::Relaxed) & USER_MASK | 1 << DEPTH_SHIFT;
    // SAFETY: as in `push`: the caller owns the chain, so its last link may be written any number of times.
    unsafe {
        asm!(
            begin!(),
            "shl {cpu}, {shift}",
            "mov {code}, qword ptr [{slots} + {cpu}]",
            "test {code:e}, {mask}",
            "jnz 9f",
            "or {code}, {tail}",
            "mov qword ptr [{tail_link}], {code}",
            "mov {entry}, {new}",
            "mov qword ptr [{slots} + {cpu}], {entry}",
            finish!("9:\n", "mov {code:e}, {full}\n"),
            sig = const SIGNATURE,
            cs = const RSEQ_CS,
            id = const CPU_ID,
            shift = const SLOT_SHIFT,
            mask = const ENTRY_MASK,
            closed = const Outcome::CODE_CLOSED,
            unregistered = const Outcome::CODE_UNREGISTERED,
            full = const Outcome::CODE_FULL,
            off = in(reg) area::offset(),
            gate = in(reg) lifo.gate,
            n = in(reg) lifo.slots.len(),
            slots = in(reg) lifo.slots.as_ptr(),
            tail = in(reg) tail,
            tail_link = in(reg) &lifo.links[chain.tail as usize],
            new = in(reg) u64::from(chain.head),
            cpu = out(reg) cpu,
            t = out(reg) _,
            entry = out(reg) done,
            code = out(reg) code,
            options(nostack),
        );
    }
    Outcome { entry: done as u32, cpu: cpu_of(cpu, code, done), code: code as u32 }
}

/// The CPU from a register that was shifted to a slot's distance on every way out but the two exits before.
fn cpu_of(shifted: u64, code: u64, entry: u64) -> u32 {
    match code as u32 {
        Outcome::CODE_CLOSED | Outcome::CODE_UNREGISTERED if entry == 0 => 0,
        _ => (shifted >> SLOT_SHIFT) as u32,
    }
}
