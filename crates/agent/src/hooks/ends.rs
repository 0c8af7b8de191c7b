//! Ends of processes that have made their code writable: probes that were written over are said.
//!
//! Every process that ends by the C library ends in its `_exit`: `exit`, `quick_exit` and the
//! return of `main` come there, too, behind all that runs at the end. A process that a signal
//! kills, or that ends by a system call of its own, is not heard of any more. A child of `fork` has
//! the code that its parent has, and most end here soon: where nothing was made writable nothing is
//! done.
#![allow(unsafe_code)]

use super::c_library;
use crate::overwritten;
use crate::own_probes::OwnProbes;
use uprobe::{Context, Verdict};

/// Adds the probe.
pub(crate) fn watch(probes: &mut OwnProbes<'_>) {
    c_library::add(probes, c"_exit", called, 0, "the end of a process is not seen");
}

fn called(_context: &mut Context, data: usize, _cookie: &mut u64) -> Verdict {
    c_library::count(data);
    // A child of vfork looks at its parent's code, which does no harm.
    if overwritten::was_made_writable() {
        overwritten::look_at_end();
    }
    Verdict::Skip
}
