//! What things cost on this machine, as coresim's table of costs has them.
#![allow(unsafe_code)]

use crate::{affinity, line_transfer};
use percpu::CachePadded;
use percpu::fence::heavy;
use scale::machines::{Costs, Machine, fit};
use std::fmt;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::thread;
use std::time::Instant;

const ROUNDS: u32 = 200_000;

/// What things cost here, in nanoseconds: best of seven.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    hit: f64,
    locked: f64,
    store: f64,
    fence: f64,
    pause: f64,
    memory: f64,
    system_call: f64,
    context_switch: Option<f64>,
    membarrier_alone: f64,
    membarrier_beside: Option<f64>,
    pass: Option<f64>,
    count_alone: Option<f64>,
    count_together: Option<f64>,
}

impl Probe {
    /// Measures all of it: some seconds.
    /// `quick`: without looking beyond the caches.
    pub(super) fn measure(quick: bool) -> Self {
        Self {
            hit: hit(),
            locked: add(),
            store: store(),
            fence: full_fence(),
            pause: best(ROUNDS, spin_loop),
            memory: memory(if quick { 1 << 18 } else { 8 << 20 }),
            system_call: best(ROUNDS / 10, system_call),
            context_switch: context_switch(),
            membarrier_alone: best(ROUNDS / 100, heavy),
            membarrier_beside: beside_a_sibling(|| best(2_000, heavy)),
            pass: line_transfer::measure(),
            count_alone: count(1),
            count_together: count(2),
        }
    }

    /// The machine of two CPUs on which these come out. `None`: there is one.
    ///
    /// What a line takes is fitted to the pass of a ball, how much of it is the request to the
    /// count of two CPUs; so that count is no prediction.
    pub(super) fn machine(&self) -> Option<Machine> {
        let (pass, count) = (self.pass?, self.count_together?);
        let costs = Costs {
            hit: picoseconds(self.hit),
            locked: picoseconds(self.locked),
            store_seq_cst: picoseconds(self.store),
            memory: picoseconds(self.memory),
            fence: picoseconds(self.fence),
            pause: picoseconds(self.pause),
            system_call: picoseconds(self.system_call),
            // What a running sibling adds is the interrupt here and there.
            interrupt: self.membarrier_beside.map_or(Machine::EPYC_2.costs.interrupt, |beside| {
                picoseconds((beside - self.membarrier_alone).max(1.0))
            }),
            context_switch: self
                .context_switch
                .map_or(Machine::EPYC_2.costs.context_switch, picoseconds),
            ..Machine::EPYC_2.costs
        };
        let machine = Machine { cluster: 2, costs, ..Machine::EPYC_2 };
        Some(fit::counted(fit::passed(machine, pass), count))
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "what things cost here, ns; best of seven")?;
        let mut row = |name: &str, value: Option<f64>| match value {
            Some(value) => writeln!(f, "{name:40}{value:10.2}"),
            None => writeln!(f, "{name:40}{:>10}", "-"),
        };
        row("hit: a load or a store", Some(self.hit))?;
        row("locked: fetch_add", Some(self.locked))?;
        row("store_seq_cst", Some(self.store))?;
        row("fence", Some(self.fence))?;
        row("pause", Some(self.pause))?;
        row("memory: a line that no cache has", Some(self.memory))?;
        row("system_call: getppid", Some(self.system_call))?;
        row("context_switch: sched_yield", self.context_switch)?;
        row("membarrier, alone", Some(self.membarrier_alone))?;
        row("membarrier, a sibling runs", self.membarrier_beside)?;
        row("a ball's pass", self.pass)?;
        row("count + uncount, 1 CPU", self.count_alone)?;
        row("count + uncount, 2 CPUs, each", self.count_together)
    }
}

fn picoseconds(nanoseconds: f64) -> u64 {
    ((nanoseconds * 1e3) as u64).max(1)
}

/// The best of seven times of one call, the loop's own part of a nanosecond included.
#[inline(always)]
fn best(rounds: u32, mut call: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        for _ in 0..rounds {
            call();
            // What it has written is looked at, as far as the compiler knows.
            black_box(());
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds));
    }
    best
}

/// Sixteen accesses to eight lines that are there.
fn hit() -> f64 {
    let lines: [CachePadded<AtomicUsize>; 8] = std::array::from_fn(|_| CachePadded::default());
    let accesses = || {
        for line in &lines {
            // Relaxed: nobody else has them.
            line.store(black_box(1), Ordering::Relaxed);
            black_box(line.load(Ordering::Relaxed));
        }
    };
    best(ROUNDS, accesses) / 16.0
}

fn add() -> f64 {
    let value = CachePadded::new(AtomicUsize::new(0));
    best(ROUNDS, || _ = black_box(black_box(&value).fetch_add(1, Ordering::Relaxed)))
}

fn store() -> f64 {
    let value = CachePadded::new(AtomicUsize::new(0));
    best(ROUNDS, || black_box(&value).store(black_box(1), Ordering::SeqCst))
}

/// With a store before it: in an empty loop it may vanish.
fn full_fence() -> f64 {
    let value = CachePadded::new(AtomicUsize::new(0));
    best(ROUNDS, || {
        black_box(&value).store(black_box(1), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    })
}

/// A walk through so many lines, a power of two, each step to one that nobody can guess.
fn memory(lines: usize) -> f64 {
    let count = lines;
    // A full cycle of a linear congruential generator (Hull, Dobell: the increment is odd, and the
    // multiplier is one more than a multiple of four).
    let step = |at: usize| {
        at.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f) % count
    };
    let mut lines = vec![[0usize; 8]; count];
    lines.iter_mut().enumerate().for_each(|(at, line)| line[0] = step(at));
    let mut at = 0;
    best(ROUNDS, || at = black_box(lines[at][0]))
}

fn system_call() {
    // SAFETY: getppid takes nothing and touches no memory.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

/// Two threads on one CPU that yield to each other.
fn context_switch() -> Option<f64> {
    let cpu = *affinity::allowed().first()?;
    let stop = AtomicBool::new(false);
    let times = thread::scope(|s| {
        s.spawn(|| {
            affinity::pin(cpu);
            // Relaxed: nothing else is told by it.
            while !stop.load(Ordering::Relaxed) {
                thread::yield_now();
            }
        });
        let timer = s.spawn(|| {
            affinity::pin(cpu);
            let time = best(5_000, thread::yield_now);
            stop.store(true, Ordering::Relaxed);
            time
        });
        timer.join().ok()
    });
    times.map(|both| both / 2.0)
}

fn beside_a_sibling(measure: impl FnOnce() -> f64 + Send) -> Option<f64> {
    let [here, there] = *affinity::allowed().get(..2)? else { return None };
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            affinity::pin(there);
            // Relaxed: nothing else is told by it.
            while !stop.load(Ordering::Relaxed) {
                spin_loop();
            }
        });
        let timer = s.spawn(|| {
            affinity::pin(here);
            let time = measure();
            stop.store(true, Ordering::Relaxed);
            time
        });
        timer.join().ok()
    })
}

/// What `Arc` does at a clone and a drop, by so many CPUs in one place: nanoseconds of each.
fn count(threads: usize) -> Option<f64> {
    let cpus = affinity::allowed();
    let cpus = cpus.get(..threads)?;
    let count = CachePadded::new(AtomicUsize::new(1));
    let ready = AtomicUsize::new(0);
    thread::scope(|s| {
        let timers: Vec<_> = cpus
            .iter()
            .map(|cpu| {
                let (count, ready) = (&count, &ready);
                s.spawn(move || {
                    affinity::pin(*cpu);
                    ready.fetch_add(1, Ordering::Relaxed);
                    // Relaxed: who is here has nothing to show.
                    while ready.load(Ordering::Relaxed) < threads {
                        spin_loop();
                    }
                    best(ROUNDS, || {
                        count.fetch_add(1, Ordering::Relaxed);
                        count.fetch_sub(1, Ordering::Release);
                    })
                })
            })
            .collect();
        let times: Vec<f64> = timers.into_iter().map_while(|timer| timer.join().ok()).collect();
        times.into_iter().reduce(f64::max)
    })
}
