//! No data race in what readers, writers and reclaimers do.
//!
//! A short stress of each primitive over plain memory, for ThreadSanitizer (`scripts/test tsan`):
//! it is right in any build, and there it must not give a single report. A `main` of its own: the
//! test harness hands results over in ways that ThreadSanitizer cannot see.
#![cfg_attr(loom, allow(unused, reason = "models are tests of their own"))]
#![allow(clippy::multiple_unsafe_ops_per_block, reason = "one promise covers a test's round")]

fn main() {
    #[cfg(not(loom))]
    races::all();
}

#[cfg(not(loom))]
mod racing;
#[cfg(not(loom))]
#[path = "racing/value.rs"]
mod value;

#[cfg(not(loom))]
mod races {
    use super::racing::race;
    use super::value::Value;
    use reclaim::cached::{self, CachedArc};
    use reclaim::hazptr::{self, Detached, Domain, HazardPointer, Shared};
    use reclaim::percpu_ref::{Options, PercpuRef};
    use reclaim::rcu;
    use reclaim::srcu::{Fast, Flavour, Normal, SrcuDomain};
    use std::cell::UnsafeCell;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
    use std::thread;

    pub(super) fn all() {
        hazptr_shared();
        hazptr_handed_over();
        rcu_callbacks();
        srcu::<Normal>("srcu");
        srcu::<Fast>("srcu, fast");
        cached_references();
        percpu_ref_lives();
        rcu::barrier();
        Domain::global().barrier();
        cached::flush_all();
    }

    fn hazptr_shared() {
        let shared = Shared::new(Value::new(0));
        race("hazptr, shared", 4, 16_000, |thread, round| {
            if thread == 0 || round % 64 == 0 {
                shared.store(Value::new(round));
                return;
            }
            hazptr::scope(|hazard| shared.load(hazard).expect("never empty").check());
            let mut pointer = HazardPointer::new();
            shared.load(&mut pointer).expect("never empty").check();
            if round % 7 == 0 {
                let next = |old: Option<&Value>| Some(Value::new(old.expect("never empty").number));
                shared.update(&mut pointer, next);
            }
        });
    }

    /// A domain of its own; protections go from thread to thread.
    fn hazptr_handed_over() {
        let source = AtomicPtr::new(boxed(1));
        let mailbox = Locked::new(Vec::<Detached<Value>>::new());
        let domain = Domain::new();
        race("hazptr, handed over", 4, 16_000, |thread, round| match thread {
            0 => {
                let old = source.swap(boxed(round), Ordering::AcqRel);
                // SAFETY: unlinked by this thread, made by Box.
                unsafe { domain.retire_box(old) };
            }
            1 => {
                // SAFETY: whatever leaves the source is retired to a domain.
                if let Ok(protected) = unsafe { HazardPointer::new().protect_owned(&source) } {
                    protected.check();
                    mailbox.with(|mailbox| {
                        if mailbox.len() < 64 {
                            mailbox.push(protected.detach());
                        }
                    });
                }
            }
            2 => {
                if let Some(detached) = mailbox.with(Vec::pop) {
                    let protected = detached.attach();
                    protected.check();
                    let mut pointer = protected.into_holder();
                    // SAFETY: as above.
                    unsafe { pointer.protect(&source) }.expect("never empty").check();
                }
            }
            _ => hazptr::scope_array(|[first, second]| {
                // SAFETY: as above.
                unsafe { first.protect_wait_free(&source) }.expect("never empty").check();
                // SAFETY: as above.
                unsafe { second.protect(&source) }.expect("never empty").check();
            }),
        });
        mailbox.with(Vec::clear);
        domain.barrier();
        // SAFETY: the last one, and every thread is through.
        drop(unsafe { Box::from_raw(source.load(Ordering::Relaxed)) });
    }

    fn rcu_callbacks() {
        let source = AtomicPtr::new(boxed(1));
        race("rcu", 4, 32_000, |thread, round| {
            if thread == 0 || round % 256 == 0 {
                let old = source.swap(boxed(round), Ordering::AcqRel);
                // SAFETY: unlinked by this thread, made by Box.
                let old = unsafe { Box::from_raw(old) };
                if round % 8 == 0 {
                    rcu::synchronize();
                    drop(old);
                } else {
                    rcu::defer_drop(old);
                }
                if round % 64 == 0 {
                    rcu::run_callbacks();
                }
            } else {
                let _section = rcu::read_lock();
                // SAFETY: what the source holds is dropped a grace period after it left.
                unsafe { &*source.load(Ordering::Acquire) }.check();
            }
        });
        rcu::barrier();
        // SAFETY: the last one, and every thread is through.
        drop(unsafe { Box::from_raw(source.load(Ordering::Relaxed)) });
    }

    fn srcu<K: Flavour + 'static>(name: &str) {
        let domain = SrcuDomain::<K>::new();
        let source = AtomicPtr::new(boxed(1));
        race(name, 4, 16_000, |thread, round| {
            if thread == 0 || round % 256 == 0 {
                let old = source.swap(boxed(round), Ordering::AcqRel);
                // SAFETY: unlinked by this thread, made by Box.
                let old = unsafe { Box::from_raw(old) };
                if round % 8 == 0 {
                    domain.synchronize();
                    drop(old);
                } else {
                    domain.defer_drop(old);
                }
            } else {
                let _section = domain.read_lock();
                // SAFETY: what the source holds is dropped a grace period after it left.
                unsafe { &*source.load(Ordering::Acquire) }.check();
            }
        });
        domain.barrier();
        // SAFETY: the last one, and every thread is through.
        drop(unsafe { Box::from_raw(source.load(Ordering::Relaxed)) });
    }

    fn cached_references() {
        let cell = Locked::new(CachedArc::new(Value::new(1)));
        race("cached", 4, 16_000, |thread, round| {
            let mine = cell.with(|current| current.clone());
            let copies: Vec<_> = (0..3).map(|_| mine.clone()).collect();
            copies.iter().for_each(|copy| copy.check());
            drop(copies);
            if thread == 0 && round % 8 == 0 {
                let new = CachedArc::new(Value::new(round));
                let old = cell.with(|current| std::mem::replace(current, new));
                drop(old);
            }
            if round % 97 == 0 {
                cached::flush_all();
            }
            if round % 31 == 0 {
                CachedArc::request_flush(&mine);
            }
            if round % 43 == 0 {
                CachedArc::drop_uncached(mine);
            }
        });
    }

    /// What a reference keeps is plain memory, written between two lives.
    fn percpu_ref_lives() {
        struct Plain(UnsafeCell<Value>);
        // SAFETY: that is what the test is about: written only when there are no references.
        unsafe impl Sync for Plain {}
        let kept = Plain(UnsafeCell::new(Value::new(0)));
        let kept = &kept;
        let released = AtomicU64::new(0);
        let options = Options { allow_reinit: true, ..Options::default() };
        let refs = PercpuRef::with_options(options, || {
            released.fetch_add(1, Ordering::Release);
        });
        race("percpu_ref", 4, 32_000, |thread, round| {
            if thread == 0 && round % 64 == 0 {
                let before = released.load(Ordering::Acquire);
                refs.kill().expect("one thread kills");
                while released.load(Ordering::Acquire) == before {
                    thread::yield_now();
                }
                // SAFETY: the release callback has run: nobody has a reference, nor gets one.
                unsafe { *kept.0.get() = Value::new(round) };
                while !refs.is_zero() {
                    thread::yield_now();
                }
                refs.reinit().expect("dead, without references");
            } else if refs.try_get_live() {
                // SAFETY: a reference is held.
                unsafe { &*kept.0.get() }.check();
                refs.put().expect("held");
            }
        });
    }

    fn boxed(number: u64) -> *mut Value {
        Box::into_raw(Box::new(Value::new(number)))
    }

    /// A lock that ThreadSanitizer sees, for std's is not instrumented.
    struct Locked<T> {
        taken: AtomicBool,
        value: UnsafeCell<T>,
    }

    // SAFETY: one thread at a time has the value; see `with`.
    unsafe impl<T: Send> Sync for Locked<T> {}

    impl<T> Locked<T> {
        fn new(value: T) -> Self {
            Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
        }

        fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
            // Acquire pairs with the Release below.
            while self.taken.swap(true, Ordering::Acquire) {
                thread::yield_now();
            }
            // SAFETY: this thread has taken it.
            let result = f(unsafe { &mut *self.value.get() });
            self.taken.store(false, Ordering::Release);
            result
        }
    }
}
