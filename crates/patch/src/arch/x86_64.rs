//! x86-64, long mode.

pub(crate) mod body;
pub(crate) mod branches;
pub(crate) mod emulate;
pub(crate) mod hop;
pub(crate) mod liveness;
pub(crate) mod registers;
