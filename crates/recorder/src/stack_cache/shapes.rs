//! Where the words are that decide how a walk goes. Stacks whose frames have the same sizes share
//! them.

use super::backoff::Backoff;
use super::path::Path;
use alloc::boxed::Box;
use alloc::vec;
use core::ptr;
use core::sync::atomic::{Ordering, compiler_fence};
use unwind::Start;

/// A shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    begin: Begin,
    /// Another one than the table's: there is none here.
    epoch: u32,
    /// Where its addresses are, which is no other's number, and how many pairs those are.
    at: u32,
    pairs: u32,
    /// Whether the frame pointer at the start decides anything.
    uses_bp: bool,
}

/// How a walk begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    pub(crate) start: Start,
    /// The return address on top of the stack, if there is one: it tells the first frame's size.
    pub(crate) caller: u64,
}

/// Shapes that begin alike, or have the same hash.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Set {
    pub(crate) shapes: [Shape; 2],
    pub(crate) backoff: Backoff,
    turn: bool,
}

#[derive(Debug)]
pub(crate) struct Shapes {
    pub(crate) sets: Box<[Set]>,
    pub(crate) addresses: Box<[[u64; 2]]>,
    used: usize,
}

/// What came of adding a shape: its number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is there.
    At(u32),
    /// Another one was lost for it.
    Instead(u32),
    /// No room for its addresses.
    Full,
}

impl Shapes {
    pub(crate) const fn bytes(sets_log2: u32, pairs: usize) -> usize {
        (size_of::<Set>() << sets_log2) + pairs * 16
    }

    pub(crate) fn new(sets_log2: u32, pairs: usize) -> Self {
        let begin = Begin { start: Start { pc: 0, sp: 0, bp: 0, entry: false }, caller: 0 };
        let shape = Shape { begin, epoch: 0, at: 0, pairs: 0, uses_bp: false };
        let set = Set { shapes: [shape; 2], backoff: Backoff::default(), turn: false };
        Self {
            sets: vec![set; 1 << sets_log2].into_boxed_slice(),
            addresses: vec![[0; 2]; pairs].into_boxed_slice(),
            used: 0,
        }
    }

    /// The index of the set for shapes that begin so.
    #[inline(always)]
    pub(crate) fn place(&self, begin: &Begin) -> usize {
        let start = &begin.start;
        let hash = (start.sp ^ start.pc.rotate_left(20) ^ begin.caller.rotate_left(40))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash >> 32) as usize & (self.sets.len() - 1)
    }

    /// The number of a path's shape, which is added if it is not there.
    pub(crate) fn add(&mut self, begin: &Begin, epoch: u32, path: &Path) -> Added {
        let set = &mut self.sets[self.place(begin)];
        let addresses = path.addresses();
        // Word by word, here and below: the C library's functions for that use vector registers
        // that nobody has saved.
        let same = |s: &&Shape| {
            s.matches(begin, epoch)
                && s.uses_bp == path.uses_bp
                && s.addresses(&self.addresses).iter().eq(addresses)
        };
        if let Some(known) = set.shapes.iter().find(same) {
            return Added::At(known.at);
        }
        let len = addresses.len();
        // One at least, so that no two are at the same place.
        let end = self.used + len.max(1);
        let (Some(room), Ok(at)) =
            (self.addresses.get_mut(self.used..end), u32::try_from(self.used))
        else {
            return Added::Full;
        };
        let free = set.shapes.iter().position(|s| s.epoch != epoch);
        let way = free.unwrap_or_else(|| {
            set.turn = !set.turn;
            usize::from(set.turn)
        });
        // Step by step: a signal handler may leave this function by a jump and never come back.
        let shape = &mut set.shapes[way];
        shape.epoch = 0;
        compiler_fence(Ordering::SeqCst);
        self.used = end;
        for (to, from) in room.as_flattened_mut().iter_mut().zip(addresses.as_flattened()) {
            // SAFETY: a reference. Volatile, so that the loop stays one.
            unsafe { ptr::write_volatile(to, *from) };
        }
        *shape = Shape { begin: *begin, epoch: 0, at, pairs: len as u32, uses_bp: path.uses_bp };
        compiler_fence(Ordering::SeqCst);
        shape.epoch = epoch;
        if free.is_some() { Added::At(at) } else { Added::Instead(at) }
    }

    /// Gives the room of all addresses back; shapes of epochs until now are not looked at any more.
    pub(crate) fn empty(&mut self) {
        self.used = 0;
    }

    /// Empties the table for epochs that were used before.
    pub(crate) fn clear(&mut self) {
        self.sets.iter_mut().flat_map(|set| &mut set.shapes).for_each(|shape| shape.epoch = 0);
    }
}

impl Shape {
    /// Whether it is that of walks that begin so.
    #[inline(always)]
    pub(crate) fn matches(&self, begin: &Begin, epoch: u32) -> bool {
        let (its, start) = (&self.begin.start, &begin.start);
        self.epoch == epoch
            && (its.sp, its.pc, its.entry, self.begin.caller)
                == (start.sp, start.pc, start.entry, begin.caller)
            && (!self.uses_bp || its.bp == start.bp)
    }

    #[inline(always)]
    pub(crate) fn number(&self) -> u32 {
        self.at
    }

    /// Where its words are.
    #[inline(always)]
    pub(crate) fn addresses<'a>(&self, all: &'a [[u64; 2]]) -> &'a [[u64; 2]] {
        let at = self.at as usize;
        all.get(at..at + self.pairs as usize).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Added, Begin, Path, Shapes};
    use alloc::vec;
    use unwind::{Bounds, Start, Trace};

    fn begin(sp: u64) -> Begin {
        Begin { start: Start { pc: 1, sp, bp: 7, entry: true }, caller: 3 }
    }

    fn path(sizes: &[u64]) -> Path {
        let mut path = Path::new();
        sizes.iter().for_each(|at| path.read(at * 8, 1));
        assert!(path.end(&begin(16).start, &Bounds::default()), "all in one page");
        path
    }

    #[test]
    fn a_shape_is_kept_once_and_each_has_its_number() {
        let mut shapes = Shapes::new(4, 64);
        let Added::At(first) = shapes.add(&begin(16), 1, &path(&[1, 2, 3, 4])) else {
            panic!("there is room")
        };
        assert_eq!(shapes.add(&begin(16), 1, &path(&[1, 2, 3, 4])), Added::At(first));
        let Added::At(other) = shapes.add(&begin(16), 1, &path(&[1, 2, 3, 5])) else {
            panic!("two may begin alike")
        };
        let Added::Instead(third) = shapes.add(&begin(16), 1, &path(&[])) else {
            panic!("three may not")
        };
        let Added::At(fourth) = shapes.add(&begin(16), 2, &path(&[])) else {
            panic!("those of another epoch do not count")
        };
        let mut numbers = vec![first, other, third, fourth];
        numbers.dedup();
        assert_eq!(numbers.len(), 4);
    }

    #[test]
    fn a_shape_is_found_by_how_its_walks_begin() {
        let mut shapes = Shapes::new(0, 64);
        let mut with_bp = path(&[1, 2]);
        with_bp.uses_start_bp();
        assert!(matches!(shapes.add(&begin(16), 1, &with_bp), Added::At(_)));
        assert!(matches!(shapes.add(&begin(24), 1, &path(&[3, 5])), Added::At(_)));
        let [by_bp, plain] = shapes.sets[0].shapes;
        assert_eq!(
            (by_bp.addresses(&shapes.addresses), plain.addresses(&shapes.addresses)),
            (&[[8, 16]][..], &[[24, 40]][..])
        );
        assert!(
            by_bp.matches(&begin(16), 1)
                && !by_bp.matches(&begin(16), 2)
                && !by_bp.matches(&begin(24), 1)
        );
        let other_bp = |sp| Begin { start: Start { bp: 8, ..begin(sp).start }, caller: 3 };
        assert!(!by_bp.matches(&other_bp(16), 1) && plain.matches(&other_bp(24), 1));
        assert!(!plain.matches(&Begin { caller: 4, ..begin(24) }, 1));
        shapes.clear();
        assert!(!shapes.sets[0].shapes[0].matches(&begin(16), 1));
    }

    #[test]
    fn room_for_addresses_ends_and_comes_back() {
        let mut shapes = Shapes::new(4, 4);
        let long = path(&[1, 3, 5, 7, 9, 11]);
        assert!(matches!(shapes.add(&begin(16), 1, &long), Added::At(_)));
        assert_eq!(shapes.add(&begin(24), 1, &long), Added::Full);
        shapes.empty();
        assert!(matches!(shapes.add(&begin(24), 2, &long), Added::At(_)));
    }
}
