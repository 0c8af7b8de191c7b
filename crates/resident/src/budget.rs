//! Whether probes have room in the memory that a segment's agents may use.

use wire::{Function, Loss, Segment, State};

/// Memory that a probed place takes, the function's entry or an exit of it, beside its cell: stub,
/// tables, what the plan keeps; an upper bound of the average.
const BYTES_PER_SITE: u64 = 3072;
/// Why functions are left alone for which the budget has no room.
const NO_MEMORY: &str = "no room in --max-memory: give it more, choose fewer functions, \
    or entry: instead of times";
/// Why functions are left alone that came when memory was used up already.
const NO_CELLS: &str = "no room in --max-memory for its counters in the threads that there are: \
    give it more, or choose fewer functions";

/// What is left for the probes of a batch.
#[derive(Debug)]
pub struct Budget<'s> {
    segment: &'s Segment,
    /// Bytes that are used before.
    used: u64,
    /// Places that were taken.
    places: usize,
}

impl<'s> Budget<'s> {
    /// For probes of a process that uses so many bytes.
    pub fn new(segment: &'s Segment, used: u64) -> Self {
        Self { segment, used, places: 0 }
    }

    /// Whether the function at `index` has room, for which so many places are probed. If not, its
    /// state says so.
    pub fn has_room(&self, index: usize, function: &Function, places: usize) -> bool {
        let needed = (self.places + places) as u64 * BYTES_PER_SITE;
        let all = self.used + needed + self.segment.bytes_with(index, function);
        if all <= self.segment.shape().budget {
            return true;
        }
        self.refuse([index], NO_MEMORY);
        false
    }

    /// Takes so many places.
    pub fn take(&mut self, places: usize) {
        self.places += places;
    }

    /// Threads that there are have no room for more cells: says so of all these functions.
    pub fn refuse_cells(&self, functions: impl IntoIterator<Item = usize>) {
        self.refuse(functions, NO_CELLS);
    }

    fn refuse(&self, functions: impl IntoIterator<Item = usize>, why: &str) {
        functions.into_iter().for_each(|f| self.segment.set_state(f, State::Skipped, why));
        self.segment.lose(Loss::Memory, 1);
    }
}
