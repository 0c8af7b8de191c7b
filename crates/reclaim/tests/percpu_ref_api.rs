//! The life cycle of a `PercpuRef`, and every wrong use.
#![cfg(not(loom))]

use reclaim::percpu_ref::{Error, Options, PercpuRef};
use reclaim::rcu;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

fn counting(released: &AtomicUsize) -> impl Fn() + '_ {
    || {
        released.fetch_add(1, Ordering::Relaxed);
    }
}

const REINIT: Options = Options { atomic: false, dead: false, allow_reinit: true };

#[test]
fn begins_live_and_per_cpu_with_one_reference() {
    let released = AtomicUsize::new(0);
    let refs = PercpuRef::new(counting(&released));
    assert!(refs.is_percpu() && !refs.is_dying() && !refs.is_zero());
    assert_eq!(refs.kill(), Ok(true));
    assert!(!refs.is_percpu() && refs.is_dying() && refs.is_zero());
    assert_eq!(released.load(Ordering::Relaxed), 1);
}

#[test]
fn options_begin_where_they_say() {
    let atomic = PercpuRef::with_options(Options { atomic: true, ..Options::default() }, || ());
    assert!(!atomic.is_percpu() && !atomic.is_dying() && !atomic.is_zero());
    let dead = PercpuRef::with_options(Options { dead: true, ..Options::default() }, || ());
    assert!(!dead.is_percpu() && dead.is_dying() && dead.is_zero());
    assert!(!dead.try_get() && !dead.try_get_live());
    dead.reinit().unwrap();
    assert!(dead.is_percpu() && !dead.is_dying());
    assert!(dead.try_get_live());
}

#[test]
fn releases_once_with_the_last_put() {
    let released = AtomicUsize::new(0);
    let refs = PercpuRef::new(counting(&released));
    refs.get_many(10).unwrap();
    assert!(refs.try_get_many(5));
    assert_eq!(refs.kill(), Ok(false));
    assert_eq!(refs.put_many(14), Ok(false));
    refs.get().unwrap();
    assert_eq!(refs.put(), Ok(false));
    assert_eq!(released.load(Ordering::Relaxed), 0);
    assert_eq!(refs.put(), Ok(true));
    assert_eq!(released.load(Ordering::Relaxed), 1);
}

#[test]
fn kill_is_exactly_once_also_when_raced() {
    for _ in 0..50 {
        let released = AtomicUsize::new(0);
        let refs = PercpuRef::new(counting(&released));
        let killed = AtomicUsize::new(0);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| match refs.kill() {
                    Ok(last) => {
                        assert!(last);
                        killed.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(e) => assert_eq!(e, Error::AlreadyDead),
                });
            }
        });
        assert_eq!(killed.load(Ordering::Relaxed), 1);
        assert_eq!(released.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn after_the_confirmation_no_try_get_live_succeeds() {
    for _ in 0..30 {
        let refs = PercpuRef::new(|| ());
        let confirmed = AtomicBool::new(false);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    loop {
                        let before = confirmed.load(Ordering::SeqCst);
                        if !refs.try_get_live() {
                            break;
                        }
                        assert!(!before, "taken after the confirmation");
                        refs.put().unwrap();
                    }
                });
            }
            thread::yield_now();
            refs.kill_and_confirm(|| confirmed.store(true, Ordering::SeqCst)).unwrap();
        });
        assert!(refs.is_zero());
    }
}

#[test]
fn try_get_works_on_the_dying_and_not_on_the_dead() {
    let refs = PercpuRef::new(|| ());
    refs.get().unwrap();
    refs.kill().unwrap();
    assert!(!refs.try_get_live());
    assert!(refs.try_get());
    refs.put_many(2).unwrap();
    assert!(!refs.try_get());
    assert_eq!(refs.get(), Err(Error::Zero));
    assert!(refs.is_zero());
}

#[test]
fn is_zero_is_false_in_per_cpu_mode_whatever_the_sum() {
    let refs = PercpuRef::new(|| ());
    refs.put().unwrap();
    assert!(!refs.is_zero());
    refs.get().unwrap();
    refs.kill().unwrap();
    assert!(refs.is_zero());
}

#[test]
fn the_sum_is_taken_over_cpus_and_threads() {
    let released = AtomicUsize::new(0);
    let refs = PercpuRef::new(counting(&released));
    thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| (0..1000).for_each(|_| refs.get().unwrap()));
        }
    });
    // Put where they were not taken: single cells become negative and wrap.
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| (0..2000).for_each(|_| assert_eq!(refs.put(), Ok(false))));
        }
    });
    assert_eq!(refs.kill(), Ok(true));
    assert_eq!(released.load(Ordering::Relaxed), 1);
}

#[test]
fn modes_may_change_under_load() {
    let released = AtomicUsize::new(0);
    let refs = PercpuRef::with_options(REINIT, counting(&released));
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for _ in 0..6 {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    refs.get().unwrap();
                    refs.get_many(3).unwrap();
                    assert_eq!(refs.put_many(4), Ok(false));
                }
            });
        }
        for _ in 0..100 {
            refs.switch_to_atomic().unwrap();
            assert!(!refs.is_percpu());
            refs.switch_to_percpu().unwrap();
            assert!(refs.is_percpu());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(released.load(Ordering::Relaxed), 0);
    assert_eq!(refs.kill(), Ok(true));
}

#[test]
fn lives_many_times() {
    let released = AtomicUsize::new(0);
    let refs = PercpuRef::with_options(REINIT, counting(&released));
    for life in 1..=20 {
        refs.get().unwrap();
        assert_eq!(refs.kill(), Ok(false));
        assert_eq!(refs.reinit(), Err(Error::NotZero));
        assert_eq!(refs.put(), Ok(true));
        assert_eq!(refs.resurrect(), Err(Error::Zero));
        assert_eq!(refs.reinit(), Ok(()));
        assert!(refs.is_percpu());
        assert_eq!(released.load(Ordering::Relaxed), life);
    }
}

#[test]
fn resurrect_takes_a_kill_back() {
    let released = AtomicUsize::new(0);
    let refs = PercpuRef::with_options(REINIT, counting(&released));
    refs.get().unwrap();
    refs.kill().unwrap();
    assert!(!refs.try_get_live());
    refs.resurrect().unwrap();
    assert!(refs.try_get_live());
    assert!(refs.is_percpu());
    refs.put_many(2).unwrap();
    assert_eq!(released.load(Ordering::Relaxed), 0);
    assert_eq!(refs.kill(), Ok(true));
}

#[test]
fn atomic_mode_lasts_until_it_is_switched_back() {
    let refs = PercpuRef::with_options(REINIT, || ());
    refs.switch_to_atomic().unwrap();
    refs.switch_to_atomic().unwrap();
    refs.kill().unwrap();
    refs.reinit().unwrap();
    assert!(!refs.is_percpu(), "kept over a life");
    refs.kill().unwrap();
    refs.switch_to_percpu().unwrap();
    assert!(!refs.is_percpu(), "the dead stay atomic");
    refs.reinit().unwrap();
    assert!(refs.is_percpu());
}

#[test]
fn atomic_mode_releases_without_a_kill() {
    let released = AtomicUsize::new(0);
    let refs = PercpuRef::with_options(
        Options { atomic: true, ..Options::default() },
        counting(&released),
    );
    assert_eq!(refs.put(), Ok(true));
    assert_eq!(released.load(Ordering::Relaxed), 1);
    assert_eq!(refs.switch_to_percpu(), Err(Error::Zero));
}

#[test]
fn every_wrong_use_is_an_error() {
    let refs = PercpuRef::with_options(REINIT, || ());
    assert_eq!(refs.reinit(), Err(Error::NotDead));
    assert_eq!(refs.resurrect(), Err(Error::NotDead));
    refs.get().unwrap();
    refs.kill().unwrap();
    assert_eq!(refs.kill(), Err(Error::AlreadyDead));
    assert_eq!(refs.put_many(2), Err(Error::Underflow));
    assert_eq!(refs.put_many(1), Ok(true));
    assert_eq!(refs.put(), Err(Error::Underflow));
    assert_eq!(refs.get(), Err(Error::Zero));
    assert_eq!(refs.resurrect(), Err(Error::Zero));
    refs.reinit().unwrap();

    let once = PercpuRef::new(|| ());
    once.get().unwrap();
    once.kill().unwrap();
    assert_eq!(once.resurrect(), Err(Error::NotReinitable));
    once.put().unwrap();
    assert_eq!(once.reinit(), Err(Error::NotReinitable));
}

#[test]
fn a_put_too_many_in_per_cpu_mode_is_found_by_the_switch_and_never_released() {
    let released = AtomicUsize::new(0);
    let refs = PercpuRef::with_options(REINIT, counting(&released));
    refs.put_many(2).unwrap();
    assert_eq!(refs.kill(), Err(Error::Unbalanced));
    assert!(!refs.is_zero());
    assert!(!refs.try_get_live());
    assert_eq!(refs.kill(), Err(Error::AlreadyDead));
    assert_eq!(refs.resurrect(), Err(Error::Unbalanced));
    assert_eq!(refs.put(), Ok(false));
    assert_eq!(released.load(Ordering::Relaxed), 0);
}

#[test]
fn putting_nothing_releases_nothing() {
    let released = AtomicUsize::new(0);
    let refs = PercpuRef::new(counting(&released));
    refs.kill().unwrap();
    assert_eq!(refs.put_many(0), Ok(false));
    assert_eq!(released.load(Ordering::Relaxed), 1);
}

#[test]
fn killing_inside_an_rcu_section_ends_one_way_or_the_other() {
    let refs = PercpuRef::new(|| ());
    let section = rcu::read_lock();
    match refs.kill() {
        Ok(last) => assert!(last),
        Err(e) => {
            assert_eq!(e, Error::InsideRcuSection, "where there are no restartable sequences");
            drop(section);
            assert_eq!(refs.kill(), Ok(true));
        }
    }
}

/// What is taken in the cells may be put into the shared word, and the other way round.
#[test]
fn small_and_large_steps_balance() {
    let released = AtomicUsize::new(0);
    let refs = PercpuRef::new(counting(&released));
    for n in [1, 2, 31, 32, 33, 1000] {
        (0..n).for_each(|_| refs.get().unwrap());
        assert_eq!(refs.put_many(n), Ok(false));
        refs.get_many(n).unwrap();
        (0..n).for_each(|_| assert_eq!(refs.put(), Ok(false)));
    }
    assert_eq!((refs.kill(), released.load(Ordering::Relaxed)), (Ok(true), 1));
}
