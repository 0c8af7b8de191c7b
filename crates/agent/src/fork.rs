//! Fork children: they count in blocks of their own.
#![allow(unsafe_code)]

use crate::{allocator, segment, stacks, start};

/// Installs the handler.
pub(crate) fn prepare() {
    // SAFETY: a function for the life of the process. Without memory for it, children count into their parent's blocks.
    unsafe { libc::pthread_atfork(None, None, Some(child)) };
}

/// The engine's own handler runs after this one and takes a block for the surviving thread.
unsafe extern "C" fn child() {
    uprobe::own_code(|| {
        allocator::unlock();
        segment::set_pid();
        stacks::forked();
        start::forked();
    });
}
