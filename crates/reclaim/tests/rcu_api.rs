//! What the functions of `rcu` promise, one thread or two at a time.
#![cfg(not(loom))]

use reclaim::rcu::{self, Cookie, Domain, Error, Head};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

#[test]
fn sections_nest_and_end_in_any_order() {
    thread::spawn(|| {
        assert!(!rcu::is_inside());
        let a = rcu::read_lock();
        let b = rcu::read_lock();
        let c = rcu::read_lock();
        drop(a);
        drop(c);
        assert!(rcu::is_inside());
        drop(b);
        assert!(!rcu::is_inside());
        rcu::read_lock_raw();
        assert!(rcu::is_inside());
        // SAFETY: the section was begun above and nothing was read under it.
        unsafe { rcu::read_unlock_raw() };
        assert!(!rcu::is_inside());
    })
    .join()
    .unwrap();
}

#[test]
fn a_leak_of_guards_is_caught_before_it_lets_a_writer_through() {
    let domain = Domain::new();
    let reader = domain.reader().unwrap();
    for _ in 0..0xffff {
        std::mem::forget(reader.lock());
    }
    let one_more =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| std::mem::forget(reader.lock())));
    assert!(one_more.is_err());
    assert!(reader.is_inside());
    assert_eq!(domain.try_synchronize(), Err(Error::InsideSection));
}

#[test]
fn poll_is_false_while_a_section_is_open_and_true_after_it() {
    let domain = Domain::new();
    let reader = domain.reader().unwrap();
    let guard = reader.lock();
    let cookie = domain.start_poll();
    for _ in 0..100 {
        assert!(!domain.poll(cookie));
    }
    drop(guard);
    assert!(domain.poll(cookie));
    assert!(domain.poll(cookie), "stays true");
}

#[test]
fn get_state_alone_is_enough_for_poll_to_get_there() {
    let domain = Domain::new();
    assert!(domain.poll(domain.get_state()));
}

#[test]
fn poll_needs_no_other_thread_and_few_calls() {
    let domain = Domain::new();
    let reader = domain.reader().unwrap();
    // The section's period is in progress when the cookie is taken, so that the cookie needs a
    // second one.
    let guard = reader.lock();
    let first = domain.start_poll();
    assert!(!domain.poll(first));
    let second = domain.start_poll();
    drop(guard);
    assert!(domain.poll(second), "one call drives both periods");
    assert!(domain.poll(first));
}

#[test]
fn cookies_survive_being_numbers_and_the_wrap() {
    // A new domain is 256 periods away from the wrap of its numbers.
    let domain = Domain::new();
    let reader = domain.reader().unwrap();
    let mut past = Vec::new();
    for _ in 0..1000 {
        let guard = reader.lock();
        let cookie = Cookie::from_bits(domain.start_poll().to_bits());
        assert!(!domain.poll(cookie));
        drop(guard);
        assert!(domain.poll(cookie));
        past.push(cookie);
        assert!(past.iter().all(|&c| domain.poll(c)));
    }
}

#[test]
fn domains_do_not_hold_each_other_up() {
    let (a, b) = (Domain::new(), Domain::new());
    let reader = a.reader().unwrap();
    let _open = reader.lock();
    b.synchronize();
    assert!(!a.poll(a.start_poll()));
}

#[test]
fn waiting_for_oneself_is_an_error_or_a_panic_and_not_a_deadlock() {
    static DOMAIN: Domain = Domain::new();
    let domain = &DOMAIN;
    let reader = domain.reader().unwrap();
    let open = reader.lock();
    assert_eq!(domain.try_synchronize(), Err(Error::InsideSection));
    assert!(std::panic::catch_unwind(|| domain.synchronize()).is_err());
    assert!(std::panic::catch_unwind(|| domain.barrier()).is_err());
    drop(open);
    assert_eq!(domain.try_synchronize(), Ok(()));

    thread::spawn(|| {
        let _section = rcu::read_lock();
        assert_eq!(rcu::try_synchronize(), Err(Error::InsideSection));
    })
    .join()
    .unwrap();
}

#[test]
fn another_threads_section_is_no_deadlock() {
    let domain = Arc::new(Domain::new());
    let (entered, wait_entered) = mpsc::channel();
    let (leave, wait_leave) = mpsc::channel::<()>();
    let theirs = {
        let domain = Arc::clone(&domain);
        thread::spawn(move || {
            let reader = domain.reader().unwrap();
            let _section = reader.lock();
            entered.send(()).unwrap();
            wait_leave.recv().unwrap();
        })
    };
    wait_entered.recv().unwrap();
    let waiter = {
        let domain = Arc::clone(&domain);
        thread::spawn(move || domain.try_synchronize())
    };
    thread::sleep(std::time::Duration::from_millis(20));
    assert!(!waiter.is_finished());
    leave.send(()).unwrap();
    theirs.join().unwrap();
    assert_eq!(waiter.join().unwrap(), Ok(()));
}

#[repr(C)]
struct Counted {
    head: Head,
    number: usize,
    log: Arc<std::sync::Mutex<Vec<usize>>>,
}

unsafe fn log_and_free(head: NonNull<Head>) {
    // SAFETY: the head is the first field of a boxed `Counted`, which this callback owns.
    let this = unsafe { Box::from_raw(head.cast::<Counted>().as_ptr()) };
    this.log.lock().unwrap().push(this.number);
}

fn queue(domain: &Domain, number: usize, log: &Arc<std::sync::Mutex<Vec<usize>>>) {
    let this = Box::into_raw(Box::new(Counted { head: Head::new(), number, log: Arc::clone(log) }));
    // SAFETY: new, valid until the callback frees it.
    unsafe { domain.call(NonNull::new(this).unwrap().cast(), log_and_free) };
}

#[test]
fn callbacks_run_in_order_after_the_grace_period_and_once() {
    let domain = Domain::new();
    let log = Arc::default();
    let reader = domain.reader().unwrap();
    let open = reader.lock();
    for i in 0..10 {
        queue(&domain, i, &log);
    }
    assert!(domain.has_callbacks());
    assert_eq!(domain.run_callbacks(), 0, "the section is open");
    // These are queued while the first batch waits, and form the next one.
    for i in 10..20 {
        queue(&domain, i, &log);
    }
    drop(open);
    assert_eq!(domain.run_callbacks(), 20);
    assert_eq!(*log.lock().unwrap(), (0..20).collect::<Vec<_>>());
    assert!(!domain.has_callbacks());
}

#[test]
fn a_domain_runs_what_is_left_when_it_is_dropped() {
    let log = Arc::default();
    let domain = Domain::new();
    queue(&domain, 7, &log);
    assert_eq!(log.lock().unwrap().len(), 0);
    drop(domain);
    assert_eq!(*log.lock().unwrap(), [7]);
}

#[test]
fn barrier_waits_for_callbacks_that_another_thread_runs() {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            thread::sleep(std::time::Duration::from_millis(5));
            DONE.fetch_add(1, Ordering::Relaxed);
        }
    }
    static DOMAIN: Domain = Domain::new();
    for _ in 0..10 {
        DOMAIN.defer_drop(Box::new(Slow));
    }
    let runner = thread::spawn(|| DOMAIN.run_callbacks());
    DOMAIN.barrier();
    assert_eq!(DONE.load(Ordering::Relaxed), 10);
    runner.join().unwrap();
}

#[test]
fn a_callback_may_queue_and_synchronize_but_not_wait_for_itself() {
    static DOMAIN: Domain = Domain::new();
    static LATER: AtomicUsize = AtomicUsize::new(0);
    struct Later;
    impl Drop for Later {
        fn drop(&mut self) {
            LATER.fetch_add(1, Ordering::Relaxed);
        }
    }
    struct Busy;
    impl Drop for Busy {
        fn drop(&mut self) {
            DOMAIN.defer_drop(Box::new(Later));
            DOMAIN.synchronize();
            assert_eq!(DOMAIN.run_callbacks(), 0, "one runner at a time");
            assert!(std::panic::catch_unwind(|| DOMAIN.barrier()).is_err());
        }
    }
    DOMAIN.defer_drop(Box::new(Busy));
    DOMAIN.barrier();
    DOMAIN.barrier();
    assert_eq!(LATER.load(Ordering::Relaxed), 1);
}

#[test]
fn a_callback_that_panics_does_not_stop_the_others() {
    static DOMAIN: Domain = Domain::new();
    static RAN: AtomicUsize = AtomicUsize::new(0);
    struct Bad(bool);
    impl Drop for Bad {
        fn drop(&mut self) {
            assert!(!self.0, "as the test wants it");
            RAN.fetch_add(1, Ordering::Relaxed);
        }
    }
    for bad in [false, true, false] {
        DOMAIN.defer_drop(Box::new(Bad(bad)));
    }
    assert!(std::panic::catch_unwind(|| DOMAIN.run_callbacks()).is_err());
    DOMAIN.barrier();
    assert_eq!(RAN.load(Ordering::Relaxed), 2);
}

#[test]
fn a_callback_that_queues_itself_again_traps_nobody() {
    static DOMAIN: Domain = Domain::new();
    static RAN: AtomicUsize = AtomicUsize::new(0);
    unsafe fn again(head: NonNull<Head>) {
        RAN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: off the queue, and valid for ever.
        unsafe { DOMAIN.call(head, again) };
    }
    static HEAD: Head = Head::new();
    // SAFETY: as above.
    unsafe { DOMAIN.call(NonNull::from(&HEAD), again) };
    assert!(DOMAIN.run_callbacks() <= 2);
    DOMAIN.barrier();
    assert!(DOMAIN.run_callbacks() <= 2);
    assert!(RAN.load(Ordering::Relaxed) >= 3);
    assert!(DOMAIN.has_callbacks());
}

#[test]
fn deferred_drops_are_run_by_those_who_defer() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Count;
    impl Drop for Count {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let domain = Domain::new();
    for _ in 0..1000 {
        domain.defer_drop(Box::new(Count));
    }
    assert!(DROPPED.load(Ordering::Relaxed) >= 900);
    domain.barrier();
    assert_eq!(DROPPED.load(Ordering::Relaxed), 1000);
}

#[test]
fn a_helper_runs_callbacks_and_stops() {
    static DOMAIN: Domain = Domain::new();
    let log = Arc::default();
    let helper = rcu::Helper::spawn(&DOMAIN).unwrap();
    queue(&DOMAIN, 1, &log);
    let start = std::time::Instant::now();
    while log.lock().unwrap().is_empty() {
        assert!(start.elapsed().as_secs() < 10);
        thread::yield_now();
    }
    drop(helper);
}

#[test]
fn a_thread_that_ends_inside_a_section_holds_nobody_up() {
    thread::spawn(|| std::mem::forget(rcu::read_lock())).join().unwrap();
    rcu::synchronize();
}

#[test]
fn a_guard_may_live_in_a_thread_local() {
    thread_local!(static KEPT: std::cell::Cell<Option<rcu::Guard<'static>>> =
        const { std::cell::Cell::new(None) });
    thread::spawn(|| KEPT.set(Some(rcu::read_lock()))).join().unwrap();
    rcu::synchronize();
}
