//! Stacks that a thread has met before. A program hits a probe again and again on the same few stacks: instead of walking, the words that decided how the walk went are compared with what they were.
//! As long as they, the registers and what is loaded are the same, so is the stack, and its cell is known.
#![allow(unsafe_code)]

use std::ptr;
use unwind::{Start, Trace};
use wire::StackCell;

/// Stacks remembered.
const PLACES: usize = 32;
/// Words of one: a frame has one or two. Deeper stacks are walked.
const WORDS: usize = 64;
/// After so many failures in a row a place is left alone for a while, each time twice as long: its stacks change more often than they are met again.
const FAILURES: u8 = 4;
const REST: u16 = 256;
const LONGEST_REST: u16 = 1 << 15;

/// A stack.
#[derive(Clone, Debug)]
struct Known {
    start: Start,
    generation: u64,
    /// Words that count; 0: nothing is known here.
    len: usize,
    cell: Option<(&'static StackCell, u32)>,
    /// Whether the frame pointer at the start decides anything.
    uses_bp: bool,
    failures: u8,
    /// Hits to let pass.
    rest: u16,
    /// How many those will be the next time.
    next_rest: u16,
    addresses: [u64; WORDS],
    words: [u64; WORDS],
}

const NOTHING: Known = Known {
    start: Start { pc: 0, sp: 0, bp: 0, entry: false },
    generation: 0,
    len: 0,
    cell: None,
    uses_bp: false,
    failures: 0,
    rest: 0,
    next_rest: REST,
    addresses: [0; WORDS],
    words: [0; WORDS],
};

/// A thread's.
#[derive(Debug)]
pub(crate) struct Same {
    /// In a box that is filled piece by piece: the whole would not fit on some stacks.
    known: Box<[Known]>,
}

impl Default for Same {
    fn default() -> Self {
        Self { known: vec![NOTHING; PLACES].into_boxed_slice() }
    }
}

/// What to do with a hit.
pub(crate) enum Answer {
    /// It is a known stack.
    Cell(&'static StackCell, u32),
    /// Walk, and remember the stack at this place.
    Remember(usize),
    /// Walk.
    Walk,
}

impl Same {
    /// Bytes beside the structure itself.
    pub(crate) const BYTES: usize = PLACES * size_of::<Known>();

    /// Looks whether this is a known stack.
    #[inline(always)]
    pub(crate) fn look(&mut self, start: &Start, generation: u64) -> Answer {
        let caller = if start.entry { word(start.sp) } else { start.bp };
        let hash = (start.sp ^ start.pc.rotate_left(20) ^ caller.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = (hash >> (64 - PLACES.trailing_zeros())) as usize;
        // The hash has as many bits as there are places.
        let Some(known) = self.known.get_mut(place) else { return Answer::Walk };
        if known.rest > 0 {
            known.rest -= 1;
            return Answer::Walk;
        }
        if known.begins(start)
            && known.generation == generation
            && let Some((cell, index)) = known.cell
            && known.unchanged()
        {
            (known.failures, known.next_rest) = (0, REST);
            return Answer::Cell(cell, index);
        }
        known.failures += 1;
        if known.failures > FAILURES {
            (known.failures, known.rest) = (0, known.next_rest);
            known.next_rest = known.next_rest.saturating_mul(2).min(LONGEST_REST);
        }
        Answer::Remember(place)
    }

    /// Begins to remember a stack at a place.
    pub(crate) fn begin(&mut self, place: usize, start: &Start, generation: u64) -> Words<'_> {
        let known = &mut self.known[place];
        (known.start, known.generation, known.len, known.cell, known.uses_bp) = (*start, generation, 0, None, false);
        Words(known)
    }

    /// The stack at that place is that of this cell.
    #[inline]
    pub(crate) fn finish(&mut self, place: usize, cell: (&'static StackCell, u32)) {
        let known = &mut self.known[place];
        // Words beyond the last one were not kept: then it cannot be told from others.
        known.cell = (known.len <= WORDS).then_some(cell);
    }

    /// Cells may have been given to other stacks.
    pub(crate) fn forget(&mut self) {
        self.known.iter_mut().for_each(|known| known.cell = None);
    }
}

impl Known {
    #[inline(always)]
    fn begins(&self, start: &Start) -> bool {
        let its = &self.start;
        (its.pc, its.sp, its.entry) == (start.pc, start.sp, start.entry) && (!self.uses_bp || its.bp == start.bp)
    }

    #[inline(always)]
    fn unchanged(&self) -> bool {
        let len = self.len.min(WORDS);
        let (addresses, words) = (&self.addresses[..len], &self.words[..len]);
        // In order, so that nothing is read beyond a frame that is not what it was: the addresses of a walk lie in live frames only as long as the words before them are the same.
        addresses.iter().zip(words).all(|(address, was)| word(*address) == *was)
    }
}

/// A word of the stack, or of a return probe.
#[inline(always)]
fn word(address: u64) -> u64 {
    // SAFETY: the stack pointer's own word; or, on the same thread and stack pointer, a word that a walk has read, of the same mapping: above the stack pointer, stacks do not shrink. Records of return probes are
    // never unmapped. Volatile: others own it.
    unsafe { ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() }
}

/// Words on their way in.
pub(crate) struct Words<'k>(&'k mut Known);

impl Trace for Words<'_> {
    #[inline(always)]
    fn read(&mut self, address: u64, word: u64) {
        let known = &mut *self.0;
        if let (Some(a), Some(w)) = (known.addresses.get_mut(known.len), known.words.get_mut(known.len)) {
            (*a, *w) = (address, word);
        }
        known.len += 1;
    }

    #[inline(always)]
    fn uses_start_bp(&mut self) {
        self.0.uses_bp = true;
    }
}
