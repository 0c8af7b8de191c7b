//! Looks at code that is armed, beside others who take such memory away.
//!
//! Whoever looks writes down that it does, then whether it may; whoever takes memory away writes
//! down that nobody may, then waits until nobody does. In the single order of these four one of the
//! two sees the other.

use core::sync::atomic::{AtomicBool, Ordering};

/// How long to wait for a look, in turns: far longer than one takes. More is only needed by a
/// signal handler that has interrupted the look, which would wait for ever.
const PATIENCE: u32 = 1 << 24;

/// Whether somebody looks, and whether anybody may.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// Written by looks alone, of which there is one at a time.
    looking: AtomicBool,
    /// Somebody is taking memory away now, one at a time.
    kept_out: AtomicBool,
    /// Nobody knows any more what is readable.
    over: AtomicBool,
}

impl Looks {
    /// Runs `look`, if one may be had now. The caller sees to it that there is one at a time.
    pub(crate) fn begin(&self, look: impl FnOnce()) {
        self.looking.store(true, Ordering::SeqCst);
        if !self.kept_out.load(Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
            look();
        }
        // Release pairs with the last load in `wait`.
        self.looking.store(false, Ordering::Release);
    }

    /// No look from now on, until [`Looks::let_in`].
    pub(crate) fn keep_out(&self) {
        self.kept_out.store(true, Ordering::SeqCst);
        self.wait();
    }

    /// The one who has called [`Looks::keep_out`], once or more, is done.
    pub(crate) fn let_in(&self) {
        // Release pairs with the load in `begin`: what is gone was forgotten.
        self.kept_out.store(false, Ordering::Release);
    }

    /// No look any more.
    pub(crate) fn end_for_good(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.wait();
    }

    fn wait(&self) {
        for _ in 0..PATIENCE {
            if !self.looking.load(Ordering::SeqCst) {
                return;
            }
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::Looks;
    use core::sync::atomic::{AtomicBool, Ordering};

    fn may(looks: &Looks) -> bool {
        let mut looked = false;
        looks.begin(|| looked = true);
        looked
    }

    #[test]
    fn nobody_looks_while_memory_goes() {
        let looks = Looks::default();
        assert!(may(&looks));
        looks.keep_out();
        looks.keep_out();
        assert!(!may(&looks));
        looks.let_in();
        assert!(may(&looks));
        looks.end_for_good();
        assert!(!may(&looks));
    }

    #[test]
    fn who_takes_memory_away_waits_for_a_look() {
        let (looks, mapped) = (Looks::default(), AtomicBool::new(true));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    looks.begin(|| assert!(mapped.load(Ordering::Relaxed)));
                }
            });
            for _ in 0..10_000 {
                looks.keep_out();
                mapped.store(false, Ordering::Relaxed);
                mapped.store(true, Ordering::Relaxed);
                looks.let_in();
            }
        });
    }
}
