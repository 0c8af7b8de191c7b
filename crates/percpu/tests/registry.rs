//! Records: reuse, threads that end, forks.
#![cfg(not(loom))]

use percpu::{Registry, fork, thread as numbers};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

#[test]
fn a_released_record_is_reused_and_seen_clean() {
    let registry: Registry<AtomicU64> = Registry::new();
    let first = registry.acquire().expect("memory");
    assert!(first.is_alive());
    first.store(5, Ordering::Relaxed);
    let second = registry.acquire().expect("memory");
    assert!(!std::ptr::eq(first, second));
    first.release();
    assert!(!first.is_alive());
    assert!(!first.try_adopt(), "a free record has no dead owner");
    let third = registry.acquire().expect("memory");
    assert!(std::ptr::eq(first, third));
    assert_eq!(third.load(Ordering::Relaxed), 5, "the registry does not touch the contents");
}

#[test]
fn many_threads_get_different_records() {
    let registry: Registry<AtomicU64> = Registry::new();
    let seen = Mutex::new(HashSet::new());
    let all_hold = Barrier::new(64);
    thread::scope(|s| {
        for _ in 0..64 {
            s.spawn(|| {
                let record = registry.acquire().expect("memory");
                assert_eq!(record.fetch_add(1, Ordering::Relaxed), 0, "nobody else has it");
                assert!(
                    seen.lock().expect("not poisoned").insert(std::ptr::from_ref(record) as usize)
                );
                all_hold.wait();
                record.store(0, Ordering::Relaxed);
                record.release();
            });
        }
    });
    assert!(registry.iter().all(|r| !r.is_alive()));
    let made = registry.iter().count();
    thread::scope(|s| {
        for _ in 0..64 {
            s.spawn(|| registry.acquire().expect("memory").release());
        }
    });
    assert_eq!(registry.iter().count(), made, "free records are reused before new ones are made");
}

#[test]
fn records_are_dropped_with_the_registry() {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    #[derive(Default)]
    struct Counts([u64; 32]);
    impl Drop for Counts {
        fn drop(&mut self) {
            DROPPED.fetch_add(1 + self.0[0], Ordering::Relaxed);
        }
    }
    let registry: Registry<Counts> = Registry::new();
    registry.acquire().expect("memory");
    let made = registry.iter().count() as u64;
    drop(registry);
    assert_eq!(DROPPED.load(Ordering::Relaxed), made);
}

#[test]
fn a_fork_child_keeps_its_own_records_and_adopts_the_others() {
    let registry: Registry<AtomicU64> = Registry::new();
    let mine = registry.acquire().expect("memory");
    let (there, done) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|s| {
        let other = s.spawn(|| {
            let other = registry.acquire().expect("memory");
            other.store(7, Ordering::Relaxed);
            there.wait();
            done.wait();
            assert!(other.is_alive(), "nothing changed in the parent");
        });
        there.wait();
        let (id, generation) = (numbers::id(), fork::generation());
        in_child(|| {
            assert_eq!(numbers::id(), id, "the thread that forked keeps its number");
            assert_eq!(fork::generation(), generation + 1);
            assert!(mine.is_alive());
            let dead: Vec<_> = registry.iter().filter(|r| r.load(Ordering::Relaxed) == 7).collect();
            assert_eq!(dead.len(), 1);
            assert!(!dead[0].is_alive(), "its thread did not come along");
            assert!(dead[0].try_adopt());
            assert!(!dead[0].try_adopt(), "one adopter");
            assert!(dead[0].is_alive());
            let late = thread::spawn(|| numbers::id().get()).join().expect("no panic");
            assert!(late > id.get(), "numbers go on");
            in_child(|| {
                assert!(
                    mine.is_alive() && dead[0].is_alive(),
                    "a grandchild keeps what its thread had"
                );
                assert_eq!(fork::generation(), generation + 2);
            });
        });
        done.wait();
        other.join().expect("no panic");
    });
}

/// Runs `f` in a fork child, which must not panic.
fn in_child(f: impl FnOnce()) {
    // SAFETY: the child runs `f`, which takes no lock that another thread of the parent may hold
    // but malloc's (glibc makes malloc usable after fork), and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        let ok = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_ok();
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(i32::from(!ok)) };
    }
    let mut status = 0;
    // SAFETY: `status` is writable and `pid` is this process's child.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0, "the child failed");
}
