//! Where stacks end. A walk never reads beyond the mapping that its stack pointer is in.
#![allow(unsafe_code)]

use core::ops::Range;

/// The stacks that a thread was seen on: its own, one for signals, a coroutine's. Kept by the caller, one for each thread.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    known: [Range<u64>; 4],
    next: usize,
    /// Callers that were met and not expected.
    pub(crate) surprises: u32,
    /// Callers of functions where none is expected.
    pub(crate) looks: u32,
}

impl Bounds {
    /// The first byte behind the stack that `sp` points into, if it was seen before.
    #[inline(always)]
    pub(crate) fn end(&self, sp: u64) -> Option<u64> {
        self.known.iter().find(|r| r.contains(&sp)).map(|r| r.end)
    }

    pub(crate) fn add(&mut self, stack: Range<u64>) {
        // A stack that has grown is the same one.
        let at = self.known.iter().position(|r| r.end == stack.end).unwrap_or_else(|| {
            self.next = (self.next + 1) % self.known.len();
            self.next
        });
        self.known[at] = stack;
    }
}

/// The mapping with `sp` in it, from `/proc/self/maps`, and the unused addresses below it: stacks grow down.
///
/// Context: some system calls, no allocation.
pub(crate) fn find(sp: u64, text: &mut [u8]) -> Option<Range<u64>> {
    // SAFETY: a C string; the call makes a file descriptor.
    let file = unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return None;
    }
    let found = scan(sp, text, |room| {
        // SAFETY: `room` can be written.
        usize::try_from(unsafe { libc::read(file, room.as_mut_ptr().cast(), room.len()) }).ok().filter(|n| *n > 0)
    });
    // SAFETY: opened above.
    unsafe { libc::close(file) };
    found
}

fn scan(sp: u64, text: &mut [u8], mut read: impl FnMut(&mut [u8]) -> Option<usize>) -> Option<Range<u64>> {
    let mut filled = 0;
    let mut below = 0;
    while let Some(n) = read(&mut text[filled..]) {
        filled += n;
        let mut start = 0;
        while let Some(end) = text[start..filled].iter().position(|b| *b == b'\n').map(|at| start + at) {
            let (from, to) = line(&text[start..end])?;
            if from <= sp && sp < to {
                return Some(below..to);
            }
            below = to;
            start = end + 1;
        }
        text.copy_within(start..filled, 0);
        filled -= start;
        if filled == text.len() {
            return None;
        }
    }
    None
}

/// The addresses that a line begins with.
fn line(text: &[u8]) -> Option<(u64, u64)> {
    let dash = text.iter().position(|b| *b == b'-')?;
    let space = text.iter().position(|b| *b == b' ')?;
    let number = |digits: &[u8]| digits.iter().try_fold(0_u64, |n, b| Some(n << 4 | u64::from(char::from(*b).to_digit(16)?)));
    Some((number(text.get(..dash)?)?, number(text.get(dash + 1..space)?)?))
}

#[cfg(test)]
mod tests {
    use super::{Bounds, find, scan};

    #[test]
    fn the_mapping_is_found_however_the_text_comes() {
        let maps = b"1000-2000 r-xp 00000000 00:00 0    /bin/a\n5000-9000 rw-p 00000000 00:00 0 \n7fff0000-7fff8000 rw-p 00000000 00:00 0   [stack]\n";
        for step in [1, 7, 50, 4096] {
            let of = |sp| {
                let mut at = 0;
                scan(sp, &mut [0; 128], |room| {
                    let n = step.min(room.len()).min(maps.len() - at);
                    room[..n].copy_from_slice(&maps[at..at + n]);
                    at += n;
                    (n > 0).then_some(n)
                })
            };
            assert_eq!(of(0x1800), Some(0..0x2000), "{step}");
            assert_eq!(of(0x7fff_7fff), Some(0x9000..0x7fff_8000), "{step}");
            assert_eq!((of(0x3000), of(0x7fff_8000)), (None, None), "{step}");
        }
    }

    #[test]
    fn own_stack() {
        let here = 0_u64;
        let sp = (&raw const here).addr() as u64;
        let found = find(sp, &mut [0; 4096]).unwrap();
        assert!(found.contains(&sp));
    }

    #[test]
    fn stacks_that_grow_take_one_place_and_the_oldest_gives_way() {
        let mut bounds = Bounds::default();
        (1..=4).for_each(|n| bounds.add(n * 1000..n * 1000 + 100));
        bounds.add(900..1100);
        assert_eq!((bounds.end(950), bounds.end(2050), bounds.end(4050), bounds.end(5000)), (Some(1100), Some(2100), Some(4100), None));
        bounds.add(5000..5100);
        assert_eq!((bounds.end(5050), bounds.end(950)), (Some(5100), None));
    }
}
