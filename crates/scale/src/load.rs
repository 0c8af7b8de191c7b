//! What a scheme is run with.

use coresim::{Picoseconds, Simulation, Throughput};

/// A machine, and how much it has to do.
#[derive(Clone, Copy, Debug)]
pub struct Load<'m> {
    /// The machine.
    pub simulation: &'m Simulation,
    /// Threads, on CPUs of their own while there are some.
    pub threads: usize,
    /// What a thread does with an object before it gives it back.
    pub work: Picoseconds,
    /// For how long.
    pub span: Picoseconds,
}

impl Load<'_> {
    /// What threads get done that share what `setup` makes.
    pub(crate) fn shared<S: Send + Sync + 'static>(
        &self,
        setup: impl FnOnce() -> S + 'static,
        operation: impl Fn(&S) + Send + Sync + 'static,
    ) -> Throughput {
        self.each(setup, |_, _| (), move |shared, ()| operation(shared))
    }

    /// The same of threads that have something of their own, which `start` makes.
    pub(crate) fn each<S: Send + Sync + 'static, L>(
        &self,
        setup: impl FnOnce() -> S + 'static,
        start: impl Fn(&S, usize) -> L + Send + Sync + 'static,
        operation: impl Fn(&S, &mut L) + Send + Sync + 'static,
    ) -> Throughput {
        self.simulation.throughput_with(self.threads, self.span, setup, start, operation)
    }
}
