//! Named points at which a test can stop a thread, to widen a race (as in librseq's `inject.h`).
//! Nothing in a normal build.

#[cfg(not(all(test, feature = "std", not(loom))))]
#[inline(always)]
pub(crate) fn pass() {}

#[cfg(all(test, feature = "std", not(loom)))]
pub(crate) use armed::{arm, pass};

#[cfg(all(test, feature = "std", not(loom)))]
mod armed {
    use std::cell::Cell;
    use std::thread;

    std::thread_local! {
        /// 0: not armed. Else the state of a small generator.
        static STATE: Cell<u32> = const { Cell::new(0) };
    }

    /// From now on this thread gives up its CPU at one point in eight.
    pub(crate) fn arm(seed: u32) {
        STATE.with(|state| state.set(seed | 1));
    }

    pub(crate) fn pass() {
        STATE.with(|state| {
            let mut x = state.get();
            if x == 0 {
                return;
            }
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            state.set(x);
            if x.is_multiple_of(8) {
                thread::yield_now();
            }
        });
    }
}
