//! What signal handlers come back to: the frames that the kernel has left on threads' stacks.
//!
//! A thread in a handler goes on where it was interrupted when the handler returns, by what its
//! frame says. Frames lie on the stack that the handler runs on, at its stack pointer or above, and
//! say where the stack of the interrupted code is: so all of them are found that threads can come
//! back to, also those of handlers that were interrupted themselves, and of signal stacks. (Code
//! that leaves a handler for another stack, to come back to it later, is not seen.)

use crate::arch::frame::{self, ALIGNED, Interrupted};
use crate::error::Error;
use crate::maps::{self, Mapping};
use crate::proc::Call;
use crate::ptrace::Tid;
use crate::stopped::Stopped;
use std::ops::Range;

/// Stacks are at most so large, but for the first thread's, and are read from the stack pointer to
/// their end.
const LARGEST: u64 = 16 << 20;
/// A stack in larger memory (of a goroutine, in the heap): so much of it is read.
const NEAR: u64 = 1 << 20;
/// Most stacks that are read of a thread.
const STACKS: usize = 16;
/// The name of the first thread's stack, in the list of mappings.
const FIRST: &str = "[stack]";

impl Stopped<'_> {
    /// What threads in signal handlers will come back to, and the threads on whose stacks that was
    /// found.
    ///
    /// # Errors
    /// [`Error::Gone`], or the mappings cannot be read.
    pub(crate) fn interrupted(&self) -> Result<Vec<(Tid, Interrupted)>, Error> {
        let pid = self.tracer.pid();
        let stand = self.threads.iter().map(|thread| (thread.tid, thread.stack()));
        let at = |tid| Call::read(pid, tid).map(|call| (tid, call.stack));
        let stacks: Vec<_> = stand.chain(self.waiting().into_iter().filter_map(at)).collect();
        let Some((any, _)) = stacks.first() else { return Ok(Vec::new()) };
        let mappings = maps::read(pid, *any).map_err(Error::own("reading the mappings"))?;
        let read = |at, bytes: &mut [u8]| self.memory().read_some(at, bytes);
        let mut found = Vec::new();
        for (tid, stack) in stacks {
            let frames = of_thread(stack, &mappings, read);
            found.extend(frames.into_iter().map(|frame| (tid, frame)));
        }
        // Signal stacks of several threads may lie behind each other.
        found.sort_unstable_by_key(|(_, frame)| frame.place);
        found.dedup_by_key(|(_, frame)| frame.place);
        Ok(found)
    }
}

/// The frames of a thread with this stack pointer.
fn of_thread(
    stack: u64,
    mappings: &[Mapping],
    read: impl Fn(u64, &mut [u8]) -> usize,
) -> Vec<Interrupted> {
    let (mut found, mut bytes): (Vec<Interrupted>, Vec<u8>) = (Vec::new(), Vec::new());
    let (mut pointers, mut done): (Vec<u64>, Vec<Range<u64>>) = (vec![stack], Vec::new());
    while let Some(pointer) = pointers.pop()
        && done.len() < STACKS
    {
        if done.iter().any(|range| range.contains(&pointer)) {
            continue;
        }
        let Some(range) = live(pointer, mappings) else { continue };
        bytes.resize((range.end - range.start) as usize, 0);
        // Behind a stack may be memory that nobody can read from outside.
        let length = read(range.start, &mut bytes);
        let frames = frame::find(range.start, &bytes[..length]);
        pointers.extend(frames.iter().rev().map(|frame| frame.stack));
        found.extend(frames);
        done.push(range);
    }
    found
}

/// What is in use of the stack that a stack pointer is in.
fn live(pointer: u64, mappings: &[Mapping]) -> Option<Range<u64>> {
    let at = mappings.partition_point(|mapping| mapping.range.end <= pointer);
    let first = mappings.get(at).filter(|m| m.range.start <= pointer && m.usable)?;
    let (mut range, mut is_first) = (first.range.clone(), first.name == FIRST);
    // One stack may be several mappings, with different rights. Before the next one comes a page
    // that nobody can use, and files are no stacks.
    let joins = |mapping: &&Mapping| mapping.usable && mapping.file == first.file;
    for mapping in mappings[at + 1..].iter().take_while(joins) {
        if mapping.range.start != range.end {
            break;
        }
        range.end = mapping.range.end;
        is_first |= mapping.name == FIRST;
    }
    let is_stack = is_first || range.end - range.start <= LARGEST;
    let start = pointer & !(ALIGNED - 1);
    let most = if is_stack { LARGEST } else { NEAR };
    Some(start..range.end.min(start + most))
}

#[cfg(test)]
mod tests {
    use super::{LARGEST, NEAR, live, of_thread};
    use crate::arch::{self, frame};
    use crate::maps::Mapping;
    use std::cell::RefCell;
    use std::ops::Range;

    fn mapping(range: Range<u64>, usable: bool, name: &str) -> Mapping {
        let (executable, offset, file, name) = (false, 0, (0, 0), name.to_owned());
        Mapping { range, executable, offset, name, file, usable }
    }

    #[test]
    fn what_is_in_use_of_a_stack() {
        let (guard, stack) = (0x10_0000..0x10_1000, 0x10_1000..0x20_0000);
        let all = [
            mapping(0..0x10_0000, true, ""),
            mapping(guard, false, ""),
            mapping(stack, true, ""),
            mapping(0x20_0000..0x20_1000, true, ""),
            Mapping { file: (8, 1), ..mapping(0x20_1000..0x20_2000, true, "/lib/libc.so.6") },
            mapping(0x1000_0000..0x4000_0000, true, ""),
            mapping(0x7000_0000..0x9000_0000, true, "[stack]"),
        ];
        assert_eq!(live(0x1f_ff08, &all), Some(0x1f_ff00..0x20_1000), "of two mappings");
        assert_eq!(live(0xf_0000, &all), Some(0xf_0000..0x10_0000), "up to the page behind");
        assert_eq!(live(0x10_0800, &all), None, "in that page");
        assert_eq!(live(0x30_0000, &all), None, "nowhere");
        assert_eq!(live(0x1000_0000, &all), Some(0x1000_0000..0x1000_0000 + NEAR), "a heap");
        assert_eq!(live(0x7000_0000, &all), Some(0x7000_0000..0x7000_0000 + LARGEST));
        assert_eq!(live(0x8fff_fff0, &all), Some(0x8fff_fff0..0x9000_0000));
        assert_eq!(live(u64::MAX, &all), None);
    }

    /// A handler on a signal stack has interrupted one on the thread's stack.
    #[test]
    fn frames_lead_from_stack_to_stack() {
        // SAFETY: consists of numbers.
        #[allow(unsafe_code, reason = "the structure has no constructor")]
        let zero: arch::Registers = unsafe { std::mem::zeroed() };
        let of = |rip, rsp| arch::Registers { rip, rsp, cs: 0x33, ss: 0x2b, ..zero };
        let all = [mapping(0x1000..0x3000, true, ""), mapping(0x8000..0xa000, true, "")];
        let memory = RefCell::new(vec![0_u8; 0xa000]);
        let put = |at: u64, rip, rsp| {
            let frame = frame::build(at, &of(rip, rsp), 0, None);
            memory.borrow_mut()[at as usize..][..frame.bytes.len()].copy_from_slice(&frame.bytes);
        };
        put(0x9000, 0x11, 0x2000);
        put(0x2100, 0x22, 0x2900);
        // Below: of a handler that is over.
        put(0x1100, 0x33, 0x1f00);
        let read = |at: u64, bytes: &mut [u8]| {
            // The last page cannot be read.
            let length = bytes.len().min(0x9800_usize.saturating_sub(at as usize));
            bytes[..length].copy_from_slice(&memory.borrow()[at as usize..][..length]);
            length
        };
        let found = of_thread(0x8ff8, &all, read);
        let found: Vec<_> = found.iter().map(|frame| frame.instruction).collect();
        assert_eq!(found, [0x11, 0x22]);
        // Frames that lead to each other come to an end.
        put(0x2100, 0x22, 0x9000);
        assert_eq!(of_thread(0x8ff8, &all, read).len(), 2);
        assert!(of_thread(0x8ff8, &all, |_, _| 0).is_empty(), "nothing can be read");
    }
}
