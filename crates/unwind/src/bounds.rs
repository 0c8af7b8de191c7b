//! Where stacks end. A walk never reads beyond the mapping that its stack pointer is in.
#![allow(unsafe_code)]

use core::arch::asm;
use core::ops::{ControlFlow, Range};
use sys::mappings::{self, Mapping};
use sys::process::getpid;
use sys::thread::gettid;

/// The stacks that a thread was seen on: its own, one for signals, a coroutine's. Kept by the
/// caller, one for each thread.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    known: [Stack; 4],
    next: usize,
    /// Callers that were met and not expected.
    pub(crate) surprises: u32,
    /// Callers of functions where none is expected.
    pub(crate) looks: u32,
}

/// A stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) range: Range<u64>,
    /// From here on it was mapped when it was found; below, it may have grown since.
    mapped: u64,
    /// Up to here it is the one that the thread began on, which is there until the thread ends; 0:
    /// it is another one.
    own: u64,
}

impl Bounds {
    /// Whether an address that a walk of this thread has read stays readable as long as the thread
    /// lives: it is on the stack that the thread began on. Others, for signals or coroutines, may
    /// be unmapped.
    pub fn lasts(&self, address: u64) -> bool {
        self.known.iter().any(|s| s.range.start <= address && address < s.own)
    }

    /// The first byte behind the stack that `sp` points into, if it was seen before.
    #[inline(always)]
    pub(crate) fn end(&self, sp: u64) -> Option<u64> {
        self.known.iter().find(|s| s.range.contains(&sp)).map(|s| s.range.end)
    }

    /// The part of a stack that was seen before and is known to be mapped, if `address` lies in it.
    pub(crate) fn mapped(&self, address: u64) -> Option<Range<u64>> {
        self.known.iter().map(Stack::mapped).find(|mapped| mapped.contains(&address))
    }

    pub(crate) fn add(&mut self, stack: Stack) {
        // A stack that has grown is the same one.
        let at =
            self.known.iter().position(|s| s.range.end == stack.range.end).unwrap_or_else(|| {
                self.next = (self.next + 1) % self.known.len();
                self.next
            });
        self.known[at] = stack;
    }
}

impl Stack {
    pub(crate) fn mapped(&self) -> Range<u64> {
        self.mapped..self.range.end
    }

    /// The thread's own stack, as its host knows it, if `sp` is there.
    pub(crate) fn own(range: Range<u64>, sp: u64) -> Option<Self> {
        const PAGE: u64 = 4096;
        let own = range.end;
        range.contains(&sp).then(|| Self {
            mapped: (sp & !(PAGE - 1)).max(range.start),
            range,
            own,
        })
    }
}

/// The mapping with `sp` in it, from the kernel's list, and the unused addresses below it: stacks
/// grow down.
///
/// Context: some system calls, no allocation.
pub(crate) fn find(sp: u64, text: &mut [u8]) -> Option<Stack> {
    let mut search = Search::new(sp, ThreadId::current());
    mappings::read(text, |line| search.look(line)).ok()?;
    search.found
}

/// By what a thread knows its own stack.
#[derive(Clone, Copy)]
enum ThreadId {
    /// The process's first thread: its stack has a name.
    First,
    /// Another one: the C library keeps its control block, which is here, on top of its stack.
    Other(u64),
}

impl ThreadId {
    fn current() -> Self {
        if gettid() == getpid() {
            // Or what was another thread before it forked, whose stack is then none that is known
            // to last.
            return Self::First;
        }
        let address;
        // SAFETY: a load from where the x86-64 ABI has that address.
        unsafe {
            asm!("mov {}, fs:[0]", out(reg) address, options(nostack, readonly, preserves_flags))
        };
        Self::Other(address)
    }
}

/// A look through the list for a stack.
struct Search {
    sp: u64,
    thread: ThreadId,
    /// Where the mapping below ends.
    below: u64,
    found: Option<Stack>,
}

impl Search {
    fn new(sp: u64, thread: ThreadId) -> Self {
        Self { sp, thread, below: 0, found: None }
    }

    fn look(&mut self, line: &[u8]) -> ControlFlow<()> {
        match mappings::addresses(line) {
            Some((_, end)) if end <= self.sp => {
                self.below = end;
                ControlFlow::Continue(())
            }
            Some((start, _)) if start <= self.sp => {
                self.found = Mapping::parse(line).and_then(|mapping| self.stack(&mapping));
                ControlFlow::Break(())
            }
            _ => ControlFlow::Break(()),
        }
    }

    fn stack(&self, mapping: &Mapping<'_>) -> Option<Stack> {
        let Range { start, end } = mapping.range;
        let own = match self.thread {
            ThreadId::First if mapping.path == b"[stack]" => end,
            // What is above was mapped by others, and is one mapping with the stack by chance.
            ThreadId::Other(block) if (self.sp..end).contains(&block) => block,
            _ => 0,
        };
        // What cannot be read and written is no stack: a guard page, where a table led astray.
        let good = mapping.readable && mapping.writable;
        good.then_some(Stack { range: self.below..end, mapped: start, own })
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Search, Stack, ThreadId, find};
    use alloc::vec;
    use core::ops::Range;
    use sys::mappings::lines;

    fn stack(range: Range<u64>, own: u64) -> Stack {
        above(range.start, range, own)
    }

    fn above(mapped: u64, range: Range<u64>, own: u64) -> Stack {
        Stack { range, mapped, own }
    }

    #[test]
    fn the_mapping_is_found_however_the_text_comes() {
        let maps = b"1000-2000 r-xp 00000000 00:00 0    /bin/a\n5000-9000 rw-p 00000000 00:00 0 \
            \n7fff0000-7fff8000 rw-p 00000000 00:00 0   [stack]\n";
        for step in [1, 7, 50, 4096] {
            let of = |sp, thread| {
                let mut at = 0;
                let mut search = Search::new(sp, thread);
                let more = |room: &mut [u8]| {
                    let n = step.min(room.len()).min(maps.len() - at);
                    room[..n].copy_from_slice(&maps[at..at + n]);
                    at += n;
                    Ok(n)
                };
                lines(&mut [0; 128], more, |line| search.look(line)).unwrap();
                search.found
            };
            let (first, other) = (ThreadId::First, ThreadId::Other(0x8f00));
            assert_eq!(
                (of(0x1800, first), of(0x1800, other)),
                (None, None),
                "code is no stack: {step}"
            );
            assert_eq!(
                (of(0x5000, first), of(0x5000, other)),
                (
                    Some(above(0x5000, 0x2000..0x9000, 0)),
                    Some(above(0x5000, 0x2000..0x9000, 0x8f00))
                ),
                "{step}"
            );
            assert_eq!(of(0x8ff0, other), Some(above(0x5000, 0x2000..0x9000, 0)), "{step}");
            let named = 0x9000..0x7fff_8000;
            assert_eq!(
                of(0x7fff_7fff, first),
                Some(above(0x7fff_0000, named.clone(), 0x7fff_8000)),
                "{step}"
            );
            assert_eq!(of(0x7fff_7fff, other), Some(above(0x7fff_0000, named, 0)), "{step}");
            assert_eq!((of(0x3000, first), of(0x7fff_8000, other)), (None, None), "{step}");
        }
    }

    #[test]
    fn a_thread_knows_its_own_stack_from_others() {
        let own = || {
            let here = 0_u64;
            let sp = (&raw const here).addr() as u64;
            let found = find(sp, &mut [0; 4096]).unwrap();
            assert!(found.range.contains(&sp));
            assert!(found.own > sp, "{found:x?}");
        };
        std::thread::spawn(own).join().unwrap();
        let heap = vec![0_u8; 1 << 20];
        let found = find(heap.as_ptr().addr() as u64 + 5000, &mut [0; 4096]).unwrap();
        assert_eq!(found.own, 0, "{found:x?}");
    }

    #[test]
    fn stacks_that_grow_take_one_place_and_the_oldest_gives_way() {
        let mut bounds = Bounds::default();
        (1..=4).for_each(|n| bounds.add(stack(n * 1000..n * 1000 + 100, 0)));
        bounds.add(stack(900..1100, 0));
        assert_eq!(
            (bounds.end(950), bounds.end(2050), bounds.end(4050), bounds.end(5000)),
            (Some(1100), Some(2100), Some(4100), None)
        );
        assert_eq!((bounds.mapped(950), bounds.mapped(899)), (Some(900..1100), None));
        bounds.add(above(5030, 5000..5100, 5060));
        assert_eq!((bounds.mapped(5029), bounds.mapped(5030)), (None, Some(5030..5100)));
        assert_eq!((bounds.end(5050), bounds.end(950)), (Some(5100), None));
        assert!(
            bounds.lasts(5050) && !bounds.lasts(5060) && !bounds.lasts(4999) && !bounds.lasts(4050)
        );
    }
}
