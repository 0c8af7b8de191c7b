//! `percpu_ref` through many lives, with an oracle: what is poisoned at the release must not be
//! seen by anybody who holds a reference.
#![cfg(not(loom))]

use reclaim::percpu_ref::{Options, PercpuRef};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const GOOD: u64 = 0x600d_600d_600d_600d;
const POISON: u64 = 0xdead_dead_dead_dead;
const USERS: usize = 20;

#[test]
fn released_once_per_life_and_never_under_a_user() {
    let object = AtomicU64::new(GOOD);
    let released = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let refs =
        PercpuRef::with_options(Options { allow_reinit: true, ..Options::default() }, || {
            assert_eq!(object.swap(POISON, Ordering::Relaxed), GOOD, "released twice");
            released.fetch_add(1, Ordering::Relaxed);
        });
    let uses = AtomicU64::new(0);
    let lives = thread::scope(|s| {
        for user in 0..USERS {
            let (refs, object, stop, uses) = (&refs, &object, &stop, &uses);
            s.spawn(move || {
                let mut mine = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    // `try_get` alone would keep a dying object from ever dying.
                    let got = if user % 2 == 0 {
                        refs.try_get_live()
                    } else {
                        !refs.is_dying() && refs.try_get()
                    };
                    if !got {
                        thread::yield_now();
                        continue;
                    }
                    mine += 1;
                    refs.get_many(2).expect("one is held");
                    if mine.is_multiple_of(256) {
                        thread::yield_now();
                    }
                    assert_eq!(object.load(Ordering::Relaxed), GOOD, "released under a user");
                    refs.put_many(3).expect("three are held");
                }
                uses.fetch_add(mine, Ordering::Relaxed);
            });
        }
        let end = Instant::now() + Duration::from_millis(900);
        let mut lives = 0;
        while Instant::now() < end {
            match lives % 3 {
                0 => thread::sleep(Duration::from_micros(200)),
                1 => {
                    refs.switch_to_atomic().expect("balanced");
                    refs.switch_to_percpu().expect("live");
                }
                _ => {}
            }
            refs.kill().expect("killed once per life");
            // Now and then the kill is taken back.
            if lives % 5 == 0 && refs.resurrect().is_ok() {
                refs.kill().expect("alive again");
            }
            while !refs.is_zero() {
                thread::yield_now();
            }
            lives += 1;
            // Zero is seen before the release callback has run to its end.
            while released.load(Ordering::Relaxed) < lives {
                thread::yield_now();
            }
            assert_eq!(released.load(Ordering::Relaxed), lives);
            object.store(GOOD, Ordering::Relaxed);
            refs.reinit().expect("dead, without references");
        }
        stop.store(true, Ordering::Relaxed);
        lives
    });
    assert!(lives > 1);
    assert!(uses.load(Ordering::Relaxed) > 0);
    refs.kill().expect("the last life");
    assert_eq!(released.load(Ordering::Relaxed), lives + 1);
}
