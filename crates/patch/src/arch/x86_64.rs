//! x86-64, long mode.

pub(crate) mod body;
pub(crate) mod branches;
pub(crate) mod decode;
pub(crate) mod emulate;
pub(crate) mod flow;
pub(crate) mod hop;
pub(crate) mod liveness;
pub(crate) mod registers;
pub(crate) mod relocate;
pub(crate) mod special;
pub(crate) mod window;
