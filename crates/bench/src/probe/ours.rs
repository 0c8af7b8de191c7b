//! Rows of the probe engine.

/// Row of the tables: entries counted by a detour.
pub(super) const COUNT: &str = "detour, count";
/// Row of the tables: a function called with the registers.
pub(super) const CONSUMER: &str = "detour, consumer";
/// Row of the tables: entries and returns counted.
pub(super) const COUNT_RETURN: &str = "detour, count entry + return";
/// Row of the tables: latency histogram.
pub(super) const HISTOGRAM: &str = "detour, latency histogram";
/// Row of the tables: breakpoint, the instruction in a slot for good (or emulated).
pub(super) const PERMANENT: &str = "breakpoint, permanent slot";
/// Row of the tables: breakpoint, a slot of the thread that keeps its last site.
pub(super) const STICKY: &str = "breakpoint, sticky slot per thread";
/// Row of the tables: breakpoint, a slot taken and given back at each hit.
pub(super) const PER_HIT: &str = "breakpoint, slot per hit";
