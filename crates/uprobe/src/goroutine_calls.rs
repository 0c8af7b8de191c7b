//! Calls of functions of Go whose return is seen at the function's exits: from entry to exit they
//! are on the goroutine's shadow stack ([`crate::goroutines`]).
//!
//! Which call of a function is the outermost one on its stack is decided at its entry. A word of
//! each entry has a bit for the functions of the entries up to it ([`bit`]): as long as the
//! function's is not there, it is none of theirs. Otherwise the youngest entries are looked
//! through. (What threads' stacks do, naming the newest call in the function's cell, is of no use
//! where a goroutine goes on in any thread.)
//!
//! A panic, and `runtime.Goexit`, leave frames: those are seen to be left by what is called or
//! returns next on the same stack, also when the goroutine has ended and another one has its
//! descriptor.
#![allow(unsafe_code)]

use crate::counting::now;
use crate::goroutines::{self, G, Goroutine};
use crate::pending::{self, Taken};
use crate::shadow::{ENTRY, Entry, NESTED, Stack};
use crate::site_table::Site;
use crate::thread_state::State;
use core::sync::atomic::Ordering;

/// How many of the youngest calls are looked through for one of the same function. The assembly
/// looks at as many.
pub(crate) const LOOKED_THROUGH: usize = 64;

/// The bit of a function in [`Entry::before`], of which the lowest says [`NESTED`].
pub(crate) fn bit(index: u32) -> u64 {
    1 << (index % 64).max(1)
}

/// Makes an entry for a timed call of the site with this number by a goroutine, whose return
/// address is at `at`. False: there is no room for it.
///
/// # Context
/// With signals blocked, in the thread that runs the goroutine. Rarely a system call.
pub(crate) fn begin(state: &State, index: u32, cell: u32, g: G, at: u64) -> bool {
    let Some(goroutine) = goroutines::of(g) else { return false };
    let slot = g.slot(at);
    pending::sweep(state, goroutine.stack(), slot);
    if !goroutine.stack().has_room() && !goroutine.grow() {
        return false;
    }
    let stack = goroutine.stack();
    let known = stack.entry(stack.top()).before.load(Ordering::Relaxed) & !NESTED;
    let nested = known & bit(index) != 0 && is_part_of(stack, index, g);
    let Some(entry) = pending::fill(stack, index, cell, at) else { return false };
    let nested = if nested { NESTED } else { 0 };
    entry.before.store(known | bit(index) | nested, Ordering::Relaxed);
    entry.commit(slot);
    entry.start.store(now(), Ordering::Relaxed);
    true
}

/// Whether a call of the function is pending among the youngest.
fn is_part_of(stack: &Stack, index: u32, g: G) -> bool {
    let (bit, base) = (bit(index), g.stack_end());
    let mut at = stack.top();
    for _ in 0..LOOKED_THROUGH {
        let entry = stack.entry(at);
        if entry.before.load(Ordering::Relaxed) & bit == 0 {
            return false;
        }
        // SAFETY: what is pending on this stack has a slot above that of the new call.
        if is_of(entry, index) && unsafe { entry.is_as_it_was(base) } {
            return true;
        }
        at -= ENTRY;
    }
    false
}

fn is_of(entry: &Entry, index: u32) -> bool {
    entry.site.load(Ordering::Relaxed) == index
}

/// A timed function is left at one of its exits by a goroutine. Whoever was not seen to enter is
/// not seen to leave: nobody copies a goroutine's stack but its runtime.
///
/// # Context
/// As [`begin`]. Linear in the calls that were left.
pub(crate) fn end(state: &State, exit: &Site, g: G, at: u64, end: u64) {
    let Some(stack) = goroutines::of(g).map(Goroutine::stack) else { return };
    let mut call = Taken::none();
    if pending::take_off(state, stack, exit.index.load(Ordering::Relaxed), g.slot(at), &mut call) {
        pending::ended(state, exit, &call, end);
    }
}

/// Whether a call of the site with this number at this place is pending as the newest one.
pub(crate) fn is_newest(g: G, at: u64, index: u32) -> bool {
    let stack = goroutines::of(g).map(Goroutine::stack);
    stack.is_some_and(|stack| pending::is_newest_on(stack, g.slot(at), index))
}

#[cfg(test)]
mod tests {
    use super::bit;

    /// The lowest bit says something else, and none is without a function.
    #[test]
    fn every_function_has_a_bit() {
        let all = (1..=64).map(bit).fold(0, |all, bit| all | bit);
        assert_eq!((all, bit(64), bit(65)), (!1, bit(1), bit(1)));
    }
}
