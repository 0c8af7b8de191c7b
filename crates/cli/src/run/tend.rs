//! What a run needs done from time to time: memory is measured, blocks are set free.

use super::snapshot;
use super::tables::Tables;
use crate::sys;
use std::sync::PoisonError;

/// The memory is measured, blocks of processes that are gone are set free, and what ended threads
/// counted is taken out of their blocks, which are then as new: so the segment grows with the
/// threads that there are, not with those that there were. `space` is the namespace that process
/// numbers are in.
pub(super) fn tend(tables: &Tables, space: u32) {
    let segment = &tables.segment;
    segment.set_measured(tables.bytes());
    let mut known = (0, false);
    segment.end_blocks(space, |pid| {
        if known.0 != pid {
            known = (pid, sys::is_dead(pid));
        }
        known.1
    });
    if segment.shape().per_thread {
        take(tables);
    }
}

/// Takes over what ended threads have counted.
fn take(tables: &Tables) {
    let segment = &tables.segment;
    let mut ended = tables.ended.lock().unwrap_or_else(PoisonError::into_inner);
    let cells = snapshot::Cells::of(segment);
    for block in 0..segment.blocks_len() {
        // Read before it is anybody's business that the block is kept.
        if !segment.keep_block(block) {
            continue;
        }
        let Some(thread) = segment.thread(block) else { continue };
        let mut counted = Vec::new();
        cells.in_block(tables, block, |function, counters| counted.push((function, counters)));
        let emptied =
            segment.block_range(block).is_some_and(|range| sys::punch(tables.counters(), range));
        if emptied {
            segment.empty_block(block);
            ended.add(thread, counted);
        } else {
            // It keeps its counts, and nobody takes it any more.
            return;
        }
    }
}
