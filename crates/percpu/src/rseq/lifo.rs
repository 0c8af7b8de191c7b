//! A per-CPU LIFO of numbers, pushed and popped by restartable sequences.
//!
//! The entries are numbers from 1 to 2^25 - 1, and the links between them lie in an array beside
//! the objects, so that a list never touches an object. Each CPU has one word, each entry one link
//! (`links[entry]`; that of entry 0 stays 0 and stands for the bottom; a user who leaves the
//! entries beside it unused, too, keeps the line that all CPUs read free of writers):
//!
//! ```text
//! word   [ top entry: 32 ]              0: the list is empty
//! link   [ depth: 32 | below: 32 ]      the word as it was before this entry was pushed; how many
//!                                       entries there are from here to the bottom
//! ```
//!
//! # Why this shape
//! A push commits the entry's number as it is, a pop the half of a link as it is: the next pop
//! waits for nothing but the store of the last push. (A word with head, length and operation count
//! packed into it cost 5.6 ns per pop + push here, because each operation had to wait for the
//! arithmetic of the last.) The length lies in the links and only feeds a predicted branch; the two
//! halves of a link are written apart, so that the next pop does not wait for it either.
//!
//! # Exact emptiness
//! A pop counts itself in the slot, before it commits and after it has seen an entry. So two equal
//! readings of an empty list ([`Lifo::word`]) mean that it was empty all the time in between: had
//! an entry been pushed after the first reading, it would have been popped before the second, by a
//! pop that saw it, hence counted itself, after the first.
//!
//! # Who may write what
//! The word: sequences on that CPU while the gate is open; visitors by compare-and-swap
//! ([`Lifo::steal`]) while they keep it closed. The link of an entry: whoever owns it; a list owns
//! its entries. Bit 63 is 0 in the link of every entry in a list; an owner can use the link of an
//! entry that is in no list for anything, for example to tell by bit 63 that it is out.
#![allow(unsafe_code)]

use super::{Closed, Gate, Refused};
use crate::CachePadded;
use crate::arch::sequence;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bits of a link that name the entry below.
pub const ENTRY_MASK: u64 = u32::MAX as u64;
/// The bit of a link that is 0 while its entry is in a list.
pub const OUT: u64 = 1 << 63;
const DEPTH_SHIFT: u32 = 32;
/// The longest list.
pub const MAX_LEN: u32 = 255;

/// One CPU's list.
#[derive(Debug, Default)]
#[repr(C)]
pub struct LifoSlot {
    pub(crate) word: AtomicU32,
    /// Pops that saw an entry, and some that were aborted then. Never decreases.
    pub(crate) pops: AtomicU64,
}

pub(crate) const POPS_OFFSET: usize = core::mem::offset_of!(LifoSlot, pops);

const _: () = assert!(
    size_of::<CachePadded<LifoSlot>>() == 128,
    "the assembly multiplies the CPU's number by 128"
);

/// A list at one moment. Two equal readings of an empty list mean that it was empty in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    word: u32,
    pops: u64,
}

impl Word {
    /// Whether the list has no entry.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.head() == 0
    }

    /// The top entry; 0 when the list is empty.
    #[inline]
    pub fn head(self) -> u32 {
        self.word
    }
}

/// Entries that are linked to each other and belong to the caller: from `head` by [`Lifo::next`] to
/// `tail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The first entry.
    pub head: u32,
    /// The last entry; its link names nothing.
    pub tail: u32,
    /// How many entries: 1 to [`MAX_LEN`].
    pub len: u32,
}

/// Why a list operation did not commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The sequence could not run.
    Refused(Refused),
    /// Pop: the list of this CPU is empty. Split: it has too few entries.
    Empty {
        /// Which CPU's list.
        cpu: u32,
    },
    /// Push: the list of this CPU is at its limit. Install: it is not empty.
    Full {
        /// Which CPU's list.
        cpu: u32,
    },
}

/// What an assembly sequence says: `entry` 0 means that it did not commit, and `code` why.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) entry: u32,
    pub(crate) cpu: u32,
    pub(crate) code: u32,
}

impl Outcome {
    /// The CPU's number is not below the gate's: closed, or the area says -1.
    pub(crate) const CODE_REFUSED: u32 = 1;
    pub(crate) const CODE_EMPTY: u32 = 3;
    pub(crate) const CODE_FULL: u32 = 4;
    pub(crate) const UNREGISTERED: Self =
        Self { entry: 0, cpu: u32::MAX, code: Self::CODE_REFUSED };

    #[inline(always)]
    fn result(self) -> Result<(u32, u32), Miss> {
        match self {
            Self { entry, cpu, .. } if entry != 0 => Ok((entry, cpu)),
            Self { code: Self::CODE_EMPTY, cpu, .. } => Err(Miss::Empty { cpu }),
            Self { code: Self::CODE_FULL, cpu, .. } => Err(Miss::Full { cpu }),
            Self { cpu, .. } => Err(Miss::Refused(Refused::of_cpu(cpu))),
        }
    }
}

/// The lists of all CPUs, their links and their gate, as a view into memory that the caller owns.
///
/// Sequences follow the numbers in that memory without a look, so whoever makes a view vouches for
/// the memory, and whoever gives it an entry for the entry. Taking is safe.
/// ```compile_fail,E0133
/// use percpu::rseq::lifo::Lifo;
/// fn give(lifo: Lifo<'_>) {
///     let _ = lifo.push(0x4000_0000);
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Lifo<'a> {
    pub(crate) slots: &'a [CachePadded<LifoSlot>],
    pub(crate) links: &'a [AtomicU64],
    pub(crate) gate: &'a Gate,
    pub(crate) limit: u32,
}

impl<'a> Lifo<'a> {
    /// A view over one slot per possible CPU and, for entries up to n, n + 1 links, all 0 at first.
    /// A list holds at most `limit` entries.
    ///
    /// # Panics
    /// There are fewer slots than the gate has, `limit` is 0 or above [`MAX_LEN`], or `links` is
    /// empty or has more than 2^25 elements.
    ///
    /// # Safety
    /// - `slots` and `gate` are new, or were used by views with these same three parts alone.
    /// - `links[0]` is 0 and nobody writes it. The link of an entry that is in a list is written by
    ///   these views alone; its owner may write the link of any other.
    #[inline]
    pub unsafe fn new(
        slots: &'a [CachePadded<LifoSlot>],
        links: &'a [AtomicU64],
        gate: &'a Gate,
        limit: u32,
    ) -> Self {
        assert!(slots.len() >= gate.slots(), "one slot per possible CPU");
        assert!(limit != 0 && limit <= MAX_LEN, "a list holds 1 to 255 entries");
        assert!(!links.is_empty() && links.len() <= 1 << 25, "entries are below 2^25");
        Self { slots, links, gate, limit }
    }

    /// Takes the top entry of this CPU's list. Returns it and the CPU.
    ///
    /// # Errors
    /// [`Miss::Empty`], or [`Miss::Refused`]. After [`Refused::Unregistered`] the caller may try
    /// [`register_thread`](super::register_thread) once; pop and push do not do so themselves,
    /// because a call in the slow half costs the fast half its registers.
    ///
    /// # Context
    /// Signal-safe, never allocates, never blocks, no system call.
    #[inline(always)]
    pub fn pop(self) -> Result<(u32, u32), Miss> {
        sequence::pop(self).result()
    }

    /// Puts `entry` on top of this CPU's list. Returns the CPU. The caller owns the entry, and its
    /// link may be overwritten also when the push is refused.
    ///
    /// # Errors
    /// [`Miss::Full`], or [`Miss::Refused`].
    ///
    /// # Safety
    /// `entry` is not 0, is below the number of links, and belongs to the caller: it is in no list
    /// and in nobody else's hands.
    ///
    /// # Context
    /// As [`pop`](Self::pop).
    #[inline(always)]
    pub unsafe fn push(self, entry: u32) -> Result<u32, Miss> {
        debug_assert!(entry != 0 && (entry as usize) < self.links.len());
        sequence::push(self, entry).result().map(|(_, cpu)| cpu)
    }

    /// [`pop`](Self::pop) without the reason for a miss: the fast half of a pop whose slow half
    /// asks again. Finding the reason costs a few instructions, also where it is ignored.
    #[inline(always)]
    pub fn try_pop(self) -> Option<(u32, u32)> {
        let out = sequence::pop(self);
        if out.entry != 0 { Some((out.entry, out.cpu)) } else { None }
    }

    /// [`push`](Self::push) without the reason for a miss, as [`try_pop`](Self::try_pop).
    ///
    /// # Safety
    /// As [`push`](Self::push).
    #[inline(always)]
    pub unsafe fn try_push(self, entry: u32) -> Option<u32> {
        debug_assert!(entry != 0 && (entry as usize) < self.links.len());
        let out = sequence::push(self, entry);
        if out.entry != 0 { Some(out.cpu) } else { None }
    }

    /// Takes the top `len` entries of this CPU's list. Returns them and the CPU.
    ///
    /// # Errors
    /// [`Miss::Empty`]: the list has fewer than `len`; or [`Miss::Refused`].
    ///
    /// # Panics
    /// `len` is 0 or above [`MAX_LEN`].
    ///
    /// # Context
    /// As [`pop`](Self::pop); follows `len` links; a thread's first call may register it (one
    /// system call).
    #[inline(never)]
    pub fn split(self, len: u32) -> Result<(Chain, u32), Miss> {
        assert!(len != 0 && len <= MAX_LEN, "a list holds 1 to 255 entries");
        let (head, cpu) = Self::registered(|| sequence::split(self, len))?;
        Ok((self.own_chain(head, len), cpu))
    }

    /// Makes `chain` the list of this CPU, if that is empty. Returns the CPU. The caller owns the
    /// chain.
    ///
    /// # Errors
    /// [`Miss::Full`]: the list is not empty; or [`Miss::Refused`].
    ///
    /// # Safety
    /// The chain was made by these views, and its entries belong to the caller as in
    /// [`push`](Self::push).
    ///
    /// # Context
    /// As [`pop`](Self::pop); a thread's first call may register it (one system call).
    #[inline(never)]
    pub unsafe fn install(self, chain: Chain) -> Result<u32, Miss> {
        debug_assert!(chain.head != 0 && (chain.tail as usize) < self.links.len());
        Self::registered(|| sequence::install(self, chain)).map(|(_, cpu)| cpu)
    }

    /// Links `entry`, which the caller owns, in front of a chain that it owns, or makes it a chain
    /// of its own.
    ///
    /// # Panics
    /// `entry` has no link, or the chain has [`MAX_LEN`] entries.
    ///
    /// # Safety
    /// As [`push`](Self::push) for `entry`, and as [`install`](Self::install) for `chain`.
    #[inline]
    pub unsafe fn prepend(self, entry: u32, chain: Option<Chain>) -> Chain {
        let (next, tail, len) = chain.map_or((0, entry, 0), |c| (c.head, c.tail, c.len));
        assert!(len < MAX_LEN, "a list holds 1 to 255 entries");
        // Relaxed: the caller owns the entry; giving the chain away publishes it.
        self.links[entry as usize].store(link(len + 1, next), Ordering::Relaxed);
        Chain { head: entry, tail, len: len + 1 }
    }

    /// The entry behind `entry` in a chain that the caller owns; meaningless for the last one.
    #[inline]
    pub fn next(self, entry: u32) -> u32 {
        (self.links[entry as usize].load(Ordering::Relaxed) & ENTRY_MASK) as u32
    }

    /// Runs a sequence, registering the thread first if it has to be.
    fn registered(sequence: impl Fn() -> Outcome) -> Result<(u32, u32), Miss> {
        match sequence().result() {
            Err(Miss::Refused(Refused::Unregistered)) if super::register_thread() => {
                sequence().result()
            }
            result => result,
        }
    }

    /// One CPU's list as it is now.
    ///
    /// # Panics
    /// `slot` is not below the number of slots.
    ///
    /// # Context
    /// Signal-safe, no system call. Reads again while the list is being popped: lock-free.
    #[inline]
    pub fn word(self, slot: usize) -> Word {
        let slot = &self.slots[slot];
        // All Acquire: they pair with the stores of a sequence (releases on x86) and with the
        // compare-and-swap in `steal`, and keep these loads in order.
        let mut pops = slot.pops.load(Ordering::Acquire);
        loop {
            let word = slot.word.load(Ordering::Acquire);
            match slot.pops.load(Ordering::Acquire) {
                now if now == pops => return Word { word, pops },
                now => pops = now,
            }
        }
    }

    /// How many entries one CPU's list has. Exact when no operation is in progress.
    ///
    /// # Panics
    /// `slot` is not below the number of slots.
    pub fn len(self, slot: usize) -> u32 {
        let head = self.slots[slot].word.load(Ordering::Acquire) as usize;
        self.links.get(head).map_or(0, |link| (link.load(Ordering::Relaxed) >> DEPTH_SHIFT) as u32)
    }

    /// Takes up to `max` entries from the top of any CPU's list, or nothing when it is empty.
    /// Several visitors can do so at once.
    ///
    /// # Panics
    /// `slot` is not below the number of slots, or `closed` is another gate's.
    ///
    /// # Context
    /// Lock-free, signal-safe, never allocates, no system call.
    pub fn steal(self, closed: &Closed<'_>, slot: usize, max: u32) -> Option<Chain> {
        assert!(closed.is_of(self.gate), "another gate is closed");
        let cell = &self.slots[slot].word;
        let mut word = cell.load(Ordering::Acquire);
        loop {
            let (len, rest) = self.follow(word, max);
            if len == 0 {
                return None;
            }
            // As a pop does; atomic, because visitors are not alone.
            self.slots[slot].pops.fetch_add(1, Ordering::AcqRel);
            // AcqRel: the links that were followed belong to this word (Acquire, pairs with the
            // sequence's commit); the next visitor or owner reads the word after this visitor is
            // done with the list (Release). No ABA: while the gate is closed a list only gets
            // shorter.
            match cell.compare_exchange(word, rest, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(self.own_chain(word, len)),
                Err(now) => word = now,
            }
        }
    }

    /// Up to `max` steps down from `word`: how many there were, and the word below. Another visitor
    /// may take the list meanwhile and its owner may relink the entries: then the result is
    /// meaningless, and the compare-and-swap that follows fails.
    fn follow(self, mut word: u32, max: u32) -> (u32, u32) {
        for len in 0..max.min(MAX_LEN) {
            match self.links.get(word as usize) {
                Some(link) if word != 0 => {
                    word = (link.load(Ordering::Relaxed) & ENTRY_MASK) as u32
                }
                _ => return (len, word),
            }
        }
        (max.min(MAX_LEN), word)
    }

    /// Writes into the links of `len` entries that now belong to the caller how deep each lies in
    /// its own chain.
    fn own_chain(self, head: u32, len: u32) -> Chain {
        let mut tail = head;
        for depth in (1..=len).rev() {
            let below = self.next(tail);
            self.links[tail as usize].store(link(depth, below), Ordering::Relaxed);
            if depth > 1 {
                tail = below;
            }
        }
        Chain { head, tail, len }
    }
}

fn link(depth: u32, below: u32) -> u64 {
    u64::from(depth) << DEPTH_SHIFT | u64::from(below)
}
