//! A gate that is kept closed, also over a fork.

use percpu::fork;
use percpu::rseq::{Closed, Gate};

/// While it lives, no sequence behind the gate commits: for a visit, or for as long as somebody
/// waits, so that pushes go where waiters are looked for.
///
/// A fork child forgets the visitors of its parent. If the thread that called `fork` is one of them
/// (from a signal handler), its own is forgotten, too, and must not be taken back in the child.
#[derive(Debug)]
pub struct Hold<'g> {
    closed: Option<Closed<'g>>,
    generation: u64,
}

impl<'g> Hold<'g> {
    /// Closes the gate.
    ///
    /// # Context
    /// As [`Gate::close`].
    pub(crate) fn new(gate: &'g Gate) -> Self {
        let generation = fork::generation();
        Self { closed: Some(gate.close()), generation }
    }

    /// What a look into another CPU's slot asks for.
    pub(crate) fn closed(&self) -> Option<&Closed<'g>> {
        self.closed.as_ref()
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let closed = self.closed.take();
        if fork::generation() != self.generation {
            core::mem::forget(closed);
        }
    }
}
