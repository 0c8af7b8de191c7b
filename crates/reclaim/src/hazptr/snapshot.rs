//! The protected addresses of one round, without allocating.
//!
//! A round asks "is this object protected?" for a thousand objects while only a few slots are in
//! use. Addresses go into a small sorted table behind a bit filter that answers nearly every "no"
//! with one load. When more slots are in use than the table holds, the filter stays and the slots
//! themselves are read again for the few objects that it lets through: an object that was protected
//! at the first reading and is not at the second has been let go meanwhile, because nobody can
//! announce an unlinked object anew and a protection never moves from one slot to another.
#![cfg_attr(not(loom), allow(unreachable_pub, reason = "public for models"))]

use super::slot::Seen;

const TABLE: usize = 256;
const FILTER_WORDS: usize = 64;
const FILTER_SHIFT: u32 = usize::BITS - (FILTER_WORDS * 64).ilog2();

/// The protected addresses, as found in the slots after `heavy()`.
#[derive(Debug)]
pub struct Snapshot {
    filter: [u64; FILTER_WORDS],
    /// The first `min(len, TABLE)` are valid, and sorted after `seal`.
    table: [usize; TABLE],
    len: usize,
    everything: bool,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { filter: [0; FILTER_WORDS], table: [0; TABLE], len: 0, everything: false }
    }
}

/// The filter's word and bit for an address. Fibonacci hashing: objects of one size class differ in
/// few, low bits.
#[inline]
fn place(address: usize) -> (usize, u64) {
    let bit = (address >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> FILTER_SHIFT;
    (bit / 64, 1 << (bit % 64))
}

impl Snapshot {
    /// Adds what one slot protects.
    pub fn add(&mut self, seen: Seen) {
        match seen {
            Seen::Nothing => {}
            Seen::Anything => self.everything = true,
            Seen::Object(address) => {
                let (word, bit) = place(address);
                self.filter[word] |= bit;
                if let Some(entry) = self.table.get_mut(self.len) {
                    *entry = address;
                }
                self.len += 1;
            }
        }
    }

    /// Makes it ready for [`protects`](Self::protects).
    pub fn seal(&mut self) {
        let len = self.len.min(TABLE);
        self.table[..len].sort_unstable();
    }

    /// A slot protected anything at all: no object of this round may be freed.
    pub fn everything(&self) -> bool {
        self.everything
    }

    /// Whether `address` is protected. `recheck` reads the slots again and is asked only when the
    /// table was too small.
    #[inline]
    pub fn protects(&self, address: usize, recheck: impl FnOnce() -> bool) -> bool {
        if self.len == 0 {
            return self.everything;
        }
        let (word, bit) = place(address);
        if self.filter[word] & bit == 0 {
            return self.everything;
        }
        self.everything || self.protects_slow(address, recheck)
    }

    #[cold]
    fn protects_slow(&self, address: usize, recheck: impl FnOnce() -> bool) -> bool {
        if self.len > TABLE {
            recheck()
        } else {
            self.table[..self.len].binary_search(&address).is_ok()
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn snapshot(addresses: impl Iterator<Item = usize>) -> Snapshot {
        let mut s = Snapshot::default();
        addresses.for_each(|a| s.add(Seen::Object(a)));
        s.seal();
        s
    }

    #[test]
    fn exact_while_the_table_suffices() {
        let s = snapshot((1..=TABLE).rev().map(|i| i * 64));
        for i in 1..4 * TABLE {
            assert_eq!(s.protects(i * 64, || panic!("the table is exact")), i <= TABLE);
        }
    }

    #[test]
    fn asks_again_beyond_the_table() {
        let s = snapshot((1..=TABLE + 1).map(|i| i * 64));
        for i in 1..=TABLE + 1 {
            assert!(s.protects(i * 64, || true));
            assert!(!s.protects(i * 64, || false));
        }
    }

    #[test]
    fn a_wildcard_protects_everything() {
        let mut s = snapshot([64].into_iter());
        s.add(Seen::Anything);
        s.seal();
        assert!(s.everything());
        assert!(s.protects(64, || false));
        assert!(s.protects(128, || false));
    }
}
