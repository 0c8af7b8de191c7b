//! Functions that the agent probes for itself. When the user wants one, too, it is counted here:
//! two probes do not share a place.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Why the report has no times for it.
pub(crate) const NOTE: &str = "entry only: the agent watches it itself";

struct Place {
    /// Address of the function; 0: none yet.
    address: AtomicU64,
    /// The cell to count in, plus 1; 0: nobody wants it.
    cell: AtomicU32,
}

/// More than the agent watches.
const MOST: usize = 8;

static PLACES: [Place; MOST] =
    [const { Place { address: AtomicU64::new(0), cell: AtomicU32::new(0) } }; MOST];

/// The number of a new place, for [`count`]; `None`: there are no more.
pub(crate) fn add(address: u64) -> Option<usize> {
    // Relaxed: written by the constructor, before other threads are there.
    PLACES.iter().position(|p| {
        p.address.compare_exchange(0, address, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    })
}

/// Forgets a place: nothing counts there.
pub(crate) fn remove(address: u64) {
    if let Some(place) = PLACES.iter().find(|p| p.address.load(Ordering::Relaxed) == address) {
        place.address.store(0, Ordering::Relaxed);
    }
}

/// Lets calls of the function at `address` be counted in `cell`. False: it is not one of ours.
pub(crate) fn want(address: u64, cell: u32) -> bool {
    let place = PLACES.iter().find(|p| p.address.load(Ordering::Relaxed) == address);
    place.map(|p| p.cell.store(cell + 1, Ordering::Relaxed)).is_some()
}

/// For the probe: a call of the function with that number.
pub(crate) fn count(number: usize) {
    let wanted = PLACES.get(number).map_or(0, |p| p.cell.load(Ordering::Relaxed));
    if let Some(cell) = wanted.checked_sub(1) {
        uprobe::count_call(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, add, remove, want};

    #[test]
    fn places_are_found_by_address() {
        assert!(!want(0x1000, 0));
        let numbers: Vec<_> = (0..=MOST).map(|i| add((i as u64 + 1) * 0x1000)).collect();
        let expected: Vec<_> = (0..MOST).map(Some).chain([None]).collect();
        assert_eq!(numbers, expected);
        assert!(want(0x4000, 64) && !want(0x9000, 64));
        remove(0x4000);
        assert!(!want(0x4000, 64));
        assert_eq!(add(0x9000), Some(3));
    }
}
