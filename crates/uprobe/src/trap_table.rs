//! Which address traps on whose behalf: a hash table that signal handlers read without a lock.
//!
//! Writers hold the engine's lock. An entry's key is written last and never changed; what it stands
//! for may be replaced, or withdrawn by an empty tag. A table that is three quarters full is copied
//! to a larger one; the old one stays readable for ever, for a handler may be in it.

use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// What a trap at an address means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A breakpoint at the site with this number: count, then go on.
    Hit(u32),
    /// A site that is being patched or restored, or a thread that was asleep between two displaced
    /// instructions: go on at this address.
    GoOn(u64),
}

#[derive(Debug, Default)]
struct Entry {
    /// Address; 0 is empty.
    key: AtomicU64,
    /// 0 nothing, odd: `Hit(value >> 1)`, even: `GoOn(value)`. Code addresses are made even by
    /// storing them shifted.
    value: AtomicU64,
}

#[derive(Debug)]
struct Table {
    entries: Box<[Entry]>,
}

impl Table {
    fn new(log2: u32) -> Self {
        Self { entries: (0..1_usize << log2).map(|_| Entry::default()).collect() }
    }

    /// Entries in the order of probing for `key`.
    fn probe(&self, key: u64) -> impl Iterator<Item = &Entry> {
        let mask = self.entries.len() - 1;
        let start = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize;
        (0..self.entries.len()).map(move |i| &self.entries[start.wrapping_add(i) & mask])
    }

    fn find(&self, key: u64) -> Option<&Entry> {
        // Acquire pairs with the Release in `set`: the value is there.
        self.probe(key)
            .map(|e| (e, e.key.load(Ordering::Acquire)))
            .take_while(|(_, k)| *k != 0)
            .find(|(_, k)| *k == key)
            .map(|(e, _)| e)
    }

    /// True if an entry was added.
    fn set(&self, key: u64, value: u64) -> bool {
        if let Some(entry) = self.find(key) {
            entry.value.store(value, Ordering::Release);
            return false;
        }
        if let Some(entry) = self.probe(key).find(|e| e.key.load(Ordering::Relaxed) == 0) {
            entry.value.store(value, Ordering::Relaxed);
            entry.key.store(key, Ordering::Release);
        }
        true
    }
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

#[allow(unsafe_code)]
fn table() -> Option<&'static Table> {
    // Acquire pairs with the Release in `insert`.
    // SAFETY: null or leaked.
    unsafe { TABLE.load(Ordering::Acquire).as_ref() }
}

/// What a trap at `address` means.
///
/// Context: signal-safe.
pub(crate) fn find(address: u64) -> Option<Meaning> {
    match table()?.find(address)?.value.load(Ordering::Acquire) {
        0 => None,
        v if v & 1 == 1 => Some(Meaning::Hit((v >> 1) as u32)),
        v => Some(Meaning::GoOn(v >> 1)),
    }
}

/// Whether the engine ever asked for traps at `address`.
///
/// Context: signal-safe.
pub(crate) fn was_ours(address: u64) -> bool {
    table().is_some_and(|t| t.find(address).is_some())
}

/// The writers' side: how many entries are used. Guarded by the engine's lock.
#[derive(Debug, Default)]
pub(crate) struct Traps {
    used: usize,
}

impl Traps {
    /// Says what a trap at `address` means from now on.
    pub(crate) fn set(&mut self, address: u64, meaning: Meaning) {
        let value = match meaning {
            Meaning::Hit(site) => u64::from(site) << 1 | 1,
            Meaning::GoOn(to) => to << 1,
        };
        self.grow();
        if let Some(table) = table() {
            self.used += usize::from(table.set(address, value));
        }
    }

    /// A trap at `address` is not ours any more.
    pub(crate) fn withdraw(&self, address: u64) {
        if let Some(entry) = table().and_then(|t| t.find(address)) {
            entry.value.store(0, Ordering::Release);
        }
    }

    fn grow(&mut self) {
        let old = table();
        let capacity = old.map_or(0, |t| t.entries.len());
        if self.used * 4 < capacity * 3 {
            return;
        }
        let new = Table::new((capacity * 2).max(1 << 10).trailing_zeros());
        self.used = 0;
        for entry in old.iter().flat_map(|t| t.entries.iter()) {
            let key = entry.key.load(Ordering::Relaxed);
            // Withdrawn ones are kept: a trap taken before still asks whether it was ours.
            if key != 0 {
                new.set(key, entry.value.load(Ordering::Relaxed));
                self.used += 1;
            }
        }
        // Release pairs with the Acquire in `table`. The old one is left to handlers that may be
        // reading it.
        TABLE.store(Box::leak(Box::new(new)), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::{Meaning, Traps, find};

    #[test]
    fn entries_are_found_replaced_and_withdrawn_while_the_table_grows() {
        let mut traps = Traps::default();
        for n in 1..5000_u32 {
            traps.set(u64::from(n) * 16, Meaning::Hit(n));
        }
        traps.set(160, Meaning::GoOn(0x7fff_0000_1235));
        traps.withdraw(176);
        assert_eq!(find(160), Some(Meaning::GoOn(0x7fff_0000_1235)));
        assert_eq!((find(176), find(17), find(4999 * 16)), (None, None, Some(Meaning::Hit(4999))));
    }
}
