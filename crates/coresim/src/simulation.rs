//! Running code on a machine.

use crate::machine::{Machine, Picoseconds};
use crate::random::Random;
use crate::report::Report;
use crate::world::World;
use crate::{context, thread, time};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// A machine and a seed: the same code gives the same report for them, each time.
///
/// What the seed decides: when threads start within the machine's
/// [`start_spread`](crate::Scheduling::start_spread), and which migrate when.
///
/// Which data share a line depends on addresses, as everywhere. A value whose alignment is that of
/// a line lies the same way in each run; two small boxes share a line or not as the allocator
/// likes.
#[derive(Clone, Debug)]
pub struct Simulation {
    machine: Machine,
    seed: u64,
}

impl Simulation {
    /// Of this machine, with seed 0.
    pub fn new(machine: Machine) -> Self {
        Self { machine, seed: 0 }
    }

    /// With another seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Runs `main` as the first thread of the machine, and waits for all threads that it starts.
    ///
    /// # Panics
    /// If `main` does, or if threads wait for each other and nobody can go on; inside of another
    /// simulation. A panic of another thread goes to who joins it.
    pub fn run<R: 'static>(&self, main: impl FnOnce() -> R + 'static) -> (R, Report) {
        let result = Rc::new(Cell::new(None));
        let theirs = Rc::clone(&result);
        let world = World::new(self.machine.clone(), self.seed);
        let world = context::run(world, move || theirs.set(Some(main())));
        let result = result.take().expect("the first thread has ended");
        (result, Report::of(&world))
    }

    /// How often `threads` threads can do `operation` in a span of time, one after the other, on
    /// CPUs of their own as long as there are some. `operation` gets `shared` and the number of the
    /// thread. Once all have done it twice they start together, and run for a quarter of the span
    /// before anything counts. The lines of `shared` itself are called so in the report, where they
    /// have no better [`name`](crate::name).
    ///
    /// # Panics
    /// As [`run`](Self::run), and without threads.
    pub fn throughput<S: Send + Sync + 'static>(
        &self,
        threads: usize,
        span: Picoseconds,
        shared: S,
        operation: impl Fn(&S, usize) + Send + Sync + 'static,
    ) -> Throughput {
        let operation = move |shared: &S, thread: &mut usize| operation(shared, *thread);
        self.throughput_with(threads, span, move || shared, |_, thread| thread, operation)
    }

    /// [`throughput`](Self::throughput) of threads that have something of their own: `setup` makes
    /// what they share, on the machine, and `start` what each has.
    ///
    /// # Panics
    /// As [`run`](Self::run), and without threads.
    pub fn throughput_with<S: Send + Sync + 'static, L>(
        &self,
        threads: usize,
        span: Picoseconds,
        setup: impl FnOnce() -> S + 'static,
        start: impl Fn(&S, usize) -> L + Send + Sync + 'static,
        operation: impl Fn(&S, &mut L) + Send + Sync + 'static,
    ) -> Throughput {
        assert!(threads > 0, "nobody to do anything");
        let Machine { cpus, scheduling, .. } = self.machine.clone();
        let (operations, report) = self.run(move || {
            let waits = [Start::new(threads), Start::new(threads)];
            let load = Arc::new((setup(), start, operation, waits));
            crate::name(&load.0, "shared");
            let begin = |thread: usize| {
                let load = Arc::clone(&load);
                thread::spawn_on(thread % cpus, move || {
                    let (shared, start, operation, [ready, together]) = &*load;
                    let mut own = start(shared, thread);
                    operation(shared, &mut own);
                    // What others have looked at meanwhile, looking for something of their own,
                    // comes back.
                    ready.wait();
                    operation(shared, &mut own);
                    together.wait();
                    time::work(Random::new(thread as u64).below(scheduling.start_spread));
                    let from = together.at() + scheduling.start_spread + span / 4;
                    repeat(from, from + span, || operation(shared, &mut own))
                })
            };
            let threads: Vec<_> = (0..threads).map(begin).collect();
            let counts = threads.into_iter().map(|thread| match thread.join() {
                Ok(count) => count,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            counts.sum::<u64>()
        });
        Throughput { operations, span, cpus: threads.min(self.machine.cpus), report }
    }
}

/// Where threads wait until all are ready. Of the model's own: it costs nothing.
struct Start {
    /// How many are not.
    missing: AtomicUsize,
    at: AtomicU64,
}

impl Start {
    fn new(threads: usize) -> Self {
        Self { missing: AtomicUsize::new(threads), at: AtomicU64::new(0) }
    }

    /// Returns when all have come. What they did to get here is not what is measured: the report
    /// begins here.
    fn wait(&self) {
        context::await_turn();
        let place = self.missing.as_ptr().addr();
        if self.missing.fetch_sub(1, Relaxed) > 1 {
            context::expect(|world| world.sleep_on(place, None));
            context::suspend();
            return;
        }
        let at = context::expect(|world| {
            world.count_from_here();
            world.wake(place, usize::MAX);
            world.scheduler.now() + world.scheduler.machine.costs.context_switch
        });
        self.at.store(at, Relaxed);
    }

    fn at(&self) -> Picoseconds {
        self.at.load(Relaxed)
    }
}

/// Does `operation` until the time is over, when the report ends, too. Returns how many were begun
/// and ended in it.
fn repeat(from: Picoseconds, until: Picoseconds, mut operation: impl FnMut()) -> u64 {
    let mut count = 0;
    let mut begun = time::now();
    loop {
        operation();
        let ended = time::now();
        assert!(ended > begun, "an operation that takes no time can be done without end");
        if ended > until {
            context::expect(|world| world.count_no_more());
            return count;
        }
        count += u64::from(begun >= from);
        begun = ended;
    }
}

/// What [`Simulation::throughput`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throughput {
    /// Operations of all threads that began and ended in the span.
    pub operations: u64,
    /// The time that was measured.
    pub span: Picoseconds,
    /// How many CPUs took part.
    pub cpus: usize,
    /// What happened from when all threads had done the operation twice until the span was over.
    pub report: Report,
}

impl Throughput {
    /// Operations a second.
    pub fn per_second(&self) -> f64 {
        self.operations as f64 * 1e12 / self.span as f64
    }

    /// Nanoseconds that one CPU needs for one operation: the same at any number of CPUs, for what
    /// scales.
    pub fn nanoseconds(&self) -> f64 {
        self.span as f64 * self.cpus as f64 / (1e3 * self.operations as f64)
    }
}
