//! Fresh pool memory: two words that only grow.
//!
//! `NEXT` is handed out by compare-and-swap up to `GROWN`, and `GROWN` moves up to the end of the
//! region one pool at a time, after the memory below it is usable. Neither step holds a lock: two
//! threads that grow at once make the same pages usable twice, and one of them moves the mark.

use crate::error::Miss;
use crate::layout::{Layout, head};
use crate::memory::Memory;
use percpu::sync::atomic::{AtomicU64, Ordering};

/// Hands out `size` words from a multiple of `align`; grows at most with the caller's permission.
pub(crate) fn allocate(
    memory: &Memory,
    layout: &Layout,
    size: usize,
    align: usize,
    grow: bool,
) -> Result<usize, Miss> {
    loop {
        let marks = Marks::read(memory.words(), layout)?;
        let start = marks.next.next_multiple_of(align);
        let end = start + size;
        if end <= marks.grown {
            // Relaxed: the words handed out carry no data yet, and `grow` made them usable before
            // GROWN said so (Acquire in Marks::read).
            if marks
                .next_word
                .compare_exchange_weak(
                    marks.next as u64,
                    end as u64,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
            {
                // Another process may have made them usable for itself.
                return memory.cover(end).map(|()| start).map_err(|_| Miss::GrowthRefused);
            }
        } else if end > layout.total {
            return Err(Miss::Full);
        } else if !grow {
            return Err(Miss::GrowthRefused);
        } else {
            advance(memory, layout, &marks)?;
        }
    }
}

/// Maps the next pool if less than an eighth of one is left, so that a save that may not grow finds
/// room. Failure is no harm: nobody asked.
pub(crate) fn ahead(memory: &Memory, layout: &Layout) {
    let Ok(marks) = Marks::read(memory.words(), layout) else { return };
    if marks.grown < layout.total && marks.grown - marks.next < layout.pool / 8 {
        let _ = advance(memory, layout, &marks);
    }
}

/// Makes usable what any process has made usable so far. False: it cannot be.
#[inline]
pub(crate) fn follow(memory: &Memory, layout: &Layout) -> bool {
    if !memory.is_mapped_by_use() {
        return true;
    }
    let Some(grown) = memory.words().get(head::GROWN) else { return false };
    // Acquire pairs with the Release in `advance`. Somebody may have scribbled here.
    let grown = grown.load(Ordering::Acquire).min(layout.total as u64) as usize;
    memory.cover(grown.max(layout.pools)).is_ok()
}

struct Marks<'m> {
    next_word: &'m AtomicU64,
    grown_word: &'m AtomicU64,
    next: usize,
    grown: usize,
}

impl<'m> Marks<'m> {
    /// The two marks, if they make sense; a region whose marks do not is full.
    fn read(words: &'m [AtomicU64], layout: &Layout) -> Result<Self, Miss> {
        let (Some(next_word), Some(grown_word)) = (words.get(head::NEXT), words.get(head::GROWN))
        else {
            return Err(Miss::Full);
        };
        // Relaxed: read before GROWN and only growing, so it is at most what GROWN covers, unless
        // somebody else wrote here.
        let next = next_word.load(Ordering::Relaxed);
        // Acquire pairs with the Release in `advance`: what it covers is usable.
        let grown = grown_word.load(Ordering::Acquire);
        if (layout.pools as u64) <= next && next <= grown && grown <= layout.total as u64 {
            Ok(Self { next_word, grown_word, next: next as usize, grown: grown as usize })
        } else {
            Err(Miss::Full)
        }
    }
}

fn advance(memory: &Memory, layout: &Layout, marks: &Marks<'_>) -> Result<(), Miss> {
    let to = (marks.grown + 1).next_multiple_of(layout.pool).min(layout.total);
    memory.grow(marks.grown, to).map_err(|_| Miss::GrowthRefused)?;
    // Release pairs with the Acquire in Marks::read. A failure means that somebody else moved the
    // mark.
    let _ = marks.grown_word.compare_exchange(
        marks.grown as u64,
        to as u64,
        Ordering::Release,
        Ordering::Relaxed,
    );
    Ok(())
}
