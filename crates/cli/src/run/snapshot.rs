//! The counters at one moment.

use super::tables::Tables;
use crate::model::counters::Counters;
use crate::sys::data;
use std::sync::PoisonError;
use wire::{Counts, Function, Segment, Thread};

/// The counters of every function, by its index in the segment, summed over threads.
pub(crate) fn all(tables: &Tables) -> Vec<Counters> {
    let mut sums = vec![Counters::default(); tables.segment.functions_len()];
    each(tables, |_, function, counters| {
        if let Some(sum) = sums.get_mut(function) {
            sum.add(&counters);
        }
    });
    sums
}

/// The counters of every thread: whose they are, and of which function. A thread is left out of
/// functions of which it saw no call begin or end.
pub(crate) fn by_thread(tables: &Tables) -> Vec<(Thread, usize, Counters)> {
    let mut found = Vec::new();
    each(tables, |thread, function, counters| {
        if let Some(thread) = thread() {
            found.push((thread, function, counters));
        }
    });
    found
}

/// Calls `see` with thread, function and counters for all that is not zero.
fn each(tables: &Tables, mut see: impl FnMut(&dyn Fn() -> Option<Thread>, usize, Counters)) {
    let segment = &tables.segment;
    // Blocks of ended threads are not taken over meanwhile: nothing is seen twice or not at all.
    let ended = tables.ended.lock().unwrap_or_else(PoisonError::into_inner);
    ended.each(|thread, function, counters| see(&|| Some(thread.clone()), function, counters));
    let cells = Cells::of(segment);
    for block in 0..segment.blocks_len() {
        cells.in_block(tables, block, |function, counters| {
            see(&|| segment.thread(block), function, counters)
        });
    }
}

/// Where each function's cell lies, in the order of a block.
pub(super) struct Cells(Vec<(usize, Function)>);

impl Cells {
    pub(super) fn of(segment: &Segment) -> Self {
        let functions = (0..segment.functions_len())
            .filter_map(|index| Some((index, segment.function(index)?)));
        let mut cells: Vec<(usize, Function)> = functions.collect();
        cells.sort_unstable_by_key(|(_, function)| function.cell);
        Self(cells)
    }

    /// Calls `see` with function and counters for all that is not zero in a block.
    pub(super) fn in_block(
        &self,
        tables: &Tables,
        block: usize,
        mut see: impl FnMut(usize, Counters),
    ) {
        let segment = &tables.segment;
        let Some(place) = segment.block_range(block) else { return };
        let used = place.start..place.start + segment.cells_len() as u64;
        // A page that is not there would be made by reading it, or kill where there is no room for
        // it.
        for part in data(tables.counters(), used) {
            let Ok(view) = segment.view(tables.counters(), block, &part) else { continue };
            let within = view.range();
            let from =
                self.0.partition_point(|(_, function)| (function.cell as usize) < within.start);
            let cells = self.0[from..]
                .iter()
                .take_while(|(_, function)| (function.cell as usize) < within.end);
            for (index, function) in cells {
                let counts = view.counts(function);
                if !counts.is_zero() {
                    see(*index, Counters::from(counts));
                }
            }
        }
    }
}

impl From<Counts> for Counters {
    fn from(counts: Counts) -> Self {
        Self {
            calls: counts.calls,
            returns: counts.returns,
            total: counts.total,
            own: counts.self_ticks,
            max: counts.max,
            unwound: counts.unwound,
            untimed: counts.untimed,
            buckets: counts.buckets,
        }
    }
}
