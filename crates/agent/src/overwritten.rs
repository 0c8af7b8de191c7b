//! Probes that the program, or another tool, has written over: functions are said to be.
//!
//! The code is read where it lies, and no system call is made: a program that makes code
//! executable, or ends, may have given up all others. So what is armed has to be known to be there.
//! It is, unless its library was closed (the loader tells: [`crate::loader`]) or the program has
//! taken memory away that is not its own to take ([`crate::hooks`] sees it, unless it does so by a
//! system call of its own).
#![allow(unsafe_code)]

use crate::segment;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};
use uprobe::{Engine, Loss, SiteId};

/// Code in which functions are armed, or were: that of a library that was closed stays here, and
/// nothing is armed in it.
struct Code {
    range: Range<u64>,
    next: *const Self,
}

/// The newest. Only added to, under the loader's lock or by the constructor.
static CODE: AtomicPtr<Code> = AtomicPtr::new(ptr::null_mut());
/// Which function of the segment a site is for.
static SITES: Mutex<Vec<(SiteId, usize)>> = Mutex::new(Vec::new());
/// The program has made code writable in which functions are armed.
static WRITTEN: AtomicBool = AtomicBool::new(false);
/// This process is a fork child.
static FORKED: AtomicBool = AtomicBool::new(false);
/// Something may be armed where nothing is mapped.
static OVER: AtomicBool = AtomicBool::new(false);

/// Functions in this code are about to be armed.
pub(crate) fn watch(code: &[Range<u64>]) {
    for range in code.iter().filter(|range| !known().any(|known| known == **range)) {
        let next = CODE.load(Ordering::Relaxed);
        let new = Box::into_raw(Box::new(Code { range: range.clone(), next }));
        // Release pairs with the Acquire in `known`.
        CODE.store(new, Ordering::Release);
    }
}

fn known() -> impl Iterator<Item = Range<u64>> {
    // Acquire pairs with the Release in `watch`.
    let mut at = CODE.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: null, or made by `watch` and never freed.
        let code = unsafe { at.as_ref() }?;
        at = code.next;
        Some(code.range.clone())
    })
}

/// The parts of a range in which functions are armed, or were.
fn parts(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let part = |code: Range<u64>| code.start.max(range.start)..code.end.min(range.end);
    known().map(part).filter(|part| !part.is_empty())
}

/// The site is for this function.
pub(crate) fn remember(site: SiteId, function: usize) {
    SITES.lock().unwrap_or_else(PoisonError::into_inner).push((site, function));
}

/// In a fork child.
pub(crate) fn forked() {
    FORKED.store(true, Ordering::Relaxed);
}

/// What is closed is not known any more.
pub(crate) fn look_no_more() {
    OVER.store(true, Ordering::Relaxed);
}

/// The program may write to these addresses from now on.
///
/// # Context
/// No system call; waits for nobody.
pub(crate) fn note_writable(range: &Range<u64>) {
    if parts(range).next().is_some() {
        WRITTEN.store(true, Ordering::Relaxed);
    }
}

/// Nothing may be there from now on that can be read.
///
/// # Context
/// As [`Engine::hide`].
pub(crate) fn hide(range: &Range<u64>) {
    if let Some(engine) = Engine::get() {
        parts(range).for_each(|part| engine.hide(part));
    }
}

/// Whether the program has made code writable in which something is armed.
pub(crate) fn was_made_writable() -> bool {
    WRITTEN.load(Ordering::Relaxed)
}

/// At the end of the process: [`look`] at all that is armed. In a fork child only if code was made
/// writable: it has what its parent has, which looks for itself.
pub(crate) fn look_at_end() {
    if !FORKED.load(Ordering::Relaxed) || was_made_writable() {
        look(&(0..u64::MAX));
    }
}

/// Says of the functions in a range whose probes were written over that they were.
///
/// # Context
/// No system call, and no call of the C library; waits for nobody.
pub(crate) fn look(range: &Range<u64>) {
    let (Some(engine), Some(segment)) = (Engine::get(), segment::get()) else { return };
    // A thread without a block is not heard of when it closes a library.
    let missed = uprobe::losses()[Loss::Capacity as usize] != 0 || OVER.load(Ordering::Relaxed);
    if missed || segment.stopped() {
        return;
    }
    // A fork child may find it locked for ever.
    let Ok(sites) = SITES.try_lock() else { return };
    let found = |gone: SiteId| {
        for (_, function) in sites.iter().filter(|(site, _)| *site == gone) {
            segment.set_state(*function, segment.state(*function), wire::OVERWRITTEN);
        }
    };
    for part in parts(range) {
        // SAFETY: code of an object that the loader has not closed, or has said so, and of which
        // the program has taken nothing away without being seen.
        unsafe { engine.overwritten(part, found) };
    }
}

#[cfg(test)]
mod tests {
    use super::{parts, watch};

    #[test]
    fn only_code_with_functions_is_looked_at() {
        assert_eq!(parts(&(0..u64::MAX)).count(), 0);
        let code = [0x1000..0x3000, 0x8000..0x9000];
        watch(&code);
        watch(&code[1..]);
        assert_eq!(parts(&(0..u64::MAX)).count(), 2);
        assert_eq!(parts(&(0x2000..0x8001)).map(|part| part.end - part.start).sum::<u64>(), 0x1001);
        assert_eq!(parts(&(0x3000..0x8000)).count(), 0);
    }
}
