//! Numbers that nobody can guess: of the kernel's, which is asked once, at the start.

use sys::process::getpid;
use sys::random::{GRND_NONBLOCK, getrandom};
use sys::time::{CLOCK_MONOTONIC, clock_gettime};

/// Fills `words`. Where the kernel gives nothing (it has just started, or a filter forbids it) the
/// numbers differ from process to process, and could be guessed by whoever is in it.
pub(crate) fn fill(words: &mut [u64]) {
    const WORD: usize = size_of::<u64>();
    let mut bytes = [0; 32 * WORD];
    for words in words.chunks_mut(bytes.len() / WORD) {
        let bytes = &mut bytes[..words.len() * WORD];
        if getrandom(bytes, GRND_NONBLOCK) != Ok(bytes.len()) {
            guessable(words);
            continue;
        }
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<WORD>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014),
/// seeded with the time, the process and where the kernel has placed its stack.
#[cold]
fn guessable(words: &mut [u64]) {
    let time = clock_gettime(CLOCK_MONOTONIC).unwrap_or_default();
    let place = (&raw const time).addr() as u64;
    let mut state = time.nsec.cast_unsigned() ^ time.sec.cast_unsigned() << 32;
    state ^= place.rotate_left(20) ^ u64::from(getpid().cast_unsigned()) << 40;
    for word in words {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        *word = mixed ^ mixed >> 31;
    }
}

#[cfg(test)]
mod tests {
    use super::{fill, guessable};
    use std::collections::HashSet;

    #[test]
    fn no_word_comes_twice() {
        for random in [fill, guessable] {
            let mut words = [[0; 300]; 2];
            words.iter_mut().for_each(|words| random(words));
            let different: HashSet<u64> = words.into_iter().flatten().collect();
            assert_eq!(different.len(), 600);
        }
    }
}
