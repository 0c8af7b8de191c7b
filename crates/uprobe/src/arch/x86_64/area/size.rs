//! How large the area and a stub are.

/// Bytes of either half.
pub(crate) const HALF: usize = 1 << 24;
/// Bytes of a stub, and of its record.
pub(crate) const STUB: usize = 64;
/// Offset in a stub of its return address, which stands in the stack slot while the body runs.
pub(crate) const RETURN: usize = 6;
