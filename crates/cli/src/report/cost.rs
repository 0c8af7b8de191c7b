//! What hits cost on this machine, for the estimate of the overhead.
//!
//! A hit is some cycles, and two readings of the time-stamp counter where it is timed; the cycles
//! are those of `trapline-bench -- probe`, which hardly differ between processors. How long a
//! cycle, a reading and a trap take here and now is measured, in a quarter of a millisecond, when a
//! report is made. What probes push out of the caches is not in it: a hit that misses them costs
//! more.
#![allow(unsafe_code)]

use crate::clock::now;
use std::arch::asm;
use std::sync::OnceLock;

/// Cycles of a hit: entry counted; entry and return timed, without the readings.
const COUNT_CYCLES: f64 = 3.0;
const TIME_CYCLES: f64 = 23.0;
/// The same with a stack that the thread has met before, and of the first sight of an address.
const STACK_CYCLES: f64 = 105.0;
const STACK_TIME_CYCLES: f64 = 220.0;
const FIRST_SIGHT_CYCLES: f64 = 10_000.0;
/// What entry and return readings there are in a timed hit.
const READINGS: f64 = 2.0;

/// Nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    cycle: f64,
    reading: f64,
    ns_per_tick: f64,
}

impl Cost {
    /// Measures. `ns_per_tick`: of the time-stamp counter.
    pub(crate) fn here(ns_per_tick: f64) -> Self {
        // A multiplication takes three cycles on every x86-64 processor, and waits for the last.
        let cycle = shortest(multiplications, 3 * LOOPS);
        let reading = shortest(readings, LOOPS);
        Self { cycle: cycle * ns_per_tick, reading: reading * ns_per_tick, ns_per_tick }
    }

    /// A hit that is counted by a detour, or timed.
    pub(crate) fn hit(&self, timed: bool) -> f64 {
        if timed {
            READINGS * self.reading + TIME_CYCLES * self.cycle
        } else {
            COUNT_CYCLES * self.cycle
        }
    }

    /// A hit that is recorded with its stack, or with its time, too.
    pub(crate) fn recorded(&self, timed: bool) -> f64 {
        let readings = if timed { READINGS * self.reading } else { 0.0 };
        readings + self.cycle * if timed { STACK_TIME_CYCLES } else { STACK_CYCLES }
    }

    /// What is seen for the first time.
    pub(crate) fn first_sight(&self) -> f64 {
        FIRST_SIGHT_CYCLES * self.cycle
    }

    /// What a breakpoint costs beyond that: the trap, its handler, and the way back. Measured at
    /// the first call.
    pub(crate) fn trap(&self) -> f64 {
        static TICKS: OnceLock<f64> = OnceLock::new();
        *TICKS.get_or_init(trap_ticks) * self.ns_per_tick
    }
}

const LOOPS: u32 = 1000;

/// Ticks of one of `count` operations: of several attempts the one that nobody disturbed.
fn shortest(operations: fn(), count: u32) -> f64 {
    let attempt = |_| {
        let before = now();
        operations();
        now().wrapping_sub(before)
    };
    let ticks = (0..7).map(attempt).min().unwrap_or_default();
    ticks as f64 / f64::from(count)
}

fn multiplications() {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "2: imul {x}, {x}",
            "dec {n:e}",
            "jnz 2b",
            x = inout(reg) 3_u64 => _,
            n = inout(reg) LOOPS => _,
            options(nomem, nostack),
        );
    }
}

fn readings() {
    // SAFETY: a counter that every x86-64 processor has; registers only.
    unsafe {
        asm!(
            "2: rdtsc",
            "dec {n:e}",
            "jnz 2b",
            n = inout(reg) LOOPS => _,
            out("eax") _,
            out("edx") _,
            options(nomem, nostack),
        );
    }
}

/// Ticks of a breakpoint that is handled in the process, in this one.
fn trap_ticks() -> f64 {
    extern "C" fn handler(_: libc::c_int) {}
    /// Under a debugger the trap would be the debugger's; and where it cannot be tried, this is
    /// what it is in a virtual machine of 2026.
    const USUAL: f64 = 6240.0;
    let traced = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|s| s.lines().any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0")));
    if traced {
        return USUAL;
    }
    // SAFETY: zero is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: zero is a valid sigaction.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: both live through the call; nobody else here uses the signal.
    if unsafe { libc::sigaction(libc::SIGTRAP, &raw const action, &raw mut before) } != 0 {
        return USUAL;
    }
    let ticks = shortest(traps, TRAPS);
    // SAFETY: what was there before.
    unsafe { libc::sigaction(libc::SIGTRAP, &raw const before, std::ptr::null_mut()) };
    ticks
}

const TRAPS: u32 = 20;

fn traps() {
    for _ in 0..TRAPS {
        // SAFETY: the caller handles the trap, and the handler changes nothing.
        unsafe { asm!("int3", options(nomem, nostack)) };
    }
}

#[cfg(test)]
mod tests {
    use super::Cost;

    /// No figure is right on every machine, but each is a time, and dearer hits cost more.
    #[test]
    fn dearer_hits_cost_more() {
        let cost = Cost::here(0.5);
        assert!(cost.hit(false) > 0.0);
        assert!(cost.hit(true) > cost.hit(false));
        assert!(
            cost.recorded(false) > cost.hit(false) && cost.recorded(true) > cost.recorded(false)
        );
        assert!(cost.first_sight() > cost.recorded(true));
        let traps = (cost.trap(), cost.trap());
        assert!(traps.0 > 0.0 && traps.0 == traps.1, "measured once: {traps:?}");
    }
}
