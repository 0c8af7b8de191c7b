//! A signal frame: made from outside, `rt_sigreturn` on it puts a thread back (or starts one); made
//! by the kernel, it says where a handler comes back to.
//!
//! The layout is that of `struct rt_sigframe` (`arch/x86/include/asm/sigframe.h`,
//! `uapi/asm/sigcontext.h`) without what the kernel only writes.

use super::registers::{CODE_64, Registers};
use std::ops::Range;

/// Where a frame is, and what it is.
pub(crate) struct Frame {
    /// The stack pointer with which `rt_sigreturn` finds it.
    pub(crate) stack: u64,
    /// What is to be written at the place that [`build`] was given.
    pub(crate) bytes: Vec<u8>,
}

/// Vector state: its contents go with a frame.
pub(crate) const XSTATE: i32 = 0x202;

/// Offsets in the vector state, in the form of XSAVE that is not compacted.
mod xstate {
    /// Left to software: for tracers, first the features that there are.
    pub(super) const SOFTWARE: usize = 464;
    pub(super) const SOFTWARE_BYTES: usize = 48;
    /// The features that are not in their initial state.
    pub(super) const PRESENT: usize = 512;
    /// Legacy area and header.
    pub(super) const LEAST: usize = 576;
    /// `FP_XSTATE_MAGIC1` and `FP_XSTATE_MAGIC2`.
    pub(super) const MAGIC: [u32; 2] = [0x4650_5853, 0x4650_5845];
    /// Tiles (AMX): in a process's frames only if it has asked for them.
    pub(super) const TILES: u64 = 1 << 17 | 1 << 18;
}

/// Offsets in the frame, without the return address that a handler would have popped.
mod offsets {
    pub(super) const FLAGS: usize = 0;
    pub(super) const LINK: usize = 8;
    /// The thread's signal stack: where it begins, flags, and how large it is.
    pub(super) const SIGNAL_STACK: usize = 16;
    pub(super) const STACK_FLAGS: usize = 24;
    pub(super) const STACK_SIZE: usize = 32;
    pub(super) const REGISTERS: usize = 40;
    pub(super) const STACK: usize = REGISTERS + 15 * 8;
    pub(super) const INSTRUCTION: usize = REGISTERS + 16 * 8;
    pub(super) const SEGMENTS: usize = REGISTERS + 18 * 8;
    pub(super) const VECTORS: usize = REGISTERS + 23 * 8;
    pub(super) const MASK: usize = 296;
    /// Up to and with the mask.
    pub(super) const END: usize = 304;
}

/// `UC_FP_XSTATE`, `UC_SIGCONTEXT_SS`, `UC_STRICT_RESTORE_SS`.
const FLAGS: u64 = 1 | 2 | 4;
/// No flags that `sigaltstack` takes: the thread's signal stack stays as it is.
const NO_SIGNAL_STACK: u64 = 0x7777;

/// A frame at `at` or a little above it, with which the thread gets these registers, blocked
/// signals and vector state (`None`: a fresh one).
pub(crate) fn build(at: u64, registers: &Registers, mask: u64, vectors: Option<&[u8]>) -> Frame {
    let stack = at.next_multiple_of(16);
    let start = (stack - at) as usize;
    let mut bytes = vec![0; start + offsets::END];
    let mut put = |offset: usize, word: u64| {
        bytes[start + offset..][..8].copy_from_slice(&word.to_le_bytes());
    };
    put(offsets::FLAGS, FLAGS);
    put(offsets::STACK_FLAGS, NO_SIGNAL_STACK);
    let r = registers;
    let general = [
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx,
        r.rax, r.rcx, r.rsp, r.rip, r.eflags,
    ];
    for (n, word) in general.into_iter().enumerate() {
        put(offsets::REGISTERS + 8 * n, word);
    }
    put(offsets::SEGMENTS, r.cs & 0xffff | (r.ss & 0xffff) << 48);
    put(offsets::MASK, mask);
    if let Some(vectors) = vectors.and_then(for_frame) {
        let place = (stack + offsets::END as u64).next_multiple_of(64);
        put(offsets::VECTORS, place);
        bytes.resize((place - at) as usize, 0);
        bytes.extend(vectors);
    }
    Frame { stack, bytes }
}

/// The vector state in the form that a frame has: with its size and two magic words, without which
/// only the oldest part of it would be put back.
fn for_frame(traced: &[u8]) -> Option<Vec<u8>> {
    let word =
        |at: usize| traced.get(at..at + 8).map(|b| u64::from_le_bytes(b.try_into().expect("8")));
    let (features, present) = (word(xstate::SOFTWARE)?, word(xstate::PRESENT)?);
    let tiles = if present & xstate::TILES == 0 { xstate::TILES } else { 0 };
    let features = features & !tiles;
    let size = size_of_features(features);
    let mut bytes = traced.get(..size)?.to_vec();
    let software = &mut bytes[xstate::SOFTWARE..][..xstate::SOFTWARE_BYTES];
    software.fill(0);
    software[..4].copy_from_slice(&xstate::MAGIC[0].to_le_bytes());
    software[4..8].copy_from_slice(&(size as u32 + 4).to_le_bytes());
    software[8..16].copy_from_slice(&features.to_le_bytes());
    software[16..20].copy_from_slice(&(size as u32).to_le_bytes());
    bytes.extend(xstate::MAGIC[1].to_le_bytes());
    Some(bytes)
}

/// Up to where the features reach, as the processor says.
fn size_of_features(features: u64) -> usize {
    let end = |feature: u32| {
        #[allow(unsafe_code, unused_unsafe, reason = "newer compilers have it as a safe function")]
        // SAFETY: the leaf is there where the kernel has vector state to give.
        let leaf = unsafe { std::arch::x86_64::__cpuid_count(0xd, feature) };
        leaf.ebx as usize + leaf.eax as usize
    };
    let ends = (2..63).filter(|n| features & 1 << n != 0).map(end);
    ends.max().unwrap_or(0).max(xstate::LEAST)
}

/// What a handler comes back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted {
    /// The address of the word that says where the thread goes on.
    pub(crate) place: u64,
    /// Where it goes on.
    pub(crate) instruction: u64,
    /// The stack pointer that it gets back: of another stack, if the handler has one of its own.
    pub(crate) stack: u64,
    /// The signal stack (`sigaltstack`) that the frame lies on, if it does.
    on: Option<Range<u64>>,
}

impl Interrupted {
    /// Whether a handler can come back to it that has this stack pointer: on a signal stack are
    /// only handlers. Above the stack pointers of others (in a heap that has all stacks in it) the
    /// frames of those remain that have returned.
    pub(crate) fn is_above(&self, pointer: u64) -> bool {
        self.on.as_ref().is_none_or(|stack| stack.contains(&pointer))
    }
}

/// Where frames begin: the kernel aligns them (`get_sigframe`).
pub(crate) const ALIGNED: u64 = 16;

/// Bytes of a frame that are looked at to find it.
pub(crate) const LENGTH: u64 = offsets::END as u64;

/// How far behind its beginning a frame has its [`Interrupted::place`].
pub(crate) const PLACE: u64 = offsets::INSTRUCTION as u64;

/// The frames of 64-bit code in a piece of a stack that begins at `at`, a multiple of [`ALIGNED`].
/// Those of handlers that have returned may be among them, as long as nothing was written over
/// them.
pub(crate) fn find(at: u64, stack: &[u8]) -> Vec<Interrupted> {
    let word = |offset: usize| {
        u64::from_le_bytes(stack[offset..offset + 8].try_into().expect("eight bytes"))
    };
    let ends = stack.len().saturating_sub(offsets::END - 1);
    let starts = (0..ends).step_by(ALIGNED as usize);
    // The two segment registers that are not used any more are written as 0. That alone is seldom
    // found elsewhere; the others are what `setup_rt_frame` writes in any case.
    let is_frame = |start: &usize| {
        word(start + offsets::SEGMENTS) & ((1 << 48) - 1) == CODE_64
            && word(start + offsets::FLAGS) & !FLAGS == 0
            && word(start + offsets::LINK) == 0
            && word(start + offsets::VECTORS).is_multiple_of(64)
    };
    let found = starts.filter(is_frame).map(|start| Interrupted {
        place: at + (start + offsets::INSTRUCTION) as u64,
        instruction: word(start + offsets::INSTRUCTION),
        stack: word(start + offsets::STACK),
        on: {
            let bottom = word(start + offsets::SIGNAL_STACK);
            let stack = bottom..bottom.saturating_add(word(start + offsets::STACK_SIZE));
            stack.contains(&(at + start as u64)).then_some(stack)
        },
    });
    found.collect()
}

/// Bytes that a frame with any vector state may take.
pub(crate) fn room(vectors: &[u8]) -> usize {
    offsets::END + 16 + 64 + vectors.len() + 4
}

#[cfg(test)]
mod tests {
    use super::{Interrupted, Registers, build, find, offsets};

    fn registers(instruction: u64, stack: u64) -> Registers {
        // SAFETY: consists of numbers.
        #[allow(unsafe_code, reason = "the structure has no constructor")]
        let zero: Registers = unsafe { std::mem::zeroed() };
        Registers { rip: instruction, rsp: stack, cs: 0x33, ss: 0x2b, ..zero }
    }

    #[test]
    fn frames_are_found_where_they_are_and_nowhere_else() {
        let mut stack = vec![0x33; 0x1000];
        for at in [0x230, 0x7f0] {
            let frame = build(at, &registers(0x40_0000 + at, 0x9000), 0, None);
            assert_eq!(frame.stack, at, "aligned");
            stack[at as usize..][..frame.bytes.len()].copy_from_slice(&frame.bytes);
        }
        let expected = [0x230, 0x7f0].map(|at| Interrupted {
            place: 0x7fff_0000 + at + 168,
            instruction: 0x40_0000 + at,
            stack: 0x9000,
            on: None,
        });
        assert_eq!(find(0x7fff_0000, &stack), expected);
        assert_eq!(find(0x7fff_0000, &stack[..0x7f0 + 303]), expected[..1], "cut off");
        assert_eq!(find(0x7fff_0000, &stack[8..]), [], "not aligned");
        assert_eq!(find(0, &[0; 4096]), []);
        assert_eq!(find(0, &[0; 8]), []);
    }

    #[test]
    fn on_a_signal_stack_are_handlers_only() {
        let mut stack = build(0, &registers(0x40_0000, 0x9000), 0, None).bytes;
        let mut put = |at: usize, word: u64| stack[at..][..8].copy_from_slice(&word.to_le_bytes());
        put(offsets::SIGNAL_STACK, 0x6000);
        put(offsets::STACK_SIZE, 0x2000);
        let one = |at: u64| find(at, &stack).pop().expect("a frame");
        assert!(one(0x7000).is_above(0x6ff0) && one(0x7000).is_above(0x6000));
        assert!(!one(0x7000).is_above(0x5ff0), "a handler that has returned");
        // The thread has a signal stack, and the handler does not use it.
        assert!(one(0x9000).is_above(0x5ff0));
    }
}
