//! Lists of retired objects: pushed by anyone at any time, taken whole by a reclaimer.
//!
//! Nothing is ever popped singly, so the ABA problem does not arise: a push links to whatever is on
//! top when its compare-and-swap succeeds, and a take replaces the top by "empty". Both are
//! lock-free and signal-safe.
#![allow(unsafe_code)]
#![cfg_attr(not(loom), allow(unreachable_pub, reason = "public for models"))]

use super::head::Head;
use core::ptr;
use percpu::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

const ADDRESS_BITS: u32 = 49;
const MAX_COUNT: u64 = (1 << (64 - ADDRESS_BITS)) - 1;

/// A list that knows its length. One word: `[length:15 | address >> 3:49]`, so that one
/// compare-and-swap counts and links.
#[derive(Debug)]
pub struct Stack {
    word: AtomicU64,
}

/// The head cannot go on this list: it is full, or the address needs more than 52 bits.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused;

fn unpack(word: u64) -> (*mut Head, u64) {
    let address = (word & ((1 << ADDRESS_BITS) - 1)) << 3;
    (ptr::with_exposed_provenance_mut(address as usize), word >> ADDRESS_BITS)
}

impl Stack {
    /// An empty list.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// An empty list.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// Adds a head; returns the new length.
    ///
    /// # Safety
    /// The head was prepared and is on no list.
    #[inline]
    pub unsafe fn push(&self, head: *mut Head) -> Result<u64, Refused> {
        let address = head.expose_provenance() as u64 >> 3;
        if address >> ADDRESS_BITS != 0 {
            return Err(Refused);
        }
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let (top, count) = unpack(word);
            if count == MAX_COUNT {
                return Err(Refused);
            }
            // SAFETY: the head is not on a list yet, so it is still ours.
            unsafe { Head::set_next(head, top) };
            let next = (count + 1) << ADDRESS_BITS | address;
            // Release pairs with the Acquire in `take`: the taker sees the head as written, and the
            // unlinking of the object before it.
            match self.word.compare_exchange_weak(word, next, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return Ok(count + 1),
                Err(now) => word = now,
            }
        }
    }

    /// Takes everything: the first head and the length.
    #[inline]
    pub fn take(&self) -> (*mut Head, u64) {
        // Acquire pairs with the Release in `push`; pushes that follow it are read-modify-writes
        // and continue its release sequence. Release pairs with the Acquire of the next `take`: the
        // takes of a list have one order, and a later one sees that the earlier taker had entered a
        // round. `barrier` rests on it, which is why an empty list is swapped too.
        unpack(self.word.swap(0, Ordering::AcqRel))
    }

    /// Whether nothing is on the list. False may be old, true is as good as to take nothing: an
    /// object pushed before is then in the hand of a round that began before, and that is seen.
    #[cfg_attr(loom, allow(dead_code, reason = "for domains, which models do without"))]
    pub fn is_empty(&self) -> bool {
        // Acquire pairs with the Release in `take`, for what is said above.
        self.word.load(Ordering::Acquire) == 0
    }

    /// The length at some moment.
    pub fn len(&self) -> u64 {
        // Relaxed: a statistic.
        unpack(self.word.load(Ordering::Relaxed)).1
    }
}

impl Default for Stack {
    fn default() -> Self {
        Self::new()
    }
}

/// A list of chains of any length, for what a round has to leave.
#[derive(Debug)]
pub struct Kept {
    top: AtomicPtr<Head>,
}

impl Kept {
    /// An empty list.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { top: AtomicPtr::new(ptr::null_mut()) }
    }

    /// An empty list.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { top: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Adds the chain from `first` to `last`.
    ///
    /// # Safety
    /// The heads are linked from `first` to `last`, were prepared, and are on no other list.
    pub unsafe fn push_chain(&self, first: *mut Head, last: *mut Head) {
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            // SAFETY: the chain is still ours.
            unsafe { Head::set_next(last, top) };
            // Release pairs with the Acquire in `take`.
            match self.top.compare_exchange_weak(top, first, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Adds the chain that starts at `first`, which may be null; returns its length.
    ///
    /// # Safety
    /// The heads from `first` to the null link were prepared and are on no other list.
    pub unsafe fn push_all(&self, first: *mut Head) -> usize {
        if first.is_null() {
            return 0;
        }
        let (mut last, mut len) = (first, 1);
        loop {
            // SAFETY: the chain is ours.
            let next = unsafe { Head::next(last) };
            if next.is_null() {
                break;
            }
            last = next;
            len += 1;
        }
        // SAFETY: `last` is the end of the chain from `first`, as just walked.
        unsafe { self.push_chain(first, last) };
        len
    }

    /// Takes everything.
    pub fn take(&self) -> *mut Head {
        // Acquire and Release as in `Stack::take`.
        self.top.swap(ptr::null_mut(), Ordering::AcqRel)
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self::new()
    }
}

/// The length of a chain that the caller has to itself.
#[cfg(any(test, loom))]
pub fn chain_len(mut first: *mut Head) -> usize {
    let mut len = 0;
    while !first.is_null() {
        // SAFETY: the test has the chain to itself.
        first = unsafe { Head::next(first) };
        len += 1;
    }
    len
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_links() {
        let stack = Stack::new();
        let mut heads: [Head; 5] = Default::default();
        for (i, head) in heads.iter_mut().enumerate() {
            // SAFETY: each head is pushed once and outlives the list.
            assert_eq!(unsafe { stack.push(head) }, Ok(i as u64 + 1));
        }
        let (first, len) = stack.take();
        assert_eq!((chain_len(first), len), (5, 5));
        assert_eq!(stack.take().1, 0);
    }

    #[test]
    fn refuses_when_full_instead_of_losing_count() {
        let stack = Stack::new();
        let mut heads: std::vec::Vec<Head> = (0..=MAX_COUNT).map(|_| Head::new()).collect();
        let (last, rest) = heads.split_last_mut().unwrap();
        for head in rest {
            // SAFETY: each head is pushed once and outlives the list.
            unsafe { stack.push(head) }.unwrap();
        }
        // SAFETY: likewise.
        assert_eq!(unsafe { stack.push(last) }, Err(Refused));
        let (first, len) = stack.take();
        assert_eq!((chain_len(first) as u64, len), (MAX_COUNT, MAX_COUNT));
    }

    #[test]
    fn chains_join() {
        let kept = Kept::new();
        let mut heads: [Head; 4] = Default::default();
        let [a, b, c, d] = heads.each_mut().map(|h| &raw mut *h);
        // SAFETY: the test has the heads to itself.
        unsafe { Head::set_next(a, b) };
        // SAFETY: a -> b is a chain.
        unsafe { kept.push_chain(a, b) };
        // SAFETY: the test has the heads to itself.
        unsafe { Head::set_next(c, d) };
        // SAFETY: likewise. A new head's link is not initialised.
        unsafe { Head::set_next(d, ptr::null_mut()) };
        // SAFETY: c -> d -> null is a chain.
        assert_eq!(unsafe { kept.push_all(c) }, 2);
        assert_eq!(chain_len(kept.take()), 4);
        assert!(kept.take().is_null());
    }
}
