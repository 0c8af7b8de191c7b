//! Thread exit where many others want to be told of it: a process of its own, in which more exit
//! functions are registered first than any table of a fixed size would hold.
#![cfg(not(loom))]

use percpu::tls;
use reclaim::cached::CachedArc;
use reclaim::{hazptr, rcu};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

extern "C" fn stranger<const N: usize>() {
    std::hint::black_box(N);
}

macro_rules! strangers {
    ($($n:literal)*) => {
        [$(stranger::<$n> as extern "C" fn()),*]
    };
}

fn fill() {
    for f in strangers!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27) {
        assert!(tls::on_thread_exit(f));
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn what_threads_leave_is_seen_to() {
    fill();

    let drops = Arc::<AtomicUsize>::default();
    for _ in 0..200 {
        let of_thread = Counted(Arc::clone(&drops));
        // `join` of a handle waits for the thread itself, exit functions included.
        let thread = thread::spawn(|| {
            let object = CachedArc::new(of_thread);
            drop(CachedArc::clone(&object));
            drop(object);
            hazptr::scope(|_| ());
            drop(rcu::read_lock());
        });
        thread.join().unwrap();
    }
    assert_eq!(drops.load(Ordering::SeqCst), 200, "cached objects of threads that have ended");

    hazptr::Domain::global().reclaim();
    let limit = hazptr::Domain::global().limit();
    assert_eq!(limit, 1000, "threads that took turns have used the same slots");

    // A thread that ends inside a section ends the section.
    thread::spawn(|| mem::forget(rcu::read_lock())).join().unwrap();
    rcu::synchronize();
}
