//! Ticks of the time-stamp counter in nanoseconds: the frequency is measured over the run itself.
#![allow(unsafe_code)]

use std::time::Instant;

/// The shortest run over which the frequency is measured; a shorter one waits for the rest.
const SHORTEST: std::time::Duration = std::time::Duration::from_millis(2);

/// The start of a measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    instant: Instant,
    ticks: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let (instant, ticks) = both();
        Self { instant, ticks }
    }

    /// Nanoseconds of a tick.
    pub(crate) fn ns_per_tick(&self) -> f64 {
        while self.instant.elapsed() < SHORTEST {
            std::hint::spin_loop();
        }
        let (instant, ticks) = both();
        instant.duration_since(self.instant).as_nanos() as f64
            / ticks.wrapping_sub(self.ticks).max(1) as f64
    }

    pub(crate) fn started(&self) -> Instant {
        self.instant
    }
}

/// Both clocks at one moment: of several readings the one that took the least time.
fn both() -> (Instant, u64) {
    (0..5)
        .map(|_| {
            let before = now();
            let instant = Instant::now();
            let after = now();
            (after.wrapping_sub(before), instant, before + after.wrapping_sub(before) / 2)
        })
        .min_by_key(|&(took, ..)| took)
        .map(|(_, instant, ticks)| (instant, ticks))
        .expect("there are several readings")
}

/// The time-stamp counter.
pub(crate) fn now() -> u64 {
    // SAFETY: reads a counter that every x86-64 processor has.
    unsafe { core::arch::x86_64::_rdtsc() }
}
