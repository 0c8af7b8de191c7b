//! Panics of callbacks, deleters and drops: one rule for all schemes.
//!
//! Code that was deferred runs far from whoever deferred it, so its panic is no reason for others
//! to go without: it is caught, the rest runs, and then
//! - the first panic goes on in the caller who asked for the work (`reclaim`, `barrier`, the drop
//!   of a domain, and so on), unless that one is unwinding already;
//! - on a helper thread, in a thread's exit function and at process exit, where nobody could catch
//!   it, it ends. The panic hook has reported it, and the domain has counted it.
//!
//! Without the feature `std` nothing can be caught: the panic, if the program unwinds at all,
//! passes through and the rest waits for the next call (the drop of a domain goes on with it, and a
//! second panic then aborts the process). Nothing that a queue refers to lies on a stack.

#[cfg(all(feature = "std", not(loom)))]
use core::mem;

#[cfg(all(feature = "std", not(loom)))]
type Payload = alloc::boxed::Box<dyn core::any::Any + Send>;

/// The panics of one piece of work.
#[derive(Default)]
pub(crate) struct Panics {
    #[cfg(all(feature = "std", not(loom)))]
    first: Option<Payload>,
    count: u64,
}

impl Panics {
    pub(crate) const fn none() -> Self {
        Self {
            #[cfg(all(feature = "std", not(loom)))]
            first: None,
            count: 0,
        }
    }

    /// Runs `f`; false: it panicked. Whatever `f` changes is in order also then.
    #[cfg(all(feature = "std", not(loom)))]
    #[inline]
    pub(crate) fn catch(&mut self, f: impl FnOnce()) -> bool {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
            Ok(()) => true,
            Err(payload) => {
                self.keep(payload);
                false
            }
        }
    }

    /// Runs `f`.
    #[cfg(not(all(feature = "std", not(loom))))]
    #[inline]
    pub(crate) fn catch(&mut self, f: impl FnOnce()) -> bool {
        f();
        true
    }

    /// How many panics there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Lets the first panic go on, unless the thread is unwinding: that would abort the process.
    pub(crate) fn resume(self) {
        #[cfg(all(feature = "std", not(loom)))]
        {
            let mut this = self;
            if !std::thread::panicking()
                && let Some(payload) = this.first.take()
            {
                std::panic::resume_unwind(payload);
            }
        }
        #[cfg(not(all(feature = "std", not(loom))))]
        let _ = self;
    }

    #[cfg(all(feature = "std", not(loom)))]
    #[cold]
    fn keep(&mut self, payload: Payload) {
        self.count += 1;
        match self.first {
            None => self.first = Some(payload),
            Some(_) => dispose(payload),
        }
    }
}

#[cfg(all(feature = "std", not(loom)))]
impl Drop for Panics {
    fn drop(&mut self) {
        if let Some(payload) = self.first.take() {
            dispose(payload);
        }
    }
}

/// What was thrown may panic in its own drop. What that throws is leaked, or it could go on so for
/// ever.
#[cfg(all(feature = "std", not(loom)))]
fn dispose(payload: Payload) {
    let drop = std::panic::AssertUnwindSafe(|| drop(payload));
    if let Err(again) = std::panic::catch_unwind(drop) {
        mem::forget(again);
    }
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    fn throw(number: u32) {
        resume_unwind(Box::new(number));
    }

    #[test]
    fn the_first_goes_on_and_all_are_counted() {
        let mut panics = Panics::none();
        assert!(panics.catch(|| ()));
        assert!(!panics.catch(|| throw(1)));
        assert!(!panics.catch(|| throw(2)));
        assert!(!panics.catch(|| throw(3)));
        assert_eq!(panics.count(), 3);
        let gone_on = catch_unwind(AssertUnwindSafe(|| panics.resume())).unwrap_err();
        assert_eq!(gone_on.downcast_ref(), Some(&1_u32));
        Panics::none().resume();
    }

    #[test]
    fn payloads_that_panic_themselves_end_here() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                resume_unwind(Box::new(Bomb));
            }
        }
        let mut panics = Panics::none();
        for _ in 0..2 {
            assert!(!panics.catch(|| resume_unwind(Box::new(Bomb))));
        }
        drop(panics);
    }

    #[test]
    fn nothing_goes_on_while_the_thread_unwinds() {
        struct Unwinding;
        impl Drop for Unwinding {
            fn drop(&mut self) {
                let mut panics = Panics::none();
                panics.catch(|| throw(2));
                panics.resume();
            }
        }
        let outer = catch_unwind(|| {
            let _unwinding = Unwinding;
            throw(1);
        });
        assert_eq!(outer.unwrap_err().downcast_ref(), Some(&1_u32));
    }
}
