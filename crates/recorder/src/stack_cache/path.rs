//! The way of one walk: the words that decided how it went, and where they were.

use alloc::boxed::Box;
use alloc::vec;
use unwind::{Bounds, Start, Trace};

/// Words of a path: a frame has one or two, and stacks have up to 254 frames, but seldom so many.
/// Longer ones are walked each time.
const WORDS: usize = 256;
/// Set in the address of a word that is the host's. Words are aligned.
const HOST: u64 = 1;
const PAGE: u64 = 4096;

/// Words come in pairs: so they are hashed.
#[derive(Debug)]
pub(crate) struct Path {
    addresses: Box<[[u64; 2]]>,
    words: Box<[[u64; 2]]>,
    /// Words.
    len: usize,
    /// Whether the frame pointer at the start decides anything.
    pub(crate) uses_bp: bool,
}

impl Path {
    /// Pairs of the longest one.
    pub(crate) const PAIRS: usize = WORDS / 2;
    pub(crate) const BYTES: usize = WORDS * 16;

    pub(crate) fn new() -> Self {
        let room = || vec![[0; 2]; Self::PAIRS].into_boxed_slice();
        Self { addresses: room(), words: room(), len: 0, uses_bp: false }
    }

    /// Begins a new one.
    pub(crate) fn begin(&mut self) -> &mut Self {
        (self.len, self.uses_bp) = (0, false);
        self
    }

    /// Ends it. False: it cannot be kept, because it is too long, or because some of it may be
    /// unmapped one day while the thread has the same stack pointer.
    pub(crate) fn end(&mut self, start: &Start, bounds: &Bounds) -> bool {
        let len = self.len;
        let (addresses, words) = (self.addresses.as_flattened_mut(), self.words.as_flattened_mut());
        let Some(kept) = addresses.get_mut(..len) else { return false };
        // The page of the stack pointer is there when it is.
        let lasts = |address: u64| {
            address & HOST != 0 || address / PAGE == start.sp / PAGE || bounds.lasts(address)
        };
        if !kept.iter().all(|address| lasts(*address)) {
            return false;
        }
        kept.iter_mut().for_each(|address| *address &= !HOST);
        // An odd one is taken twice.
        if len % 2 == 1 {
            (addresses[len], words[len]) = (addresses[len - 1], words[len - 1]);
            self.len += 1;
        }
        true
    }

    /// Where its words are.
    pub(crate) fn addresses(&self) -> &[[u64; 2]] {
        &self.addresses[..self.len / 2]
    }

    pub(crate) fn words(&self) -> &[[u64; 2]] {
        &self.words[..self.len / 2]
    }
}

impl Trace for Path {
    #[inline(always)]
    fn read(&mut self, address: u64, word: u64) {
        let (addresses, words) = (self.addresses.as_flattened_mut(), self.words.as_flattened_mut());
        if let (Some(a), Some(w)) = (addresses.get_mut(self.len), words.get_mut(self.len)) {
            (*a, *w) = (address, word);
        }
        self.len += 1;
    }

    fn read_of_host(&mut self, address: u64, word: u64) {
        self.read(address | HOST, word);
    }

    #[inline(always)]
    fn uses_start_bp(&mut self) {
        self.uses_bp = true;
    }
}

#[cfg(test)]
mod tests {
    use super::{Path, WORDS};
    use unwind::{Bounds, Start, Trace};

    const START: Start = Start { pc: 1, sp: 4096, bp: 0, entry: true };

    fn path(words: impl IntoIterator<Item = (u64, u64)>) -> Option<Path> {
        let mut path = Path::new();
        words.into_iter().for_each(|(address, word)| path.read(address, word));
        path.end(&START, &Bounds::default()).then_some(path)
    }

    #[test]
    fn words_come_in_pairs() {
        let even = path([(4096, 1), (4200, 2)]).unwrap();
        assert_eq!((even.addresses(), even.words()), (&[[4096, 4200]][..], &[[1, 2]][..]));
        let odd = path([(4096, 1), (4200, 2), (4208, 3)]).unwrap();
        assert_eq!(
            (odd.addresses(), odd.words()),
            (&[[4096, 4200], [4208; 2]][..], &[[1, 2], [3; 2]][..])
        );
        assert!(path([]).is_some_and(|path| path.words().is_empty()));
    }

    #[test]
    fn what_is_too_long_or_may_go_is_not_kept() {
        let of = |n: usize| (0..n as u64).map(|n| (4096 + n * 8, n));
        assert!(path(of(WORDS)).is_some() && path(of(WORDS + 1)).is_none());
        assert!(path([(4096, 1), (8192, 1)]).is_none());
        let mut with_host = Path::new();
        with_host.begin().read_of_host(8192, 1);
        assert!(with_host.end(&START, &Bounds::default()));
        assert_eq!(with_host.addresses(), [[8192; 2]]);
    }
}
