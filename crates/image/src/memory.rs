//! What the image takes in this process.

use crate::{MEMORY, stacks};
use core::sync::atomic::{AtomicU64, Ordering};
use uprobe::Engine;

/// Memory for stubs, as it was said last.
static CODE: AtomicU64 = AtomicU64::new(0);

/// Notes how much memory there is for stubs.
pub(crate) fn note_code(engine: &Engine) {
    CODE.store(engine.code_bytes(), Ordering::Relaxed);
}

/// Memory that the image uses in this process, in bytes. What recorders have of their own is in the
/// image's memory.
///
/// # Context
/// No lock, no system call.
pub(crate) fn bytes() -> u64 {
    let code = CODE.load(Ordering::Relaxed);
    MEMORY.mapped() + code + uprobe::statistics().bytes as u64 + stacks::unwinder_bytes()
}
