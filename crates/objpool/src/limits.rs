//! How much a pool can have.

/// The most objects a pool can have.
pub const MAX_CAPACITY: usize = 1 << 24;
/// The largest object, in bytes.
pub const MAX_OBJECT_SIZE: usize = 64 << 10;
