//! Stacks that a thread has met before. A program hits a probe again and again on the same stacks:
//! instead of walking, the words that decide how a walk goes are read and hashed. As long as they,
//! the registers and what is loaded are the same, so is the stack, and its cell is known.
//!
//! Where those words are is known from an earlier walk that began alike: the stacks of a function
//! that is called at one place with one stack pointer mostly differ in their return addresses, not
//! in the sizes of their frames ([`shapes`]). If the sizes were others, what is read is whatever
//! lies there; it is hashed, not believed, and is not the hash of a stack with these sizes
//! ([`hash`]).
#![allow(unsafe_code)]

mod backoff;
mod hash;
mod path;
mod shapes;
mod stacks;

pub(crate) use hash::Keys;
pub(crate) use path::Path;

use core::ptr;
use core::sync::atomic::{Ordering, compiler_fence};
use shapes::{Added, Begin, Shape, Shapes};
use stacks::Stacks;
use unwind::{Bounds, Start};
use wire::StackCell;

/// How much a thread may remember.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Places for two shapes each.
    sets_log2: u32,
    /// Pairs of words in all shapes.
    pairs: usize,
    stacks_log2: u32,
}

/// To begin with.
const SMALL: Size = Size { sets_log2: 4, pairs: 512, stacks_log2: 8 };
/// For threads to which that was too small.
const LARGE: Size = Size { sets_log2: 7, pairs: 4096, stacks_log2: 11 };

impl Size {
    const fn bytes(self) -> usize {
        Shapes::bytes(self.sets_log2, self.pairs) + Stacks::bytes(self.stacks_log2)
    }
}

/// A thread's.
#[derive(Debug)]
pub(crate) struct StackCache {
    shapes: Shapes,
    stacks: Stacks,
    path: Path,
    large: bool,
    /// Of unwinding: another one is another epoch.
    generation: u64,
    /// What was remembered in another epoch is forgotten. Not 0.
    epoch: u32,
}

/// What to do with a hit.
pub(crate) enum Answer {
    /// It is in the cache.
    Cell(&'static StackCell, u32),
    /// Walk, and remember the stack.
    Remember,
    /// Walk.
    Walk,
}

impl StackCache {
    /// Bytes beside the structure itself.
    pub(crate) const BYTES: usize = Path::BYTES + SMALL.bytes();
    /// How many more those are after [`StackCache::grow`].
    pub(crate) const GROWTH: usize = LARGE.bytes() - SMALL.bytes();

    pub(crate) fn new() -> Self {
        let (shapes, stacks) = Self::tables(SMALL);
        Self { shapes, stacks, path: Path::new(), large: false, generation: 0, epoch: 1 }
    }

    fn tables(size: Size) -> (Shapes, Stacks) {
        (Shapes::new(size.sets_log2, size.pairs), Stacks::new(size.stacks_log2))
    }

    /// Looks the stack up.
    #[inline(always)]
    pub(crate) fn look(&mut self, keys: &Keys, start: &Start, generation: u64) -> Answer {
        if self.generation != generation {
            self.forget();
            compiler_fence(Ordering::SeqCst);
            self.generation = generation;
        }
        let begin = begin(start);
        let place = self.shapes.place(&begin);
        // The place is always there.
        let Some(set) = self.shapes.sets.get_mut(place) else { return Answer::Walk };
        if set.backoff.rests() {
            return Answer::Walk;
        }
        if let Some((cell, index)) =
            find(&set.shapes[0], &begin, &self.shapes.addresses, &self.stacks, keys, self.epoch)
        {
            set.backoff.success();
            return Answer::Cell(cell, index);
        }
        self.look_further(keys, start)
    }

    /// Looks at the second shape. Not inlined, and from the beginning: what is found at once would
    /// pay for the registers.
    #[inline(never)]
    fn look_further(&mut self, keys: &Keys, start: &Start) -> Answer {
        let begin = begin(start);
        let place = self.shapes.place(&begin);
        let set = &mut self.shapes.sets[place];
        match find(&set.shapes[1], &begin, &self.shapes.addresses, &self.stacks, keys, self.epoch) {
            Some((cell, index)) => {
                set.backoff.success();
                Answer::Cell(cell, index)
            }
            None => Answer::Remember,
        }
    }

    /// Begins to remember a stack: the path of its walk.
    pub(crate) fn begin(&mut self) -> &mut Path {
        self.path.begin()
    }

    /// The stack that was walked last is that of this cell. True: there is so much to remember that
    /// [`StackCache::grow`] is worth while.
    pub(crate) fn finish(
        &mut self,
        keys: &Keys,
        start: &Start,
        bounds: &Bounds,
        cell: (&'static StackCell, u32),
    ) -> bool {
        let begin = begin(start);
        let kept = self.path.end(start, bounds);
        let lost = kept && self.keep(keys, &begin, cell);
        if kept && !lost {
            return false;
        }
        let place = self.shapes.place(&begin);
        let tired = self.shapes.sets[place].backoff.failure();
        tired && lost && !self.large
    }

    /// Whether something was lost for it.
    fn keep(&mut self, keys: &Keys, begin: &Begin, cell: (&'static StackCell, u32)) -> bool {
        let mut added = self.shapes.add(begin, self.epoch, &self.path);
        let full = added == Added::Full;
        if full {
            self.forget();
            added = self.shapes.add(begin, self.epoch, &self.path);
        }
        let (number, lost) = match added {
            Added::At(number) => (number, false),
            Added::Instead(number) => (number, true),
            Added::Full => return true,
        };
        let hash = keys.hash(number, self.path.words().iter().copied());
        !self.stacks.add(hash, self.epoch, cell) || lost || full
    }

    /// Remembers more from now on, and nothing of what was before. Allocates: not on the way of a
    /// hit.
    pub(crate) fn grow(&mut self) {
        let (shapes, stacks) = Self::tables(LARGE);
        // A signal handler that ends in a jump does not come here: signals are blocked where memory
        // is allocated.
        (self.shapes, self.stacks, self.large) = (shapes, stacks, true);
    }

    /// Cells may have been given to other stacks.
    pub(crate) fn forget(&mut self) {
        self.epoch = self.epoch.checked_add(1).unwrap_or_else(|| {
            self.shapes.clear();
            self.stacks.clear();
            1
        });
        // The room of addresses is given back when no shape is valid: a signal handler may leave
        // this function by a jump and never come back.
        compiler_fence(Ordering::SeqCst);
        self.shapes.empty();
    }
}

/// The cell of a stack that begins so, and its index, if it has this shape and is in the cache.
#[inline(always)]
fn find(
    shape: &Shape,
    begin: &Begin,
    addresses: &[[u64; 2]],
    stacks: &Stacks,
    keys: &Keys,
    epoch: u32,
) -> Option<(&'static StackCell, u32)> {
    if !shape.matches(begin, epoch) {
        return None;
    }
    let words = shape.addresses(addresses).iter().map(|[a, b]| [word(*a), word(*b)]);
    stacks.find(keys.hash(shape.number(), words), epoch)
}

#[inline(always)]
fn begin(start: &Start) -> Begin {
    Begin { start: *start, caller: if start.entry { word(start.sp) } else { 0 } }
}

/// A word of the stack, or of a return probe.
#[inline(always)]
fn word(address: u64) -> u64 {
    // SAFETY: the stack pointer's own word; or one that a walk on this thread has read, and that
    // stays readable ([`Path::end`]). Volatile: others own it.
    unsafe { ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Keys, Path, StackCache};
    use alloc::boxed::Box;
    use unwind::{Bounds, Start, Trace};
    use wire::StackCell;

    /// A stack of one page, with a few words that count.
    #[repr(align(4096))]
    struct Page([u64; 512]);

    const WORDS: [usize; 7] = [0, 3, 9, 10, 100, 101, 511];

    impl Page {
        fn address(&self, at: usize) -> u64 {
            (&raw const self.0[at]).expose_provenance() as u64
        }

        fn start(&self) -> Start {
            Start { pc: 1, sp: self.address(0), bp: 2, entry: true }
        }
    }

    struct Thread {
        keys: Keys,
        cache: StackCache,
        cell: &'static StackCell,
        /// Stacks that were walked, and those of them that were remembered.
        walks: u32,
        remembered: u32,
        grown: bool,
    }

    impl Thread {
        fn new() -> Self {
            let cell =
                Box::leak(Box::new(StackCell { handle: 0.into(), age: 0.into(), calls: 0.into() }));
            Self {
                keys: Keys::random(Path::PAIRS),
                cache: StackCache::new(),
                cell,
                walks: 0,
                remembered: 0,
                grown: false,
            }
        }

        /// A hit on the stack with these words, which is that of cell `name`; what it is taken for.
        fn hit(&mut self, page: &Page, words: &[usize], generation: u64, name: u32) -> u32 {
            let start = page.start();
            match self.cache.look(&self.keys, &start, generation) {
                Answer::Cell(_, index) => return index,
                Answer::Walk => {}
                Answer::Remember => {
                    self.remembered += 1;
                    let path = self.cache.begin();
                    words.iter().for_each(|at| path.read(page.address(*at), page.0[*at]));
                    if self.cache.finish(&self.keys, &start, &Bounds::default(), (self.cell, name))
                    {
                        self.cache.grow();
                        self.grown = true;
                    }
                }
            }
            self.walks += 1;
            name
        }
    }

    #[test]
    fn a_stack_is_known_until_a_word_of_it_differs() {
        let (mut thread, mut page) = (Thread::new(), Page([0; 512]));
        for (name, at) in WORDS.iter().enumerate().skip(1) {
            page.0[*at] = name as u64;
            for _ in 0..3 {
                assert_eq!(thread.hit(&page, &WORDS, 1, name as u32), name as u32);
            }
            // Words between them do not count.
            page.0[*at - 1] = 77;
        }
        assert_eq!(thread.walks as usize, WORDS.len() - 1);
    }

    #[test]
    fn stacks_in_turn_are_known_and_all_are_forgotten_when_something_is_loaded() {
        let (mut thread, mut page) = (Thread::new(), Page([0; 512]));
        for round in 0..20 {
            // So few that no two fight for a place.
            for name in 0..WORDS.len() as u32 * 2 {
                (page.0[9], page.0[511]) = (u64::from(name % 10), u64::from(name / 10));
                assert_eq!(thread.hit(&page, &WORDS, 1 + round / 10, name), name);
            }
        }
        assert_eq!(thread.walks as usize, 2 * 2 * WORDS.len());
    }

    #[test]
    fn frames_of_other_sizes_are_other_stacks() {
        let (mut thread, page) = (Thread::new(), Page([0; 512]));
        // The walk depends on a word that is the same in all of memory: only where it is tells the
        // stacks apart, and nothing in memory does.
        assert_eq!(thread.hit(&page, &WORDS[..4], 1, 1), 1);
        assert_eq!(thread.hit(&page, &WORDS, 1, 2), 1);
        // With another generation they are other walks.
        assert_eq!(thread.hit(&page, &WORDS, 2, 2), 2);
        assert_eq!(thread.hit(&page, &WORDS[..4], 3, 1), 1);
    }

    #[test]
    fn a_thread_with_many_stacks_grows_once_and_then_gives_up() {
        let (mut thread, mut page) = (Thread::new(), Page([0; 512]));
        let mut hit = |thread: &mut Thread, names: u32| {
            let before = thread.walks;
            for name in 0..names {
                page.0[511] = u64::from(name);
                assert_eq!(thread.hit(&page, &WORDS, 1, name), name);
            }
            thread.walks - before
        };
        (0..3).for_each(|_| _ = hit(&mut thread, 50));
        assert!(!thread.grown);
        (0..3).for_each(|_| _ = hit(&mut thread, 1000));
        assert!(thread.grown);
        // A few may fight for a place.
        assert!(hit(&mut thread, 1000) < 50);
        (0..5).for_each(|_| _ = hit(&mut thread, 20_000));
        let before = thread.remembered;
        let walks = (0..10).map(|_| hit(&mut thread, 20_000)).sum::<u32>();
        assert!(
            walks > 190_000 && thread.remembered - before < 2000,
            "{walks} {}",
            thread.remembered - before
        );
    }

    /// What is not in the page of the stack pointer, nor on the stack that the thread began on, may
    /// be unmapped when the next hit comes.
    #[test]
    fn words_that_may_go_are_not_remembered() {
        let (mut thread, page) = (Thread::new(), Page([0; 512]));
        let other = Page([0; 512]);
        let start = page.start();
        for _ in 0..5 {
            assert!(matches!(thread.cache.look(&thread.keys, &start, 1), Answer::Remember));
            thread.cache.begin().read(other.address(0), 0);
            assert!(!thread.cache.finish(
                &thread.keys,
                &start,
                &Bounds::default(),
                (thread.cell, 1)
            ));
        }
        assert!(matches!(thread.cache.look(&thread.keys, &start, 1), Answer::Walk));
        // Those of the host stay.
        let start = Start { pc: 99, ..start };
        thread.cache.begin().read_of_host(other.address(0), 0);
        assert!(!thread.cache.finish(&thread.keys, &start, &Bounds::default(), (thread.cell, 1)));
        assert!(matches!(thread.cache.look(&thread.keys, &start, 1), Answer::Cell(_, 1)));
    }
}
