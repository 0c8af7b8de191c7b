//! The restartable sequences.
//!
//! All have one shape. Pseudo-code, with the labels as in the assembly:
//!
//! ```text
//! 2:  area.rseq_cs = descriptor(start = 3, end = 4, abort = 6)
//! 3:  cpu = area.cpu_id
//!     if cpu >= low half of gate    -> exit REFUSED    (a closed gate says 0, no area -1)
//!     ... compute; exits EMPTY, FULL ...
//!     slot[cpu].word = new          the commit, one store
//! 4:
//! 6:  goto 2                    where the kernel sends a thread that was disturbed between 3 and 4
//! ```
//!
//! The descriptor is left in the area: the kernel ignores and clears it when it finds the thread
//! elsewhere. The exits and the abort handler are out of line. An abort handler is preceded by the
//! signature that was registered, so that nobody can point the kernel at other code.
//!
//! Nothing before the commit may be wrong to repeat: the only stores there go to links that the
//! caller owns.
#![allow(unsafe_code)]

use super::area;
use super::rseq_abi::{CPU_ID, RSEQ_CS, SIGNATURE};
use crate::CachePadded;
use crate::rseq::lifo::{Chain, Lifo, Outcome, POPS_OFFSET};
use crate::rseq::{Gate, Refused};
use core::arch::asm;
use core::sync::atomic::AtomicU64;

/// log2 of the distance between two slots.
const SLOT_SHIFT: u32 = 7;

const _: () = assert!(
    size_of::<CachePadded<AtomicU64>>() == 1 << SLOT_SHIFT,
    "the assembly shifts the CPU's number"
);

/// Where the thread's area lies, as a distance from the thread pointer.
pub(crate) fn area() -> isize {
    area::offset()
}

/// Descriptor, entry and gate: everything before the work of a sequence. `{t}` is scratch.
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
            // The signature as the operand of an undefined instruction: disassemblers stay in step,
            // and nobody runs into it.
            ".byte 0x0f, 0xb9, 0x3d\n",
            ".long {sig}\n",
            "6:\n",
            "jmp 2f\n",
            ".popsection\n",
            "2:\n",
            "lea {t}, [rip + 5b]\n",
            "mov qword ptr fs:[{off} + {cs}], {t}\n",
            "3:\n",
            "mov {cpu:e}, dword ptr fs:[{off} + {id}]\n",
            "cmp {cpu:e}, dword ptr [{gate}]\n",
            "jae 7f\n",
        )
    };
}

/// The end of a sequence and its exits, which leave 0 in `{entry}`: nothing was committed.
macro_rules! finish {
    ($($more:expr),*) => {
        concat!(
            "4:\n",
            ".pushsection .text.unlikely.trapline_rseq,\"ax\",@progbits\n",
            "7:\n",
            "mov {code:e}, {refused}\n",
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
pub(crate) fn add(
    gate: &Gate,
    cells: &[CachePadded<AtomicU64>],
    value: u64,
) -> Result<(), Refused> {
    debug_assert!(cells.len() >= gate.slots());
    if area::is_missing() {
        return Err(Refused::Unregistered);
    }
    let (cpu, code): (u64, u32);
    // SAFETY: there are at least as many cells as the gate has slots, and cpu is below that; the
    // gate is readable; the area at `off` is this thread's. The one store is the commit, to an
    // atomic cell that only sequences write. The descriptor and the abort handler follow the
    // kernel's ABI.
    unsafe {
        asm!(
            begin!(),
            "mov {t}, {cpu}",
            "shl {t}, {shift}",
            "add qword ptr [{cells} + {t}], {value}",
            finish!(),
            sig = const SIGNATURE,
            cs = const RSEQ_CS,
            id = const CPU_ID,
            shift = const SLOT_SHIFT,
            refused = const Outcome::CODE_REFUSED,
            off = in(reg) gate.area(),
            gate = in(reg) gate.word(),
            cells = in(reg) cells.as_ptr(),
            value = in(reg) value,
            cpu = out(reg) cpu,
            t = out(reg) _,
            entry = out(reg) _,
            code = inout(reg) 0 => code,
            options(nostack),
        );
    }
    if code == 0 { Ok(()) } else { Err(Refused::of_cpu(cpu as u32)) }
}

/// Pops this CPU's top entry: pops + 1; word = links[entry].
///
/// The count of pops comes before the commit, so an abort in between leaves it too high: it says
/// that something may have changed, not how often.
#[inline(always)]
pub(crate) fn pop(lifo: Lifo<'_>) -> Outcome {
    if area::is_missing() {
        return Outcome::UNREGISTERED;
    }
    let (entry, cpu, code): (u64, u64, u64);
    // SAFETY: as in `add`; a list that is not empty has a head below links.len(), whose link is
    // readable.
    unsafe {
        asm!(
            begin!(),
            "mov {t}, {cpu}",
            "shl {t}, {shift}",
            "mov {entry:e}, dword ptr [{slots} + {t}]",
            "test {entry:e}, {entry:e}",
            "jz 9f",
            "inc qword ptr [{slots} + {t} + {pops}]",
            // A link's low half is the entry below.
            "mov {code:e}, dword ptr [{links} + {entry}*8]",
            "mov dword ptr [{slots} + {t}], {code:e}",
            finish!("9:\n", "mov {code:e}, {empty}\n"),
            sig = const SIGNATURE,
            cs = const RSEQ_CS,
            id = const CPU_ID,
            shift = const SLOT_SHIFT,
            pops = const POPS_OFFSET,
            refused = const Outcome::CODE_REFUSED,
            empty = const Outcome::CODE_EMPTY,
            off = in(reg) lifo.gate.area(),
            gate = in(reg) lifo.gate.word(),
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

/// Pushes an entry: links[entry] = (depth of links[word] + 1, word); word = entry.
///
/// The link is written in two halves, because the next pop waits for the lower one alone: what it
/// reads must not wait for the depth of the entry below and an addition. (Only who owns an entry
/// looks at its link before the commit.)
#[inline(always)]
pub(crate) fn push(lifo: Lifo<'_>, entry: u32) -> Outcome {
    if area::is_missing() {
        return Outcome::UNREGISTERED;
    }
    let (done, cpu, code): (u64, u64, u64);
    // SAFETY: as in `add`; the caller owns `entry`, whose number is below links.len(), and so its
    // link may be written any number of times.
    unsafe {
        asm!(
            begin!(),
            "mov {t}, {cpu}",
            "shl {t}, {shift}",
            "mov {code:e}, dword ptr [{slots} + {t}]",
            // A link's high half is the depth; links[0] is 0, the depth of the bottom.
            "mov {entry:e}, dword ptr [{links} + {code}*8 + 4]",
            "cmp {entry:e}, {limit:e}",
            "jae 9f",
            "inc {entry:e}",
            "mov dword ptr [{links} + {new}*8 + 4], {entry:e}",
            "mov dword ptr [{links} + {new}*8], {code:e}",
            "mov {entry:e}, {new:e}",
            "mov dword ptr [{slots} + {t}], {new:e}",
            finish!("9:\n", "mov {code:e}, {full}\n"),
            sig = const SIGNATURE,
            cs = const RSEQ_CS,
            id = const CPU_ID,
            shift = const SLOT_SHIFT,
            refused = const Outcome::CODE_REFUSED,
            full = const Outcome::CODE_FULL,
            off = in(reg) lifo.gate.area(),
            gate = in(reg) lifo.gate.word(),
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

/// Detaches the top `len` entries: pops + 1; word = links[the last of them].
pub(crate) fn split(lifo: Lifo<'_>, len: u32) -> Outcome {
    if area::is_missing() {
        return Outcome::UNREGISTERED;
    }
    let (entry, cpu, code): (u64, u64, u64);
    // SAFETY: as in `pop`: every entry that is followed is in the list, because its depth is at
    // least `len`.
    unsafe {
        asm!(
            begin!(),
            "mov {t}, {cpu}",
            "shl {t}, {shift}",
            "add {t}, {slots}",
            "mov {entry:e}, dword ptr [{t}]",
            "mov {code:e}, dword ptr [{links} + {entry}*8 + 4]",
            "cmp {code:e}, {len:e}",
            "jb 9f",
            "mov {code:e}, {entry:e}",
            "mov {left:e}, {len:e}",
            "23:",
            "mov {code:e}, dword ptr [{links} + {code}*8]",
            "dec {left:e}",
            "jnz 23b",
            "inc qword ptr [{t} + {pops}]",
            "mov dword ptr [{t}], {code:e}",
            finish!("9:\n", "mov {code:e}, {empty}\n"),
            sig = const SIGNATURE,
            cs = const RSEQ_CS,
            id = const CPU_ID,
            shift = const SLOT_SHIFT,
            pops = const POPS_OFFSET,
            refused = const Outcome::CODE_REFUSED,
            empty = const Outcome::CODE_EMPTY,
            off = in(reg) lifo.gate.area(),
            gate = in(reg) lifo.gate.word(),
            slots = in(reg) lifo.slots.as_ptr(),
            links = in(reg) lifo.links.as_ptr(),
            len = in(reg) u64::from(len),
            cpu = out(reg) cpu,
            t = out(reg) _,
            left = out(reg) _,
            entry = out(reg) entry,
            code = out(reg) code,
            options(nostack),
        );
    }
    Outcome { entry: entry as u32, cpu: cpu as u32, code: code as u32 }
}

/// Makes a chain the list, if the list is empty: links[tail] = (1, 0), word = the chain's head.
pub(crate) fn install(lifo: Lifo<'_>, chain: Chain) -> Outcome {
    if area::is_missing() {
        return Outcome::UNREGISTERED;
    }
    let (done, cpu, code): (u64, u64, u64);
    // SAFETY: as in `push`: the caller owns the chain, so its last link may be written any number
    // of times.
    unsafe {
        asm!(
            begin!(),
            "mov {t}, {cpu}",
            "shl {t}, {shift}",
            "mov {code:e}, dword ptr [{slots} + {t}]",
            "test {code:e}, {code:e}",
            "jnz 9f",
            // The tail is the bottom: depth 1, nothing below.
            "mov {entry:e}, 1",
            "shl {entry}, 32",
            "mov qword ptr [{tail_link}], {entry}",
            "mov {entry:e}, {new:e}",
            "mov dword ptr [{slots} + {t}], {entry:e}",
            finish!("9:\n", "mov {code:e}, {full}\n"),
            sig = const SIGNATURE,
            cs = const RSEQ_CS,
            id = const CPU_ID,
            shift = const SLOT_SHIFT,
            refused = const Outcome::CODE_REFUSED,
            full = const Outcome::CODE_FULL,
            off = in(reg) lifo.gate.area(),
            gate = in(reg) lifo.gate.word(),
            slots = in(reg) lifo.slots.as_ptr(),
            tail_link = in(reg) &lifo.links[chain.tail as usize],
            new = in(reg) u64::from(chain.head),
            cpu = out(reg) cpu,
            t = out(reg) _,
            entry = out(reg) done,
            code = out(reg) code,
            options(nostack),
        );
    }
    Outcome { entry: done as u32, cpu: cpu as u32, code: code as u32 }
}
