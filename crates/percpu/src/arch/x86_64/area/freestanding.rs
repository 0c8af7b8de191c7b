//! In an image: the area of the program's C library, if the image knows one.

use super::state::State;
use crate::host::freestanding as host;
use crate::kernel::membarrier;

/// Sequences must not run where there is no area: they write to it.
pub(super) const MAY_BE_MISSING: bool = true;

/// Distance of an area that is not there: anything but 0.
const NOWHERE: isize = 1;

pub(super) fn find() -> (State, isize) {
    match host::area() {
        Some(area) if membarrier::register_rseq() => (State::Library, area.offset),
        _ => (State::Off, NOWHERE),
    }
}

/// How many bytes of an area this kernel fills in.
pub(super) fn features() -> u32 {
    host::area().map_or(0, |area| area.features as u32)
}

/// An image registers none: see [`crate::host::Host::area`].
pub(super) fn register_own() -> bool {
    false
}

pub(super) fn forget_at_exit() {}
