//! Ways to break the depot on purpose, for models that have to fail. Exists under loom only.

use std::cell::Cell;

/// What to leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// Nothing.
    Whole,
    /// A save that missed does not look again under the bucket's lock.
    NoSecondLook,
    /// A reference is taken without looking whether the count is 0.
    IncrementsZero,
    /// A lookup compares the frames before it takes its reference, and not after.
    ComparesFirst,
    /// A new record gets its references before a slot names it.
    EnlivensFirst,
    /// The free queue's ends have no tags.
    NoTags,
}

std::thread_local! {
    static TWIN: Cell<Twin> = const { Cell::new(Twin::Whole) };
}

/// Breaks (or repairs) every depot used from this OS thread; loom runs all modelled threads of an
/// execution on one.
pub fn set(twin: Twin) {
    TWIN.with(|t| t.set(twin));
}

pub(crate) fn is(twin: Twin) -> bool {
    TWIN.with(Cell::get) == twin
}
