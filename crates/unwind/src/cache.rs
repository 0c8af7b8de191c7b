//! What was learned of addresses: an open-addressing table that walks read without a lock.
//!
//! # States of an entry, and who may write what when
//! Writers hold the unwinder's lock. *empty* (key 0) -> *known*: rule and frame are written, then
//! the key (Release, pairs with the Acquire in [`Table::find`]); the key never changes again.
//! *known* -> *forgotten* (rule 0), when the code at the address was unloaded: nobody runs there
//! then -> *known*, frame first, then the rule (Release).
//!
//! `next` is a guess at the entry of the caller that will be met behind this one: looking there
//! first saves a walk from waiting for each return address before it can look for the next rule.
//! Anyone writes it, seldom; what is found there is checked like everything else.
//!
//! A table that is half full is copied into one four times as large. The old one stays readable for
//! ever, for a walk may be in it: all old ones together are a third of the newest.
#![allow(unsafe_code)]

use crate::rule::Packed;
use core::ptr;
#[cfg(not(loom))]
use core::sync::atomic::{AtomicPtr, AtomicU64};
use core::sync::atomic::{AtomicUsize, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicPtr, AtomicU64};
use sys::memory::{self, MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE};

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) rule: Packed,
    /// The address as stacks show it.
    pub(crate) frame: u64,
}

#[repr(C, align(32))]
pub(crate) struct Entry {
    key: AtomicU64,
    rule: AtomicU64,
    frame: AtomicU64,
    next: AtomicPtr<Entry>,
}

impl Entry {
    /// What is known of `key`, if this is its entry.
    #[inline(always)]
    pub(crate) fn known(&self, key: u64) -> Option<Known> {
        // Acquire pairs with the Release in `set`: rule and frame are there.
        if self.key.load(Ordering::Acquire) != key {
            return None;
        }
        // Acquire pairs with the Release that makes a forgotten entry known again.
        let rule = Packed(self.rule.load(Ordering::Acquire));
        (rule.0 != 0).then(|| Known { rule, frame: self.frame.load(Ordering::Relaxed) })
    }

    /// Makes the entry, which is empty or that of `key`, say this. Whether it was empty. `publish`:
    /// how that is announced, Release but for a model of what happens otherwise.
    fn set(&self, key: u64, known: Known, publish: Ordering) -> bool {
        self.frame.store(known.frame, Ordering::Relaxed);
        // Release pairs with the Acquire in `known`, for an entry that was forgotten.
        self.rule.store(known.rule.0, publish);
        let new = self.key.load(Ordering::Relaxed) == 0;
        // Release pairs with the Acquire in `known`, for a new one.
        self.key.store(key, publish);
        new
    }

    /// What is expected to come behind this frame.
    #[inline(always)]
    pub(crate) fn expected(&self) -> Expected {
        // Relaxed: what is there was made by somebody who saw a whole entry, and is compared by its
        // key.
        let next = self.next.load(Ordering::Relaxed);
        if next.addr() & ANYONE != 0 {
            return Expected::Anyone;
        }
        // SAFETY: null, or an entry of a table, which are never unmapped.
        unsafe { next.as_ref() }.map_or(Expected::Nothing, Expected::Caller)
    }

    /// Expects this caller from now on.
    pub(crate) fn expect(&self, caller: &'static Entry) {
        self.next.store(ptr::from_ref(caller).cast_mut(), Ordering::Relaxed);
    }

    /// Expects nobody in particular: guesses would be wrong too often.
    pub(crate) fn expect_anyone(&self) {
        self.next.store(ptr::without_provenance_mut(ANYONE), Ordering::Relaxed);
    }
}

/// In [`Entry::next`] of a function with many callers.
const ANYONE: usize = 1;

/// What is expected to come behind a frame.
pub(crate) enum Expected {
    Nothing,
    Caller(&'static Entry),
    Anyone,
}

/// In front of the entries, in the same mapping.
#[repr(C, align(64))]
struct Table {
    /// 64 - log2 of the number of entries.
    shift: u32,
    mask: usize,
}

const FIRST_LOG2: u32 = 11;
/// 32 MiB.
const LAST_LOG2: u32 = 20;

impl Table {
    fn map(log2: u32) -> Option<&'static Self> {
        let bytes = size_of::<Self>() + (size_of::<Entry>() << log2);
        let (protection, flags) =
            (PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
        // SAFETY: a new mapping.
        let at = unsafe { memory::mmap(0, bytes, protection, flags, -1, 0) }.ok()?;
        let table = at.cast::<Self>();
        // SAFETY: the mapping begins with room for it, is aligned to pages, and is ours.
        unsafe { table.write(Self { shift: 64 - log2, mask: (1 << log2) - 1 }) };
        // SAFETY: just written; never unmapped.
        Some(unsafe { &*table })
    }

    #[inline(always)]
    fn entry(&self, index: usize) -> &Entry {
        // SAFETY: `map` made room for the header and mask + 1 entries.
        let first = unsafe { ptr::from_ref(self).add(1) }.cast::<Entry>();
        // SAFETY: the mask keeps it inside.
        let entry = unsafe { first.add(index & self.mask) };
        // SAFETY: zeros are an empty entry, and all fields are atomic.
        unsafe { &*entry }
    }

    #[inline(always)]
    fn start(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    #[inline(always)]
    fn find(&self, key: u64) -> Option<(Known, &Entry)> {
        let mut at = self.start(key);
        loop {
            let entry = self.entry(at);
            match entry.key.load(Ordering::Relaxed) {
                found if found == key => return entry.known(key).map(|known| (known, entry)),
                0 => return None,
                _ => at += 1,
            }
        }
    }

    /// The entry of `key`, or the empty one where it belongs. The table is never full.
    fn place(&self, key: u64) -> &Entry {
        let start = self.start(key);
        (start..)
            .map(|at| self.entry(at))
            .find(|e| [0, key].contains(&e.key.load(Ordering::Relaxed)))
            .expect("half of them are empty")
    }

    /// Whether an entry was used for it that was empty.
    fn set(&self, key: u64, known: Known) -> bool {
        self.place(key).set(key, known, Ordering::Release)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        (0..=self.mask).map(|at| self.entry(at))
    }
}

/// The cache.
pub(crate) struct Cache {
    table: AtomicPtr<Table>,
    /// Entries in use. Changed under the unwinder's lock.
    used: AtomicUsize,
    /// Bytes mapped.
    bytes: AtomicUsize,
}

impl Cache {
    pub(crate) fn new() -> Option<Self> {
        let cache = Self {
            table: AtomicPtr::new(ptr::null_mut()),
            used: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        };
        cache.replace(FIRST_LOG2).map(|()| cache)
    }

    #[inline(always)]
    fn table(&self) -> &'static Table {
        // Acquire pairs with the Release in `replace`.
        // SAFETY: `new` has put a table there, and tables are never unmapped.
        unsafe { &*self.table.load(Ordering::Acquire) }
    }

    /// What is known of `key`, which is not 0.
    ///
    /// Context: signal-safe; no lock.
    #[inline(always)]
    pub(crate) fn find(&self, key: u64) -> Option<(Known, &'static Entry)> {
        self.table().find(key)
    }

    /// Remembers. The caller holds the unwinder's lock. When there is no memory for more, nothing
    /// is remembered.
    pub(crate) fn set(&self, key: u64, known: Known) {
        let size = self.table().mask + 1;
        if self.used.load(Ordering::Relaxed) * 2 >= size {
            let log2 = size.trailing_zeros() + 2;
            if log2 > LAST_LOG2 || self.replace(log2).is_none() {
                return;
            }
        }
        let new = self.table().set(key, known);
        self.used.fetch_add(usize::from(new), Ordering::Relaxed);
    }

    /// Forgets what is known of the addresses for which `gone` holds. The caller holds the
    /// unwinder's lock.
    pub(crate) fn forget(&self, gone: impl Fn(u64) -> bool) {
        let known = self.table().entries().filter(|e| e.key.load(Ordering::Relaxed) != 0);
        known
            .filter(|e| gone(e.key.load(Ordering::Relaxed)))
            .for_each(|e| e.rule.store(0, Ordering::Relaxed));
    }

    fn replace(&self, log2: u32) -> Option<()> {
        let new = Table::map(log2)?;
        let old = self.table.load(Ordering::Relaxed);
        let mut used = 0;
        // SAFETY: null at first, then a table, which is never unmapped.
        for entry in unsafe { old.as_ref() }.into_iter().flat_map(Table::entries) {
            let (key, rule) =
                (entry.key.load(Ordering::Relaxed), entry.rule.load(Ordering::Relaxed));
            if key != 0 && rule != 0 {
                used += usize::from(new.set(
                    key,
                    Known { rule: Packed(rule), frame: entry.frame.load(Ordering::Relaxed) },
                ));
            }
        }
        self.used.store(used, Ordering::Relaxed);
        self.bytes.fetch_add(size_of::<Table>() + (size_of::<Entry>() << log2), Ordering::Relaxed);
        // Release pairs with the Acquire in `table`.
        self.table.store(ptr::from_ref(new).cast_mut(), Ordering::Release);
        Some(())
    }

    /// Bytes mapped for tables.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Addresses known.
    pub(crate) fn len(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// One entry, for models.
#[cfg(loom)]
#[doc(hidden)]
pub mod model {
    use super::{AtomicPtr, AtomicU64, Entry, Known, Ordering, ptr};
    use crate::rule::Packed;

    pub struct Line(Entry);

    impl Line {
        /// With this key, whose rule was forgotten; 0: empty.
        pub fn forgotten(key: u64) -> Self {
            let [key, rule, frame] = [key, 0, 7].map(AtomicU64::new);
            Self(Entry { key, rule, frame, next: AtomicPtr::new(ptr::null_mut()) })
        }

        pub fn set(&self, key: u64, rule: u64, frame: u64, publish: Ordering) {
            self.0.set(key, Known { rule: Packed(rule), frame }, publish);
        }

        /// Rule and frame.
        pub fn known(&self, key: u64) -> Option<(u64, u64)> {
            self.0.known(key).map(|known| (known.rule.0, known.frame))
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{Cache, Expected, Known};
    use crate::rule::{Packed, Rule, Saved};

    fn known(n: u64) -> Known {
        Known {
            rule: Packed::new(Rule::Sp { cfa: (n % 1000) as i64 * 8, bp: Saved::Kept }),
            frame: n * 3,
        }
    }

    #[test]
    fn entries_are_found_while_the_table_grows_and_after_they_were_forgotten() {
        let cache = Cache::new().unwrap();
        let key = |n: u64| 0x7f12_0000_0000 + n * 5;
        for n in 0..50_000 {
            cache.set(key(n), known(n));
        }
        let find = |n: u64| cache.find(key(n)).map(|(known, _)| known);
        assert!((0..50_000).all(|n| find(n) == Some(known(n))));
        assert_eq!((find(50_000), cache.len()), (None, 50_000));
        cache.forget(|k| k < key(100));
        assert_eq!((find(99), find(100)), (None, Some(known(100))));
        cache.set(key(99), known(7));
        assert_eq!(find(99), Some(known(7)));
        assert_eq!(cache.len(), 50_000);
    }

    #[test]
    fn a_caller_that_is_expected_is_found_until_it_is_forgotten() {
        let cache = Cache::new().unwrap();
        cache.set(16, known(1));
        cache.set(32, known(2));
        let (callee, caller) = (cache.find(16).unwrap().1, cache.find(32).unwrap().1);
        assert!(matches!(callee.expected(), Expected::Nothing));
        callee.expect(caller);
        let Expected::Caller(found) = callee.expected() else { panic!("one is expected") };
        assert_eq!((found.known(32), found.known(48)), (Some(known(2)), None));
        cache.forget(|key| key == 32);
        assert_eq!(found.known(32), None);
        callee.expect_anyone();
        assert!(matches!(callee.expected(), Expected::Anyone));
    }

    #[test]
    fn readers_beside_a_writer_see_whole_entries_or_none() {
        let cache = Cache::new().unwrap();
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    for n in (1..20_000_u64).cycle().take(200_000) {
                        assert!(cache.find(n * 16).is_none_or(|(found, _)| found == known(n)));
                    }
                });
            }
            s.spawn(|| (1..20_000_u64).for_each(|n| cache.set(n * 16, known(n))));
        });
        assert!(
            (1..20_000).all(|n| cache.find(n * 16).is_some_and(|(found, _)| found == known(n)))
        );
    }
}
