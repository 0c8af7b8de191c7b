//! x86-64, long mode. What needs a decoder is the planner's.

pub(crate) mod body;
#[cfg(feature = "plan")]
pub(crate) mod branches;
#[cfg(feature = "plan")]
pub(crate) mod dead;
#[cfg(feature = "plan")]
pub(crate) mod decode;
#[cfg(feature = "plan")]
pub(crate) mod effect;
pub(crate) mod emulate;
#[cfg(feature = "plan")]
pub(crate) mod flow;
#[cfg(feature = "plan")]
pub(crate) mod goroutine;
#[cfg(feature = "plan")]
pub(crate) mod leaving;
pub(crate) mod liveness;
pub(crate) mod registers;
#[cfg(feature = "plan")]
pub(crate) mod relocate;
#[cfg(feature = "plan")]
pub(crate) mod special;
pub(crate) mod template;
pub(crate) mod trap_safe;
#[cfg(feature = "plan")]
pub(crate) mod window;
