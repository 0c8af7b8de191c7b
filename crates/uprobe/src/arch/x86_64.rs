//! x86-64: the code that runs at a hit.

pub(crate) mod area;
mod consumer;
pub(crate) mod entry;
pub(crate) mod exit;
pub(crate) mod frame;
pub(crate) mod prologue;
mod routines;
mod shadow;
mod slow_path;
pub(crate) mod switching;
pub(crate) mod tail;
pub(crate) mod tls;
pub(crate) mod vector;
pub(crate) mod vectors;
