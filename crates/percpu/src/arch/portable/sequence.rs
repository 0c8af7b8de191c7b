//! No restartable sequences: every call is refused, and the callers take their other path.

use crate::CachePadded;
use crate::rseq::lifo::{Chain, Lifo, Outcome};
use crate::rseq::{Gate, Refused};
use crate::sync::atomic::AtomicU64;

pub(crate) fn area() -> isize {
    0
}

pub(crate) fn add(
    _gate: &Gate,
    _cells: &[CachePadded<AtomicU64>],
    _value: u64,
) -> Result<(), Refused> {
    Err(Refused::Unregistered)
}

pub(crate) fn pop(_lifo: Lifo<'_>) -> Outcome {
    Outcome::UNREGISTERED
}

pub(crate) fn push(_lifo: Lifo<'_>, _entry: u32) -> Outcome {
    Outcome::UNREGISTERED
}

pub(crate) fn split(_lifo: Lifo<'_>, _len: u32) -> Outcome {
    Outcome::UNREGISTERED
}

pub(crate) fn install(_lifo: Lifo<'_>, _chain: Chain) -> Outcome {
    Outcome::UNREGISTERED
}
