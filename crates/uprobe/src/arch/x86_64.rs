//! x86-64: the code that runs at a hit.

pub(crate) mod area;
pub(crate) mod cold;
pub(crate) mod consumer;
pub(crate) mod entry;
pub(crate) mod exit;
pub(crate) mod prologue;
pub(crate) mod tls;
pub(crate) mod vector;
