//! One measurement: threads that warm up, start together, and count until the window closes.

use crate::{affinity, clock};
use std::process;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Which thread of a measurement this is.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// 0 up to `threads - 1`.
    pub index: usize,
    /// How many threads work.
    pub threads: usize,
}

/// When a measurement ends.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// After this time.
    Time(Duration),
    /// After this many operations of each thread.
    Ops(u64),
}

/// What one measurement gave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Operations of all threads inside the window.
    pub ops: u64,
    /// CPU time of all threads inside the window, per operation.
    pub cpu_ns: f64,
    /// Length of the window over the operations of all threads together.
    pub wall_ns: f64,
    /// Operations that were refused (an empty pool, a full queue).
    pub misses: u64,
}

/// State the threads of one measurement share.
struct Rig {
    block: u64,
    budget: Budget,
    /// Threads outnumber CPUs: then nobody is pinned and nobody waits for the last one.
    crowded: bool,
    warm: Barrier,
    stop: AtomicBool,
    running: AtomicUsize,
    epoch: Instant,
}

/// A thread's side of a measurement.
pub struct Meter<'a> {
    rig: &'a Rig,
    ops: u64,
    misses: u64,
    cpu_ns: u64,
    begin_ns: u64,
    end_ns: u64,
}

impl Meter<'_> {
    /// Measures `body`, which does as many operations as it is told.
    #[inline]
    pub fn run(&mut self, mut body: impl FnMut(u64)) {
        self.run_counting(|ops| {
            body(ops);
            ops
        });
    }

    /// Measures `body`, which tries as many operations as it is told and says how many it did.
    #[inline]
    pub fn run_counting(&mut self, mut body: impl FnMut(u64) -> u64) {
        let rig = self.rig;
        body(rig.block);
        body(rig.block);
        rig.warm.wait();
        // Not counted either: the others may still be waking up.
        body(rig.block);
        let begin_ns = rig.epoch.elapsed().as_nanos() as u64;
        let begin_cpu = clock::thread_cpu_ns();
        let mut ops = 0;
        match rig.budget {
            // At least one block, however slow the operation. Relaxed: nothing but the flag itself
            // is communicated.
            Budget::Time(_) => loop {
                ops += body(rig.block);
                if rig.stop.load(Ordering::Relaxed) {
                    break;
                }
            },
            Budget::Ops(total) => {
                let mut left = total;
                while left > 0 {
                    let part = left.min(rig.block);
                    ops += body(part);
                    left -= part;
                }
            }
        }
        self.cpu_ns = clock::thread_cpu_ns() - begin_cpu;
        (self.begin_ns, self.end_ns) = (begin_ns, rig.epoch.elapsed().as_nanos() as u64);
        self.ops = ops;
        // Keep the load up until the last one has taken its time: a thread that is alone at the end
        // would look faster than it is.
        rig.running.fetch_sub(1, Ordering::Relaxed);
        while !rig.crowded && rig.running.load(Ordering::Relaxed) > 0 {
            body(rig.block.min(1_000));
        }
    }

    /// Takes what was measured outside of this process: operations and the CPU time they took
    /// there.
    pub fn run_outside(&mut self, measured: impl FnOnce() -> (u64, Duration)) {
        self.rig.warm.wait();
        self.begin_ns = self.rig.epoch.elapsed().as_nanos() as u64;
        let (ops, cpu) = measured();
        (self.ops, self.cpu_ns) = (ops, cpu.as_nanos() as u64);
        self.end_ns = self.rig.epoch.elapsed().as_nanos() as u64;
        self.rig.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts operations that were refused.
    pub fn add_misses(&mut self, misses: u64) {
        self.misses += misses;
    }
}

/// A thread that dies would leave the others waiting for it at the barrier: end the run with its
/// message instead.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("a benchmark thread panicked; the run cannot go on");
            process::abort();
        }
    }
}

/// What one thread of a measurement does: set up its own state, then call [`Meter::run`].
pub type Job = Box<dyn Fn(Seat, &mut Meter<'_>) + Sync>;

/// Runs `job` on `threads` threads; `block` operations pass between two looks at the clock's flag.
pub fn measure(job: &Job, threads: usize, block: u64, budget: Budget) -> Sample {
    let cpus = affinity::allowed();
    let rig = Rig {
        block,
        budget,
        crowded: threads > cpus.len(),
        warm: Barrier::new(threads + 1),
        stop: AtomicBool::new(false),
        running: AtomicUsize::new(threads),
        epoch: Instant::now(),
    };
    let (rig, cpus) = (&rig, &cpus);
    thread::scope(|s| {
        let workers: Vec<_> = (0..threads)
            .map(|index| {
                s.spawn(move || {
                    let _guard = AbortOnPanic;
                    if !rig.crowded {
                        affinity::pin(cpus[index]);
                    }
                    let mut meter =
                        Meter { rig, ops: 0, misses: 0, cpu_ns: 0, begin_ns: u64::MAX, end_ns: 0 };
                    job(Seat { index, threads }, &mut meter);
                    (meter.ops, meter.cpu_ns, meter.misses, meter.begin_ns, meter.end_ns)
                })
            })
            .collect();
        rig.warm.wait();
        if let Budget::Time(window) = budget {
            thread::sleep(window);
            rig.stop.store(true, Ordering::Relaxed);
        }
        let (mut ops, mut cpu, mut misses, mut begin, mut end) = (0, 0, 0, u64::MAX, 0);
        for worker in workers {
            let part = worker.join().expect("a panic has aborted the process");
            ops += part.0;
            cpu += part.1;
            misses += part.2;
            begin = begin.min(part.3);
            end = end.max(part.4);
        }
        let per_op = |ns: u64| if ops == 0 { f64::NAN } else { ns as f64 / ops as f64 };
        Sample { ops, cpu_ns: per_op(cpu), wall_ns: per_op(end.saturating_sub(begin)), misses }
    })
}
