//! Clocks: CPU time of a thread, wall time, and the processor's time-stamp counter.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// CPU time this thread has used, in nanoseconds. A system call (0.2 µs): read it around a window,
/// never around one operation.
pub fn thread_cpu_ns() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a live timespec that the call fills.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut ts) };
    assert_eq!(rc, 0, "every Linux has CLOCK_THREAD_CPUTIME_ID");
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// CPU time that the processes have used which this one has started and waited for, in nanoseconds.
pub fn children_cpu_ns() -> u64 {
    // SAFETY: rusage is numbers; all zero is one.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a live rusage that the call fills.
    let rc = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) };
    assert_eq!(rc, 0, "every Linux has RUSAGE_CHILDREN");
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

/// A cheap, unordered clock for latency probes: rdtsc on x86-64 (9.5 ns in this project's VM), the
/// monotonic clock elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    ns_per_tick: f64,
}

impl Ticks {
    /// Calibrates the counter against the monotonic clock for 20 ms.
    pub fn calibrated() -> Self {
        let (wall, ticks) = (Instant::now(), Self::now());
        std::thread::sleep(Duration::from_millis(20));
        let (wall, ticks) = (wall.elapsed(), Self::now().wrapping_sub(ticks));
        Self { ns_per_tick: wall.as_nanos() as f64 / ticks.max(1) as f64 }
    }

    /// The counter now.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub fn now() -> u64 {
        // SAFETY: every x86-64 processor has rdtsc, and Linux lets user space run it.
        unsafe { core::arch::x86_64::_rdtsc() }
    }

    /// The counter now.
    #[cfg(not(target_arch = "x86_64"))]
    #[inline]
    pub fn now() -> u64 {
        let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `ts` is a live timespec that the call fills.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
        ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
    }

    /// How long `ticks` of the counter are.
    #[inline]
    pub fn to_ns(self, ticks: u64) -> f64 {
        ticks as f64 * self.ns_per_tick
    }
}
