//! What is specific to one instruction set. There is one.

pub(crate) mod x86_64;
