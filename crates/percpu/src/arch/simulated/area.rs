//! Every thread of the machine is registered.

use coresim::{system, thread};

pub(crate) fn available() -> bool {
    thread::is_simulated()
}

pub(crate) fn cpu_id() -> Option<u32> {
    available().then(|| thread::cpu() as u32)
}

/// Not modelled.
pub(crate) fn mm_cid() -> Option<u32> {
    None
}

pub(crate) fn register_thread() -> bool {
    available()
}

pub(crate) fn fence() {
    system::membarrier_rseq();
}

pub(crate) fn check_thread() {}
