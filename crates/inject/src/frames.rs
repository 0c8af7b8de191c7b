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
use std::collections::BTreeMap;
use std::ops::Range;

/// Stacks are at most so large, but for the first thread's, and are read from the stack pointer to
/// their end.
const LARGEST: u64 = 16 << 20;
/// Of a stack in the middle of other memory (a goroutine's, in the heap), so much is read: what a
/// handler itself takes is less. All of the rest would be the program's data, of which there may be
/// any amount.
const NEAR: u64 = 128 << 10;
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
        let mut scan =
            Scan::new(&mappings, |at, bytes: &mut [u8]| self.memory().read_some(at, bytes));
        for (tid, stack) in stacks {
            scan.thread(tid, stack);
        }
        Ok(scan.end().collect())
    }
}

/// The frames on the stacks of several threads. What several of them have in common (memory with
/// stacks of goroutines, say) is read once.
struct Scan<'m, R> {
    mappings: &'m [Mapping],
    read: R,
    /// What has been read, ascending.
    done: Vec<Range<u64>>,
    /// What looks like a frame there, by where it begins, and whose it is, if it is somebody's.
    frames: BTreeMap<u64, (Interrupted, Option<Tid>)>,
    bytes: Vec<u8>,
}

impl<'m, R: Fn(u64, &mut [u8]) -> usize> Scan<'m, R> {
    fn new(mappings: &'m [Mapping], read: R) -> Self {
        Self { mappings, read, done: Vec::new(), frames: BTreeMap::new(), bytes: Vec::new() }
    }

    /// Takes those that lead on from this stack pointer.
    fn thread(&mut self, tid: Tid, stack: u64) {
        let (mut pointers, mut stacks) = (vec![stack], 0);
        while let Some(pointer) = pointers.pop()
            && stacks < STACKS
        {
            let Some(range) = live(pointer, self.mappings) else { continue };
            stacks += usize::from(self.read(&range));
            for (_, (frame, of)) in self.frames.range_mut(range) {
                if of.is_none() && frame.is_above(pointer) {
                    *of = Some(tid);
                    pointers.push(frame.stack);
                }
            }
        }
    }

    /// Looks for frames in what has not been read: whether there was any.
    fn read(&mut self, range: &Range<u64>) -> bool {
        let new = self.not_done(range);
        for part in &new {
            // A frame may begin in what is new, and end in what is not.
            let end = range.end.min(part.end + frame::LENGTH);
            self.bytes.resize((end - part.start) as usize, 0);
            // Behind a stack may be memory that nobody can read from outside.
            let length = (self.read)(part.start, &mut self.bytes);
            for frame in frame::find(part.start, &self.bytes[..length]) {
                self.frames.entry(frame.place - frame::PLACE).or_insert((frame, None));
            }
        }
        self.done.push(range.clone());
        self.done.sort_unstable_by_key(|range| range.start);
        !new.is_empty()
    }

    /// The parts of it that have not been read.
    fn not_done(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let (mut parts, mut from) = (Vec::new(), range.start);
        for done in &self.done {
            if done.start >= range.end {
                break;
            }
            if from < done.start {
                parts.push(from..done.start);
            }
            from = from.max(done.end);
        }
        if from < range.end {
            parts.push(from..range.end);
        }
        parts
    }

    /// All that were taken.
    fn end(self) -> impl Iterator<Item = (Tid, Interrupted)> {
        self.frames.into_values().filter_map(|(frame, of)| Some((of?, frame)))
    }
}

/// What is in use of the stack that a stack pointer is in.
fn live(pointer: u64, mappings: &[Mapping]) -> Option<Range<u64>> {
    let at = mappings.partition_point(|mapping| mapping.range.end <= pointer);
    let first = mappings.get(at).filter(|m| m.range.start <= pointer && m.usable)?;
    // One stack may be several mappings, with different rights. Below it, and before the next one,
    // comes a page that nobody can use; files are no stacks.
    let joins = |mapping: &&Mapping| mapping.usable && mapping.file == first.file;
    let (mut range, mut is_stack) = (first.range.clone(), first.name == FIRST);
    for mapping in mappings[..at].iter().rev() {
        if mapping.range.end != range.start || !joins(&mapping) {
            is_stack |= !mapping.usable && mapping.range.end == range.start;
            break;
        }
        range.start = mapping.range.start;
    }
    for mapping in mappings[at + 1..].iter().take_while(joins) {
        if mapping.range.start != range.end {
            break;
        }
        range.end = mapping.range.end;
        is_stack |= mapping.name == FIRST;
    }
    let start = pointer & !(ALIGNED - 1);
    let most = if is_stack { LARGEST } else { NEAR };
    Some(start..range.end.min(start + most))
}

#[cfg(test)]
mod tests {
    use super::{LARGEST, NEAR, Scan, live};
    use crate::arch::{self, frame};
    use crate::maps::Mapping;
    use std::cell::Cell;
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
            mapping(0x20_0000..0x60_0000, true, ""),
            Mapping { file: (8, 1), ..mapping(0x60_0000..0x60_1000, true, "/lib/libc.so.6") },
            mapping(0x61_0000..0x80_0000, true, ""),
            mapping(0x1000_0000..0x4000_0000, true, ""),
            mapping(0x4000_0000..0x5000_0000, false, ""),
            mapping(0x5000_0000..0x6000_0000, true, ""),
            mapping(0x7000_0000..0x9000_0000, true, "[stack]"),
        ];
        assert_eq!(live(0x1f_ff08, &all), Some(0x1f_ff00..0x60_0000), "of two mappings");
        assert_eq!(live(0x20_0008, &all), Some(0x20_0000..0x60_0000), "in the second");
        assert_eq!(live(0xf_8000, &all), Some(0xf_8000..0x10_0000), "up to the page behind");
        assert_eq!(live(0x10_0800, &all), None, "in that page");
        assert_eq!(live(0x60_8000, &all), None, "nowhere");
        assert_eq!(live(0x61_0000, &all), Some(0x61_0000..0x61_0000 + NEAR), "a small heap");
        assert_eq!(live(0x1000_0000, &all), Some(0x1000_0000..0x1000_0000 + NEAR), "a heap");
        assert_eq!(live(0x5000_0000, &all), Some(0x5000_0000..0x5000_0000 + LARGEST));
        assert_eq!(live(0x7000_0000, &all), Some(0x7000_0000..0x7000_0000 + LARGEST));
        assert_eq!(live(0x8fff_fff0, &all), Some(0x8fff_fff0..0x9000_0000));
        assert_eq!(live(u64::MAX, &all), None);
    }

    /// Where a frame is put, the instruction and the stack pointer that it has.
    type Put = (u64, u64, u64);

    fn memory(frames: &[Put]) -> Vec<u8> {
        // SAFETY: consists of numbers.
        #[allow(unsafe_code, reason = "the structure has no constructor")]
        let zero: arch::Registers = unsafe { std::mem::zeroed() };
        let mut memory = vec![0_u8; 0xa000];
        for &(at, rip, rsp) in frames {
            let registers = arch::Registers { rip, rsp, cs: 0x33, ss: 0x2b, ..zero };
            let frame = frame::build(at, &registers, 0, None);
            memory[at as usize..][..frame.bytes.len()].copy_from_slice(&frame.bytes);
        }
        memory
    }

    /// The instructions in the frames that are found from these stack pointers, and how many bytes
    /// were read. The last page cannot be.
    fn found(mappings: &[Mapping], memory: &[u8], stacks: &[u64]) -> (Vec<u64>, usize) {
        let count = Cell::new(0);
        let read = |at: u64, bytes: &mut [u8]| {
            let length = bytes.len().min(0x9800_usize.saturating_sub(at as usize));
            bytes[..length].copy_from_slice(&memory[at as usize..][..length]);
            count.set(count.get() + length);
            length
        };
        let mut scan = Scan::new(mappings, read);
        stacks.iter().for_each(|stack| scan.thread(1, *stack));
        (scan.end().map(|(_, frame)| frame.instruction).collect(), count.get())
    }

    /// A handler on a signal stack has interrupted one on the thread's stack.
    #[test]
    fn frames_lead_from_stack_to_stack() {
        let all = [mapping(0x1000..0x3000, true, ""), mapping(0x8000..0xa000, true, "")];
        let handlers = (0x9000, 0x11, 0x2000);
        // Below: of a handler that is over.
        let over = (0x1100, 0x33, 0x1f00);
        let bytes = memory(&[handlers, (0x2100, 0x22, 0x2900), over]);
        assert_eq!(found(&all, &bytes, &[0x8ff8]).0, [0x22, 0x11]);
        // Frames that lead to each other come to an end.
        let bytes = memory(&[handlers, (0x2100, 0x22, 0x9000), over]);
        assert_eq!(found(&all, &bytes, &[0x8ff8]).0, [0x22, 0x11]);
        assert_eq!(found(&all, &bytes, &[0x9f00]), (vec![], 0), "nothing can be read");
    }

    /// A heap with all stacks in it. What one thread's handler comes back to is found once that
    /// thread is looked at, also where others were before.
    #[test]
    fn frames_on_signal_stacks_are_those_of_their_handlers() {
        let all = [mapping(0x1000..0x9000, true, "")];
        let mut bytes = memory(&[(0x5000, 0x11, 0x7000), (0x3000, 0x22, 0x7800)]);
        // Each on a signal stack.
        for (frame, bottom) in [(0x5000, 0x4000_u64), (0x3000, 0x2000)] {
            bytes[frame + 16..][..8].copy_from_slice(&bottom.to_le_bytes());
            bytes[frame + 32..][..8].copy_from_slice(&0x1800_u64.to_le_bytes());
        }
        assert_eq!(found(&all, &bytes, &[0x1100]).0, [], "both have returned");
        assert_eq!(found(&all, &bytes, &[0x1100, 0x4ff0]).0, [0x11]);
        assert_eq!(found(&all, &bytes, &[0x2ff0, 0x4ff0, 0x1100]).0, [0x22, 0x11]);
        assert_eq!(found(&all, &bytes, &[0x5010]).0, [], "above it");
    }

    /// Threads whose stacks lie in one piece of memory, and many frames in that, all of which lead
    /// into it: each byte is read once, but for frames that begin in what one thread reads, and end
    /// in what another has read.
    #[test]
    fn what_threads_have_in_common_is_read_once() {
        let all = [mapping(0x1000..0x9000, true, "")];
        let frames: Vec<Put> =
            (0..40).map(|n| (0x2000 + n * 0x200, n, 0x8f00 - n * 0x80)).collect();
        let bytes = memory(&frames);
        let stacks: Vec<u64> = (0..30).map(|n| 0x7f00 - n * 0x300).collect();
        let (instructions, read) = found(&all, &bytes, &stacks);
        let lowest = *stacks.last().expect("some");
        let expected: Vec<u64> =
            frames.iter().filter(|(at, ..)| *at >= lowest).map(|(_, n, _)| *n).collect();
        assert_eq!(instructions, expected);
        let most = 0x9000 - lowest as usize + stacks.len() * frame::LENGTH as usize;
        assert!(read <= most, "{read} bytes of {most}");
    }
}
