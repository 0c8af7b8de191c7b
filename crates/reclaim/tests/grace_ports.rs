//! What others check of grace periods and per-CPU reference counts, in their behaviour, on ours.
//!
//! | from | what it checks | here |
//! |---|---|---|
//! | crossbeam-epoch `pin_reentrant`, `pin_holds_advance` | sections nest; an open one holds reclaiming up | `sections_nest_and_hold_up` |
//! | crossbeam-epoch `incremental`, `count_drops`, `drop_array` | what was deferred is dropped, once, all of it | `all_is_dropped_once` |
//! | crossbeam-epoch `stress`, `buffering` | deferring from many threads at once | `deferred_by_many_threads` |
//! | folly `RcuTest` `Basic`, `SlowReader`, `ResetAtomicPtr` | a reader that lasts keeps its object, others do not matter | `sections_nest_and_hold_up`, `a_slow_reader_keeps_its_object` |
//! | folly `SynchronizeInCall` | callbacks may wait for grace periods | `callbacks_may_synchronize_and_queue` |
//! | folly `MoveReaderBetweenThreads`, `ForkTest` | (sections of `srcu` move: `srcu_api`; forks: `rcu_fork`) | |
//! | folly `Stress` | writers and readers; nothing old is seen | `nothing_old_is_seen` |
//! | liburcu, readers and writers | a reader never sees what was overwritten after a grace period | `nothing_old_is_seen` |
//! | liburcu, `call_rcu` | callbacks in order, each once; `rcu_barrier` | `callbacks_run_in_order_and_once` |
//! | liburcu, fork | (`rcu_fork`) | |
//! | liburcu, polled state | cookies elapse, in order, and stay elapsed | `cookies_elapse_in_order` |
//! | seize, reclaiming all | as crossbeam's | `all_is_dropped_once` |
//! | Linux, what `percpu-refcount.h` promises | get, put, kill, confirm, reinit, resurrect under load; release once | `percpu_ref_lives_and_dies_under_load` |
#![cfg(not(loom))]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "one promise covers the calls of a test body"
)]

use reclaim::percpu_ref::{Error, Options, PercpuRef};
use reclaim::rcu;
use reclaim::srcu::{Srcu, SrcuFast};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counted(drops: &Arc<AtomicUsize>) -> Box<Counted> {
    Box::new(Counted(Arc::clone(drops)))
}

/// The same for each kind of domain. `$reader` makes what `$lock` begins a section with.
macro_rules! grace_periods {
    ($name:ident, $Domain:ty, $new:expr, |$d:ident| $reader:expr, |$r:ident| $lock:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn sections_nest_and_hold_up() {
                let $d = &$new;
                let drops = Arc::default();
                let $r = $reader;
                let outer = $lock;
                let inner = $lock;
                $d.defer_drop(counted(&drops));
                let cookie = $d.start_poll();
                for _ in 0..100 {
                    $d.run_callbacks();
                }
                assert_eq!((drops.load(Ordering::SeqCst), $d.poll(cookie)), (0, false));
                drop(outer);
                assert!(!$d.poll(cookie), "the inner one is open");
                drop(inner);
                assert!($d.poll(cookie) && $d.poll(cookie));
                $d.barrier();
                assert_eq!(drops.load(Ordering::SeqCst), 1);
            }

            #[test]
            fn all_is_dropped_once() {
                let $d = $new;
                let drops = Arc::default();
                for i in 1..=1000 {
                    $d.defer_drop(counted(&drops));
                    if i % 100 == 0 {
                        $d.barrier();
                        assert_eq!(drops.load(Ordering::SeqCst), i);
                    }
                }
                // Also what is in one allocation, and what is left at the end.
                $d.defer_drop(Box::new((0..100).map(|_| counted(&drops)).collect::<Vec<_>>()));
                drop($d);
                assert_eq!(drops.load(Ordering::SeqCst), 1100);
            }

            #[test]
            fn deferred_by_many_threads() {
                let $d = &$new;
                let drops = Arc::default();
                thread::scope(|s| {
                    for _ in 0..8 {
                        s.spawn(|| {
                            let $r = $reader;
                            for _ in 0..500 {
                                let _section = $lock;
                                $d.defer_drop(counted(&drops));
                            }
                        });
                    }
                });
                $d.barrier();
                assert_eq!(drops.load(Ordering::SeqCst), 4000);
            }

            #[test]
            fn a_slow_reader_keeps_its_object() {
                let $d = &$new;
                let drops = Arc::default();
                let current = AtomicPtr::new(Box::into_raw(counted(&drops)));
                let (inside, go_on) = (Barrier::new(2), AtomicBool::new(false));
                thread::scope(|s| {
                    s.spawn(|| {
                        let $r = $reader;
                        let _section = $lock;
                        // SAFETY: replaced objects live until a grace period has passed.
                        let seen = unsafe { &*current.load(Ordering::Acquire) };
                        inside.wait();
                        while !go_on.load(Ordering::Acquire) {
                            assert_eq!(seen.0.load(Ordering::SeqCst), 0);
                            thread::yield_now();
                        }
                    });
                    inside.wait();
                    let old = current.swap(std::ptr::null_mut(), Ordering::AcqRel);
                    // SAFETY: from a box, unlinked.
                    $d.defer_drop(unsafe { Box::from_raw(old) });
                    for _ in 0..100 {
                        $d.run_callbacks();
                        thread::yield_now();
                    }
                    assert_eq!(drops.load(Ordering::SeqCst), 0);
                    go_on.store(true, Ordering::Release);
                    $d.barrier();
                    assert_eq!(drops.load(Ordering::SeqCst), 1);
                });
            }

            #[test]
            fn cookies_elapse_in_order() {
                let $d = &$new;
                let $r = $reader;
                let first = $d.get_state();
                let section = $lock;
                let second = $d.start_poll();
                assert!(!$d.poll(second));
                drop(section);
                assert!($d.poll(second), "a cookie taken later");
                assert!($d.poll(first), "covers one taken earlier");
                let third = $d.get_state();
                $d.synchronize();
                assert!([first, second, third].into_iter().all(|c| $d.poll(c)));
            }

            #[test]
            fn nothing_old_is_seen() {
                const STAGES: usize = 3;
                let $d = &$new;
                // A number that each replaced object is overwritten with after a grace period.
                let objects: [_; STAGES] = std::array::from_fn(|_| AtomicUsize::new(0));
                objects[0].store(7, Ordering::Relaxed);
                let current = AtomicUsize::new(0);
                let done = AtomicBool::new(false);
                thread::scope(|s| {
                    for _ in 0..3 {
                        s.spawn(|| {
                            let $r = $reader;
                            while !done.load(Ordering::Relaxed) {
                                let _section = $lock;
                                let seen = &objects[current.load(Ordering::Acquire)];
                                assert_eq!(seen.load(Ordering::Relaxed), 7);
                                assert_eq!(seen.load(Ordering::Relaxed), 7);
                            }
                        });
                    }
                    for i in 0..300 {
                        let next = (i + 1) % STAGES;
                        objects[next].store(7, Ordering::Relaxed);
                        let old = current.swap(next, Ordering::AcqRel);
                        $d.synchronize();
                        objects[old].store(0, Ordering::Relaxed);
                    }
                    done.store(true, Ordering::Relaxed);
                });
            }

            #[repr(C)]
            struct Numbered {
                head: rcu::Head,
                number: usize,
                seen: &'static Mutex<Vec<usize>>,
            }

            /// # Safety
            /// The head of a boxed `Numbered`.
            unsafe fn note(head: NonNull<rcu::Head>) {
                // SAFETY: the caller's promise.
                let this = unsafe { Box::from_raw(head.cast::<Numbered>().as_ptr()) };
                this.seen.lock().unwrap().push(this.number);
            }

            #[test]
            fn callbacks_run_in_order_and_once() {
                let $d = &$new;
                let seen: &'static Mutex<Vec<usize>> = Box::leak(Box::default());
                for number in 0..1000 {
                    let this = Box::new(Numbered { head: rcu::Head::new(), number, seen });
                    // SAFETY: from a box, in no queue.
                    unsafe { $d.call(NonNull::from(Box::leak(this)).cast(), note) };
                    if number % 77 == 0 {
                        $d.run_callbacks();
                    }
                }
                $d.barrier();
                assert_eq!(*seen.lock().unwrap(), (0..1000).collect::<Vec<_>>());
            }

            #[test]
            fn callbacks_may_synchronize_and_queue() {
                struct Queues(u32, &'static $Domain, Arc<AtomicUsize>);
                impl Drop for Queues {
                    fn drop(&mut self) {
                        self.1.synchronize();
                        self.2.fetch_add(1, Ordering::SeqCst);
                        if self.0 > 0 {
                            self.1.defer_drop(Box::new(Queues(
                                self.0 - 1,
                                self.1,
                                Arc::clone(&self.2),
                            )));
                        }
                    }
                }
                let domain: &'static $Domain = Box::leak(Box::new($new));
                let count = Arc::<AtomicUsize>::default();
                domain.defer_drop(Box::new(Queues(9, domain, Arc::clone(&count))));
                domain.drain();
                assert_eq!((count.load(Ordering::SeqCst), domain.has_callbacks()), (10, false));
            }
        }
    };
}

grace_periods!(rcu_domain, rcu::Domain, rcu::Domain::new(), |d| d.reader().unwrap(), |r| r.lock());
grace_periods!(srcu, Srcu, Srcu::new(), |d| d, |r| r.read_lock());
grace_periods!(srcu_fast, SrcuFast, SrcuFast::new(), |d| d, |r| r.read_lock());

#[test]
fn percpu_ref_lives_and_dies_under_load() {
    let released = AtomicUsize::new(0);
    let options = Options { allow_reinit: true, ..Options::default() };
    let refs = PercpuRef::with_options(options, || {
        released.fetch_add(1, Ordering::SeqCst);
    });
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        for t in 0..4_u32 {
            let (refs, done) = (&refs, &done);
            s.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    if refs.try_get_live() {
                        // More than one, given back in other portions.
                        refs.get_many(40 + t).unwrap();
                        refs.put_many(20).unwrap();
                        refs.put_many(21 + t).unwrap();
                    }
                }
            });
        }
        for life in 1..=50 {
            let confirmed = AtomicBool::new(false);
            refs.kill_and_confirm(|| confirmed.store(true, Ordering::SeqCst)).unwrap();
            assert!(confirmed.load(Ordering::SeqCst) && !refs.try_get_live());
            assert_eq!(refs.kill(), Err(Error::AlreadyDead));
            while !refs.is_zero() {
                thread::yield_now();
            }
            // The last put is done, and its release follows in that thread.
            while released.load(Ordering::SeqCst) < life {
                thread::yield_now();
            }
            refs.reinit().unwrap();
            refs.switch_to_atomic().unwrap();
            assert!(!refs.is_zero());
            refs.switch_to_percpu().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!((refs.kill(), released.load(Ordering::SeqCst)), (Ok(true), 51));
}
