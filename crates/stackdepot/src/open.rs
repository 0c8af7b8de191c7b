//! Making a depot in fresh words, and checking one that is there already.

use crate::arena;
use crate::error::Error;
use crate::layout::{CREATING, Layout, MAGIC, Shape, head};
use crate::memory::Memory;
use percpu::sync::atomic::Ordering;

/// Whether the region was made now or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Fresh,
    Existing,
}

/// Makes the depot that `wanted` describes, or returns the one that lives in the memory already.
pub(crate) fn create_or_open(
    memory: &Memory,
    wanted: Shape,
    take_over: bool,
) -> Result<(Layout, Found), Error> {
    let first = memory.words().first().ok_or(Error::TooSmall(8))?;
    let mut before = first.load(Ordering::Relaxed);
    if before == CREATING && take_over {
        // Half a depot, and nobody is at work on it: start again.
        first.store(0, Ordering::Relaxed);
        before = 0;
    }
    if before != 0 {
        return existing(memory);
    }
    let wanted = Layout::new(wanted)?;
    // Acquire pairs with the Release of MAGIC: of two creators the second finds a whole header, or
    // CREATING.
    if first.compare_exchange(0, CREATING, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return existing(memory);
    }
    let filled = fill(memory, wanted);
    // Release pairs with the Acquire in `open` and above. A refusal by the kernel leaves the region
    // as it was.
    first.store(if filled.is_ok() { MAGIC } else { 0 }, Ordering::Release);
    filled.map(|()| (wanted, Found::Fresh))
}

fn existing(memory: &Memory) -> Result<(Layout, Found), Error> {
    let layout = open(memory)?;
    if !arena::follow(memory, &layout) {
        return Err(Error::TooSmall(layout.pools * 8));
    }
    Ok((layout, Found::Existing))
}

fn fill(memory: &Memory, layout: Layout) -> Result<(), Error> {
    let pools = layout.pools;
    let grown = (pools + 1).next_multiple_of(layout.pool).min(layout.total);
    memory.grow(0, grown).map_err(Error::Memory)?;
    for (at, value) in [
        (head::SHAPE, layout.to_header()),
        (head::TOTAL, layout.total as u64),
        (head::POOL, layout.pool as u64),
        (head::NEXT, pools as u64),
        (head::GROWN, grown as u64),
    ] {
        let word = memory.words().get(at).ok_or(Error::TooSmall(layout.total * 8))?;
        // Relaxed: published by MAGIC.
        word.store(value, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads and checks the header of a region that somebody made.
pub(crate) fn open(memory: &Memory) -> Result<Layout, Error> {
    let words = memory.words();
    // Acquire pairs with the Release of MAGIC in `create_or_open`. A Relaxed load and a fence, for
    // the memory may be read-only.
    let magic =
        words.get(head::MAGIC).ok_or(Error::TooSmall(head::WORDS * 8))?.load(Ordering::Relaxed);
    percpu::sync::atomic::fence(Ordering::Acquire);
    match magic {
        MAGIC => {}
        CREATING => return Err(Error::Unfinished),
        _ => return Err(Error::NotADepot),
    }
    let word = |at: usize| {
        words.get(at).map(|w| w.load(Ordering::Relaxed)).ok_or(Error::TooSmall(head::WORDS * 8))
    };
    Layout::from_header(word(head::SHAPE)?, word(head::TOTAL)?, word(head::POOL)?, memory.total())
}
