//! What a hit costs here: nanoseconds to find a stack that is saved already, by depth and number of
//! distinct stacks.
//!
//! `cargo run --release -p trapline-stackdepot --example hit_cost`

#![cfg_attr(loom, allow(dead_code, unused_imports))]

use stackdepot::{Depot, Eviction, Flags, Handle};
use std::hint::black_box;
use std::time::Instant;

/// A debug build shows that it works, and not what it costs.
const QUICK: bool = cfg!(debug_assertions);
const SAVES: u64 = if QUICK { 20_000 } else { 2_000_000 };
const DISTINCT: &[u64] = if QUICK { &[1_000, 10_000] } else { &[1_000, 100_000, 1_000_000] };
const REPEATS: usize = 5;

/// Frames of stack number `n`: a shared outer part and inner frames that depend on the number, made
/// fresh each time as an unwinder would.
#[inline(always)]
fn stack(n: u64, frames: &mut [u64]) {
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for f in frames.iter_mut() {
        x = x.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        *f = 0x7f00_0000_0000 | x >> 40;
    }
}

/// The order of visits: a full-period generator over `distinct` stacks.
#[inline(always)]
fn next(state: u64, distinct: u64) -> u64 {
    (state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 16)
        % distinct
}

fn median(mut run: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..REPEATS).map(|_| run()).collect();
    all.sort_by(f64::total_cmp);
    all[REPEATS / 2]
}

fn measure(depth: usize, distinct: u64, mut visit: impl FnMut(&[u64])) -> f64 {
    let mut frames = vec![0; depth];
    median(|| {
        let mut state = 1;
        let start = Instant::now();
        for i in 0..SAVES {
            state = next(state ^ i, distinct);
            stack(state, &mut frames);
            visit(black_box(&frames));
        }
        start.elapsed().as_nanos() as f64 / SAVES as f64
    })
}

fn row<E: Eviction>(
    name: &str,
    depot: &Depot<E>,
    depth: usize,
    distinct: u64,
    flags: Flags,
    generate: f64,
) {
    let mut frames = vec![0; depth];
    for n in 0..distinct {
        stack(n, &mut frames);
        assert_ne!(depot.save(&frames, flags | Flags::CAN_GROW), Handle::NONE);
    }
    let cost = measure(depth, distinct, |frames| {
        black_box(depot.save(frames, flags));
    });
    let stats = depot.stats();
    let bytes = (stats.fixed_bytes + stats.pool_used_bytes) as f64 / stats.stacks() as f64;
    println!(
        "{depth:>6} {distinct:>9}  {name:<22} {:>8.1} ns   {bytes:>6.1} bytes per stack ({:.3} of \
            the frames)",
        cost - generate,
        bytes / (8 * depth) as f64
    );
}

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> Result<(), stackdepot::Error> {
    println!("{:>6} {:>9}  {:<22} {:>11}", "depth", "distinct", "depot", "hit");
    for depth in [16, 40] {
        for &distinct in DISTINCT {
            let generate = measure(depth, distinct, |frames| {
                black_box(frames);
            });
            let builder =
                Depot::builder().expected_stacks(distinct as usize).budget_bytes(900 << 20);
            row(
                "no eviction",
                &builder.clone().no_eviction().build_mmap()?,
                depth,
                distinct,
                Flags::NONE,
                generate,
            );
            row(
                "with eviction",
                &builder.clone().build_mmap()?,
                depth,
                distinct,
                Flags::NONE,
                generate,
            );
            row(
                "with eviction, get",
                &builder.build_mmap()?,
                depth,
                distinct,
                Flags::GET,
                generate,
            );
        }
    }
    Ok(())
}
