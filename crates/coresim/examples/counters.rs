//! A contended counter against a sharded one, and against one whose shards share lines: at 1 to 128
//! CPUs, with the line that stops each, and how fast the model runs.

use coresim::sync::atomic::{AtomicU64, Ordering::Relaxed};
use coresim::{Machine, Simulation, Throughput};
use std::fs;

const CPUS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// 50 µs of the machine; a debug build shows that it works.
const SPAN: u64 = if cfg!(debug_assertions) { 5_000_000 } else { 50_000_000 };

/// A counter on a line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

/// Counters side by side, from the start of a line on.
#[derive(Default)]
#[repr(align(64))]
struct Packed([AtomicU64; 8]);

fn one(simulation: &Simulation, threads: usize) -> Throughput {
    simulation.throughput(threads, SPAN, Padded::default(), |counter, _| {
        counter.0.fetch_add(1, Relaxed);
    })
}

fn packed(simulation: &Simulation, threads: usize) -> Throughput {
    let shards: Vec<Packed> = (0..threads.div_ceil(8)).map(|_| Packed::default()).collect();
    simulation.throughput(threads, SPAN, shards, |shards, thread| {
        shards[thread / 8].0[thread % 8].fetch_add(1, Relaxed);
    })
}

fn padded(simulation: &Simulation, threads: usize) -> Throughput {
    let shards: Vec<Padded> = (0..threads).map(|_| Padded::default()).collect();
    simulation.throughput(threads, SPAN, shards, |shards, thread| {
        shards[thread].0.fetch_add(1, Relaxed);
    })
}

fn main() {
    let simulation = Simulation::new(Machine::EPYC_64.with_cpus(128));
    type Counter = fn(&Simulation, usize) -> Throughput;
    let counters: [(&str, Counter); 3] =
        [("one counter", one), ("shards, 8 to a line", packed), ("shards, padded", padded)];
    print!("{:20}", "Madd/s at CPUs");
    println!("{}", CPUS.map(|cpus| format!("{cpus:>8}")).concat());
    let mut accesses = 0;
    for (name, counter) in counters {
        let runs = CPUS.map(|cpus| counter(&simulation, cpus));
        print!("{name:20}");
        println!("{}", runs.each_ref().map(|r| format!("{:8.1}", r.per_second() / 1e6)).concat());
        let [alone, .., last] = &runs;
        let nanoseconds = [alone, last].map(Throughput::nanoseconds);
        print!("    {:.1} ns an add at 1 CPU, {:.1} at 128", nanoseconds[0], nanoseconds[1]);
        match last.report.bottleneck() {
            Some(line) if nanoseconds[1] > 1.3 * nanoseconds[0] => println!(", for {line}"),
            _ => println!(": scales"),
        }
        accesses += runs.iter().map(|run| run.report.accesses).sum::<u64>();
    }
    match cpu_seconds() {
        Some(seconds) => {
            let speed = accesses as f64 / seconds / 1e6;
            println!("\n{speed:.1} million accesses a second of CPU time were simulated");
        }
        None => println!("\n{accesses} accesses were simulated"),
    }
}

/// What this process has used of a CPU, where the system says so: others use this machine, too.
fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/schedstat").ok()?;
    let nanoseconds: f64 = text.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}
