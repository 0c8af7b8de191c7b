//! Ends of processes that have made their code writable: probes that were written over are said.
//!
//! Every process that ends by the C library ends in its `_exit`: `exit`, `quick_exit` and the
//! return of `main` come there, too, behind all that runs at the end. A process that a signal
//! kills, or that ends by a system call of its own, is not heard of any more. A child of `fork` has
//! the code that its parent has, and most end here soon: where nothing was made writable nothing is
//! done.
#![allow(unsafe_code)]

use super::c_library;
use crate::decided::Decided;
use crate::{log, overwritten};
use uprobe::{Context, Engine, Patching, Verdict};

/// Puts the probe in place.
pub(crate) fn watch(engine: &'static Engine, decided: &Decided<'_>) {
    let mut batch = engine.batch();
    c_library::add(&mut batch, decided, c"_exit", called, 0);
    for result in batch.commit(Patching::Quiet) {
        if let Err(why) = result {
            log::line(&format!("the end of a process is not seen: {why}"));
        }
    }
}

fn called(_context: &mut Context, data: usize, _cookie: &mut u64) -> Verdict {
    c_library::count(data);
    // A child of vfork looks at its parent's code, which does no harm.
    if overwritten::was_made_writable() {
        overwritten::look_at_end();
    }
    Verdict::Skip
}
