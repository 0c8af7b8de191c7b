//! A per-CPU LIFO of numbers, pushed and popped by restartable sequences.
//!
//! The entries are the numbers 1..=2^24 ("number of an object + 1"), and the links between them lie in an array beside the objects, so that a list never touches an object.
//! Each CPU has one word, each entry one link (`links[entry]`; `links[0]` stays 0 and stands for the bottom):
//!
//! ```text
//!        63      56 55  53 52          25 24         0
//! word   [     0   |  0   |  version: 28 |  head: 25  ]   head 0: the list is empty, and version says for how many-th time
//! link   [ depth: 8| user |   the word below this entry   ]   depth: entries from here to the bottom
//! ```
//!
//! # Why this shape
//! The next pop has to wait for nothing but the store of the last push, one store-to-load forwarding of 5 cycles. So the committed word is the entry's number as it is: the length lies
//! in the links and only feeds a predicted branch. (A word with head, length and operation count in it cost 5.6 ns per pop + push here, this one 1.7.)
//!
//! The version makes emptiness exact: a pop that empties a list leaves a version that is one higher, so two equal readings of an empty word mean that the list was empty all
//! the time in between (if it was not emptied 2^28 times meanwhile).
//!
//! # Who may write what
//! The word: sequences on that CPU while the gate is open; visitors by compare-and-swap ([`Lifo::steal`]) while they keep it closed. `links[e]`: whoever owns the entry `e`; a
//! list owns its entries. While an entry is in no list, all 64 bits of its link are free for its owner; in a list the three `user` bits keep what the owner of a chain
//! put there before [`Lifo::install`], and [`Lifo::push`] clears them.

use super::{Gate, Refused};
use crate::CachePadded;
use crate::arch::sequence;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Bits of a link or word that name an entry.
pub const ENTRY_MASK: u64 = (1 << 25) - 1;
/// The three bits of a link that lists ignore.
pub const USER_MASK: u64 = 0b111 << WORD_BITS;
/// The longest list.
pub const MAX_LEN: u32 = 255;

/// A word's bits, and what a link says of the word below it.
pub(crate) const WORD_BITS: u32 = 53;
pub(crate) const VERSION_SHIFT: u32 = 25;
pub(crate) const DEPTH_SHIFT: u32 = 56;
const WORD_MASK: u64 = (1 << WORD_BITS) - 1;

/// One CPU's list.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct LifoSlot {
    word: AtomicU64,
}

const _: () = assert!(size_of::<CachePadded<LifoSlot>>() == 128, "the assembly multiplies the CPU's number by 128");

/// The word of a slot at one moment. Two equal words of an empty list mean that it was empty in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(u64);

impl Word {
    /// Whether the list has no entry.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.head() == 0
    }

    /// The top entry; 0 when the list is empty.
    #[inline]
    pub fn head(self) -> u32 {
        (self.0 & ENTRY_MASK) as u32
    }

    /// The word that a link says is below its entry, as a pop or a visitor commits it: an empty one with the next version.
    fn below(link: u64) -> Self {
        let word = link & WORD_MASK;
        if word & ENTRY_MASK == 0 { Self((word + (1 << VERSION_SHIFT)) & WORD_MASK) } else { Self(word) }
    }
}

/// Entries that are linked to each other and belong to the caller: from `head` by [`Lifo::next`] to `tail`.
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
    pub(crate) const CODE_CLOSED: u32 = 1;
    pub(crate) const CODE_UNREGISTERED: u32 = 2;
    pub(crate) const CODE_EMPTY: u32 = 3;
    pub(crate) const CODE_FULL: u32 = 4;
    #[cfg_attr(
        all(target_arch = "x86_64", not(percpu_no_asm), not(loom), not(miri)),
        expect(dead_code, reason = "what the portable side always says")
    )]
    pub(crate) const UNREGISTERED: Self = Self { entry: 0, cpu: 0, code: Self::CODE_UNREGISTERED };
}

/// The lists of all CPUs, their links and their gate, as a view into memory that the caller owns.
#[derive(Clone, Copy, Debug)]
pub struct Lifo<'a> {
    pub(crate) slots: &'a [CachePadded<LifoSlot>],
    pub(crate) links: &'a [AtomicU64],
    pub(crate) gate: &'a Gate,
    pub(crate) limit: u32,
}

impl<'a> Lifo<'a> {
    /// A view over one slot per possible CPU and, for entries up to n, n + 1 links. A list holds at most `limit` entries.
    ///
    /// # Panics
    /// `limit` is 0 or above [`MAX_LEN`], or `links` is empty or has more than 2^24 + 1 elements.
    #[inline]
    pub fn new(slots: &'a [CachePadded<LifoSlot>], links: &'a [AtomicU64], gate: &'a Gate, limit: u32) -> Self {
        assert!(limit != 0 && limit <= MAX_LEN, "a list holds 1 to 255 entries");
        assert!(!links.is_empty() && links.len() <= (1 << 24) + 1, "entries are numbered 1 to 2^24");
        Self { slots, links, gate, limit }
    }

    /// Takes the top entry of this CPU's list. Returns it and the CPU.
    ///
    /// # Errors
    /// [`Miss::Empty`], or [`Miss::Refused`].
    ///
    /// # Context
    /// Signal-safe, never allocates, never blocks; a thread's first call may register it (one system call).
    #[inline(always)]
    pub fn pop(self) -> Result<(u32, u32), Miss> {
        let out = sequence::pop(self);
        if out.entry != 0 { Ok((out.entry, out.cpu)) } else { Self::again(out, || sequence::pop(self)) }
    }

    /// Puts `entry` on top of this CPU's list. Returns the CPU. The caller owns the entry, and its link may be overwritten also when the push is refused.
    ///
    /// # Errors
    /// [`Miss::Full`], or [`Miss::Refused`].
    ///
    /// # Panics
    /// In debug builds: `entry` is 0 or has no link.
    ///
    /// # Context
    /// As [`pop`](Self::pop).
    #[inline(always)]
    pub fn push(self, entry: u32) -> Result<u32, Miss> {
        debug_assert!(entry != 0 && (entry as usize) < self.links.len());
        let out = sequence::push(self, entry);
        if out.entry != 0 { Ok(out.cpu) } else { Self::again(out, || sequence::push(self, entry)).map(|(_, cpu)| cpu) }
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
    /// As [`pop`](Self::pop); follows `len` links.
    #[inline(never)]
    pub fn split(self, len: u32) -> Result<(Chain, u32), Miss> {
        assert!(len != 0 && len <= MAX_LEN, "a list holds 1 to 255 entries");
        let (head, cpu) = Self::again(sequence::split(self, len), || sequence::split(self, len))?;
        Ok((self.own_chain(head, len), cpu))
    }

    /// Makes `chain` the list of this CPU, if that is empty. Returns the CPU. The caller owns the chain.
    ///
    /// # Errors
    /// [`Miss::Full`]: the list is not empty; or [`Miss::Refused`].
    ///
    /// # Context
    /// As [`pop`](Self::pop).
    #[inline(never)]
    pub fn install(self, chain: Chain) -> Result<u32, Miss> {
        debug_assert!(chain.head != 0 && (chain.tail as usize) < self.links.len());
        Self::again(sequence::install(self, chain), || sequence::install(self, chain)).map(|(_, cpu)| cpu)
    }

    /// Links `entry`, which the caller owns, in front of a chain that it owns, or makes it a chain of its own. Keeps the user bits `user` in its link.
    ///
    /// # Panics
    /// `entry` has no link, or the chain has [`MAX_LEN`] entries.
    #[inline]
    pub fn prepend(self, entry: u32, chain: Option<Chain>, user: u64) -> Chain {
        let (next, tail, len) = chain.map_or((0, entry, 0), |c| (c.head, c.tail, c.len));
        assert!(len < MAX_LEN, "a list holds 1 to 255 entries");
        // Relaxed: the caller owns the entry; giving the chain away publishes it.
        self.links[entry as usize].store(link(len + 1, user, u64::from(next)), Ordering::Relaxed);
        Chain { head: entry, tail, len: len + 1 }
    }

    /// The entry behind `entry` in a chain that the caller owns; meaningless for the last one.
    #[inline]
    pub fn next(self, entry: u32) -> u32 {
        (self.links[entry as usize].load(Ordering::Relaxed) & ENTRY_MASK) as u32
    }

    /// What to do about a sequence that did not commit: register the thread and repeat, or say why.
    #[cold]
    #[inline(never)]
    fn again(mut out: Outcome, sequence: impl Fn() -> Outcome) -> Result<(u32, u32), Miss> {
        if out.entry == 0 && out.code == Outcome::CODE_UNREGISTERED && super::register_thread() {
            out = sequence();
        }
        match out {
            Outcome { entry, cpu, .. } if entry != 0 => Ok((entry, cpu)),
            Outcome { code: Outcome::CODE_EMPTY, cpu, .. } => Err(Miss::Empty { cpu }),
            Outcome { code: Outcome::CODE_FULL, cpu, .. } => Err(Miss::Full { cpu }),
            Outcome { code: Outcome::CODE_CLOSED, .. } => Err(Miss::Refused(Refused::Closed)),
            _ => Err(Miss::Refused(Refused::Unregistered)),
        }
    }

    /// The word of one CPU's list.
    ///
    /// # Panics
    /// `slot` is not below the number of slots.
    #[inline]
    pub fn word(self, slot: usize) -> Word {
        // Acquire pairs with the committing store of a sequence (a release on x86) and with the compare-and-swap in `steal`.
        Word(self.slots[slot].word.load(Ordering::Acquire))
    }

    /// How many entries one CPU's list has. Exact when no operation is in progress.
    ///
    /// # Panics
    /// `slot` is not below the number of slots.
    pub fn len(self, slot: usize) -> u32 {
        let head = self.word(slot).head() as usize;
        self.links.get(head).map_or(0, |l| (l.load(Ordering::Relaxed) >> DEPTH_SHIFT) as u32)
    }

    /// Takes up to `max` entries from the top of any CPU's list, or nothing when it is empty. Several visitors can do so at once.
    ///
    /// The caller keeps the gate closed ([`Gate::close`]) around the call.
    ///
    /// # Panics
    /// `slot` is not below the number of slots, or the gate is open.
    ///
    /// # Context
    /// Lock-free, signal-safe, never allocates, no system call.
    pub fn steal(self, slot: usize, max: u32) -> Option<Chain> {
        assert!(!self.gate.is_open(), "a visitor keeps the gate closed");
        let cell = &self.slots[slot].word;
        let mut word = Word(cell.load(Ordering::Acquire));
        loop {
            let (len, rest) = self.follow(word, max);
            if len == 0 {
                return None;
            }
            // AcqRel: the links that were followed belong to this word (Acquire, pairs with the sequence's commit); the next visitor or owner reads
            // the word after this visitor is done with the list (Release).
            // No ABA: while the gate is closed a list only gets shorter.
            match cell.compare_exchange(word.0, rest.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(self.own_chain(word.head(), len)),
                Err(now) => word = Word(now),
            }
        }
    }

    /// Up to `max` steps down from `word`: how many there were, and the word below. Another visitor may take the list meanwhile and its owner may relink the entries: then the result is
    /// meaningless, and the compare-and-swap that follows fails.
    fn follow(self, mut word: Word, max: u32) -> (u32, Word) {
        for len in 0..max.min(MAX_LEN) {
            match self.links.get(word.head() as usize) {
                Some(link) if !word.is_empty() => word = Word::below(link.load(Ordering::Relaxed)),
                _ => return (len, word),
            }
        }
        (max.min(MAX_LEN), word)
    }

    /// Writes into the links of `len` entries that now belong to the caller how deep each lies in its own chain.
    fn own_chain(self, head: u32, len: u32) -> Chain {
        let mut tail = head;
        for depth in (1..=len).rev() {
            let cell = &self.links[tail as usize];
            let old = cell.load(Ordering::Relaxed);
            cell.store(link(depth, old & USER_MASK, old & ENTRY_MASK), Ordering::Relaxed);
            if depth > 1 {
                tail = (old & ENTRY_MASK) as u32;
            }
        }
        Chain { head, tail, len }
    }
}

fn link(depth: u32, user: u64, word: u64) -> u64 {
    u64::from(depth) << DEPTH_SHIFT | user & USER_MASK | word & WORD_MASK
}
