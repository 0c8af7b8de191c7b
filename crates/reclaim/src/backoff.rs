//! How a writer waits for readers: spin a little, then let others run, then sleep.

use percpu::sync::hint::spin_loop;

/// Waiting in steps that grow. A reader that runs leaves within the spins; one that was preempted
/// needs this CPU, which is what yielding gives it; one that sleeps inside its section is waited
/// for with naps of at most a millisecond.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    step: u32,
}

impl Backoff {
    #[cfg(not(loom))]
    const SPINS: u32 = 6;
    #[cfg(not(loom))]
    const YIELDS: u32 = Self::SPINS + 32;
    /// Naps of 16 µs, 32 µs and so on.
    #[cfg(not(loom))]
    const NAP_US: u64 = 16;
    #[cfg(not(loom))]
    const LONGEST_NAP_US: u64 = 1000;

    pub(crate) const fn new() -> Self {
        Self { step: 0 }
    }

    #[cfg(not(loom))]
    pub(crate) fn wait(&mut self) {
        if self.step < Self::SPINS {
            for _ in 0..1_u32 << self.step {
                spin_loop();
            }
        } else if self.step < Self::YIELDS {
            percpu::thread::yield_now();
        } else {
            let nap =
                (Self::NAP_US << (self.step - Self::YIELDS).min(10)).min(Self::LONGEST_NAP_US);
            // Not `std::thread::sleep`: see `nap`.
            percpu::thread::nap(core::time::Duration::from_micros(nap));
        }
        self.step = self.step.saturating_add(1);
    }

    #[cfg(loom)]
    pub(crate) fn wait(&mut self) {
        self.step = self.step.saturating_add(1);
        percpu::sync::thread::yield_now();
        spin_loop();
    }
}
