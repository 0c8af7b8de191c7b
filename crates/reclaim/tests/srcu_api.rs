//! What both flavours of `srcu` promise: one suite, run over each.
#![cfg(not(loom))]

use reclaim::srcu::{Cookie, Fast, Flavour, Normal, SrcuDomain, SrcuFast, Stalled};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

macro_rules! over_both_flavours {
    ($($name:ident),* $(,)?) => {
        mod normal {
            $(#[test] fn $name() { super::$name::<super::Normal>(); })*
        }
        mod fast {
            $(#[test] fn $name() { super::$name::<super::Fast>(); })*
        }
    };
}

over_both_flavours! {
    poll_is_false_while_a_section_is_open_and_true_after_it,
    get_state_alone_is_enough_for_poll_to_get_there,
    sections_nest_and_end_in_any_order,
    a_section_may_end_on_another_thread,
    a_reader_may_sleep,
    new_readers_do_not_hold_up_a_grace_period,
    domains_do_not_hold_each_other_up,
    a_stall_is_reported,
    cookies_survive_being_numbers_and_the_wrap,
    callbacks_run_after_the_grace_period_and_once,
    a_domain_runs_what_is_left_when_it_is_dropped,
    a_section_outlives_its_thread,
}

fn poll_is_false_while_a_section_is_open_and_true_after_it<K: Flavour>() {
    let domain = SrcuDomain::<K>::new();
    let section = domain.read_lock();
    let cookie = domain.start_poll();
    for _ in 0..100 {
        assert!(!domain.poll(cookie));
    }
    drop(section);
    assert!(domain.poll(cookie));
    assert!(domain.poll(cookie), "stays true");
}

fn get_state_alone_is_enough_for_poll_to_get_there<K: Flavour>() {
    let domain = SrcuDomain::<K>::new();
    assert!(domain.poll(domain.get_state()));
}

fn sections_nest_and_end_in_any_order<K: Flavour>() {
    let domain = SrcuDomain::<K>::new();
    let outer = domain.read_lock();
    let raw = domain.read_lock_raw();
    let inner = domain.read_lock();
    let cookie = domain.start_poll();
    drop(outer);
    assert!(!domain.poll(cookie));
    drop(inner);
    assert!(!domain.poll(cookie));
    // SAFETY: begun above, nothing was read under it.
    unsafe { domain.read_unlock_raw(raw) };
    assert!(domain.poll(cookie));
}

fn a_section_may_end_on_another_thread<K: Flavour>() {
    let domain = SrcuDomain::<K>::new();
    for _ in 0..20 {
        let section = domain.read_lock();
        let cookie = domain.start_poll();
        assert!(!domain.poll(cookie));
        thread::scope(|s| s.spawn(move || drop(section)).join().unwrap());
        assert!(domain.poll(cookie));
    }
}

fn a_reader_may_sleep<K: Flavour>() {
    let domain = SrcuDomain::<K>::new();
    let left = AtomicUsize::new(0);
    thread::scope(|s| {
        let (entered, wait) = std::sync::mpsc::channel();
        let (domain, left) = (&domain, &left);
        s.spawn(move || {
            let _section = domain.read_lock();
            entered.send(()).unwrap();
            thread::sleep(Duration::from_millis(30));
            left.store(1, Ordering::Relaxed);
        });
        wait.recv().unwrap();
        domain.synchronize();
        assert_eq!(left.load(Ordering::Relaxed), 1);
    });
}

fn new_readers_do_not_hold_up_a_grace_period<K: Flavour>() {
    let domain = SrcuDomain::<K>::new();
    // At every moment at least one section is open, none of them for long.
    let mut open = domain.read_lock();
    let cookie = domain.start_poll();
    let mut polls = 0;
    while !domain.poll(cookie) {
        let next = domain.read_lock();
        drop(std::mem::replace(&mut open, next));
        polls += 1;
        assert!(polls < 4, "one flip is enough");
    }
}

fn domains_do_not_hold_each_other_up<K: Flavour>() {
    let (a, b) = (SrcuDomain::<K>::new(), SrcuDomain::<K>::new());
    let _section = a.read_lock();
    b.synchronize();
    assert!(!a.poll(a.start_poll()));
}

fn a_stall_is_reported<K: Flavour>() {
    let domain = SrcuDomain::<K>::new();
    let section = domain.read_lock();
    assert_eq!(domain.synchronize_for(Duration::from_millis(5)), Err(Stalled));
    drop(section);
    assert_eq!(domain.synchronize_for(Duration::from_millis(1000)), Ok(()));
}

fn cookies_survive_being_numbers_and_the_wrap<K: Flavour>() {
    // A new domain is 256 periods away from the wrap of its numbers.
    let domain = SrcuDomain::<K>::new();
    let mut past = Vec::new();
    for _ in 0..1000 {
        let section = domain.read_lock();
        let cookie = Cookie::from_bits(domain.start_poll().to_bits());
        assert!(!domain.poll(cookie));
        drop(section);
        assert!(domain.poll(cookie));
        past.push(cookie);
        assert!(past.iter().rev().step_by(17).all(|&c| domain.poll(c)));
    }
}

struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn callbacks_run_after_the_grace_period_and_once<K: Flavour>() {
    let domain = SrcuDomain::<K>::new();
    let dropped = Arc::new(AtomicUsize::new(0));
    let section = domain.read_lock();
    for _ in 0..200 {
        domain.defer_drop(Box::new(Count(Arc::clone(&dropped))));
    }
    assert_eq!(domain.run_callbacks(), 0);
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    drop(section);
    domain.barrier();
    assert_eq!(dropped.load(Ordering::Relaxed), 200);
    assert!(!domain.has_callbacks());
}

fn a_domain_runs_what_is_left_when_it_is_dropped<K: Flavour>() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let domain = SrcuDomain::<K>::new();
    domain.defer_drop(Box::new(Count(Arc::clone(&dropped))));
    drop(domain);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

fn a_section_outlives_its_thread<K: Flavour>() {
    let domain = SrcuDomain::<K>::new();
    let section = thread::scope(|s| s.spawn(|| domain.read_lock()).join().unwrap());
    let cookie = domain.start_poll();
    assert!(!domain.poll(cookie), "the section is open though its thread is gone");
    drop(section);
    assert!(domain.poll(cookie));
}

#[test]
fn more_fast_domains_than_slots() {
    let domains: Vec<SrcuFast> = (0..40).map(|_| SrcuFast::new()).collect();
    for domain in &domains {
        let section = domain.read_lock();
        let cookie = domain.start_poll();
        assert!(!domain.poll(cookie));
        thread::scope(|s| s.spawn(move || drop(section)).join().unwrap());
        assert!(domain.poll(cookie));
    }
}

#[test]
fn a_slot_is_used_again_but_not_while_a_leaked_section_is_open_on_it() {
    for leak in [false, true] {
        for _ in 0..30 {
            let domain = SrcuFast::new();
            for _ in 0..3 {
                let section = domain.read_lock();
                let cookie = domain.start_poll();
                assert!(!domain.poll(cookie));
                drop(section);
                assert!(domain.poll(cookie), "a predecessor's sections are not this domain's");
            }
            if leak {
                std::mem::forget(domain.read_lock());
            }
        }
    }
}

#[test]
fn a_busy_domain_gets_through_its_grace_periods() {
    let domain = SrcuFast::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    drop(domain.read_lock());
                }
            });
        }
        // However long it takes: readers come and go all the time, and it must not wait for the new
        // ones.
        (0..5).for_each(|_| domain.synchronize());
        stop.store(true, Ordering::Relaxed);
    });
}

/// The flavour that the documentation recommends needs no annotation.
#[test]
fn a_new_domain_is_a_normal_one() {
    let domain = reclaim::srcu::Srcu::new();
    let _: &SrcuDomain<Normal> = &domain;
    drop(domain.read_lock());
    domain.synchronize();
}

#[test]
fn drain_goes_on_until_callbacks_queue_nothing() {
    struct Chain(u32, std::sync::Arc<(SrcuDomain<Normal>, std::sync::atomic::AtomicU32)>);
    impl Drop for Chain {
        fn drop(&mut self) {
            self.1.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if self.0 > 0 {
                self.1.0.defer_drop(Box::new(Chain(self.0 - 1, std::sync::Arc::clone(&self.1))));
            }
        }
    }
    let shared = std::sync::Arc::new((SrcuDomain::new(), std::sync::atomic::AtomicU32::new(0)));
    shared.0.defer_drop(Box::new(Chain(49, std::sync::Arc::clone(&shared))));
    shared.0.drain();
    assert_eq!(shared.1.load(std::sync::atomic::Ordering::SeqCst), 50);
    assert!(!shared.0.has_callbacks());
}
