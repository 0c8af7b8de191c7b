//! No restartable sequences.

pub(crate) fn available() -> bool {
    false
}

pub(crate) fn cpu_id() -> Option<u32> {
    None
}

pub(crate) fn mm_cid() -> Option<u32> {
    None
}

pub(crate) fn register_thread() -> bool {
    false
}

pub(crate) fn fence() {}

pub(crate) fn check_thread() {}
