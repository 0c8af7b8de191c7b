//! Fork children: they count in blocks of their own.
#![allow(unsafe_code)]

use crate::{announce, overwritten, segment, stacks};

/// Installs the handler.
pub(crate) fn prepare() {
    // SAFETY: a function for the life of the process. Without memory for it, children count into
    // their parent's blocks.
    unsafe { libc::pthread_atfork(None, None, Some(child)) };
}

/// Installs what runs after the engine's own handler.
pub(crate) fn prepare_last() {
    // SAFETY: as above. Without it children keep mappings of their parents' blocks.
    unsafe { libc::pthread_atfork(None, None, Some(settle)) };
}

unsafe extern "C" fn settle() {
    if uprobe::is_sealed() {
        // What is mapped may be all that there will be.
        uprobe::own_code(stacks::settled_sealed);
    } else {
        uprobe::own_code(segment::settled);
    }
}

/// The engine's own handler runs after this one and takes a block for the surviving thread.
unsafe extern "C" fn child() {
    uprobe::own_code(|| {
        segment::forget_blocks();
        segment::forked();
        overwritten::forked();
        stacks::forked();
        // To say who it is takes system calls.
        if !uprobe::is_sealed() {
            announce::forked();
        }
    });
}
