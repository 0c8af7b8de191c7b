//! Models of the lock and of the value that is made once: every interleaving (up to three
//! preemptions, or two where there are three threads). A wake-up that is lost is a deadlock, and a
//! value without the lock's ordering a race; loom reports both.
//!
//! The twins each leave out one thing that the text of `mutex.rs` relies on.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use percpu::sync::Futex;
use percpu::{Mutex, OnceLock};

fn bounded(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(f);
}

fn one_at_a_time(preemptions: usize, others: usize, times: u32) {
    bounded(preemptions, move || {
        let sum = Arc::new(Mutex::new(0));
        let add = move |sum: &Mutex<u32>| (0..times).for_each(|_| *sum.lock() += 1);
        let others: Vec<_> = (0..others)
            .map(|_| {
                let sum = Arc::clone(&sum);
                thread::spawn(move || add(&sum))
            })
            .collect();
        add(&sum);
        let threads = others.len() as u32 + 1;
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        assert_eq!(*sum.lock(), threads * times);
    });
}

#[test]
fn two_threads_one_at_a_time() {
    one_at_a_time(3, 1, 2);
}

/// Two may sleep at once: whoever is woken has to wake the other.
#[test]
fn three_threads_one_at_a_time() {
    one_at_a_time(2, 2, 1);
}

#[test]
fn who_tries_does_not_wait() {
    bounded(3, || {
        let sum = Arc::new(Mutex::new(0));
        let other = {
            let sum = Arc::clone(&sum);
            thread::spawn(move || sum.try_lock().map(|mut sum| *sum += 1).is_some())
        };
        *sum.lock() += 1;
        let tried = other.join().expect("no panic");
        assert_eq!(*sum.lock(), 1 + u32::from(tried));
    });
}

#[test]
fn a_value_is_made_once() {
    bounded(3, || {
        let value = Arc::new(OnceLock::new());
        let other = {
            let value = Arc::clone(&value);
            thread::spawn(move || *value.get_or_init(|| vec![2]).first().expect("one number"))
        };
        // Nothing, or the whole of it.
        assert!(value.get().is_none_or(|numbers| numbers[..] == [2]));
        let here = value.get_or_init(|| vec![1])[0];
        assert_eq!(other.join().expect("no panic"), here);
    });
}

/// The protocol alone, with what a twin may leave out.
///
/// A deadlock unwinds what is blocked, with loom's objects gone: nothing that is dropped here may
/// touch them, and the count that shares the parts is not loom's.
struct Parts {
    state: AtomicU32,
    turn: Futex,
    value: UnsafeCell<u32>,
    twin: Twin,
}

// SAFETY: loom looks after the value.
unsafe impl Sync for Parts {}

#[derive(Clone, Copy)]
struct Twin {
    /// The turn is read before the look at the state.
    turn_first: bool,
    /// Whoever has slept leaves 2, not 1.
    leaves_wanted: bool,
    /// Giving back is a Release.
    release: bool,
    /// Taking is an Acquire.
    acquire: bool,
}

const RIGHT: Twin = Twin { turn_first: true, leaves_wanted: true, release: true, acquire: true };

impl Parts {
    fn take(&self) {
        let acquire = if self.twin.acquire { Ordering::Acquire } else { Ordering::Relaxed };
        if self.state.compare_exchange(0, 1, acquire, Ordering::Relaxed).is_ok() {
            return;
        }
        loop {
            let before = self.twin.turn_first.then(|| self.turn.load());
            if self.state.swap(2, acquire) == 0 {
                if !self.twin.leaves_wanted {
                    self.state.store(1, Ordering::Relaxed);
                }
                return;
            }
            self.turn.wait(before.unwrap_or_else(|| self.turn.load()), None);
        }
    }

    fn give_back(&self) {
        let release = if self.twin.release { Ordering::Release } else { Ordering::Relaxed };
        if self.state.swap(0, release) == 2 {
            self.turn.advance();
            self.turn.wake_one();
        }
    }

    fn add(&self) {
        self.take();
        // SAFETY: what loom checks.
        self.value.with_mut(|value| unsafe { *value += 1 });
        self.give_back();
    }
}

fn parts(preemptions: usize, others: usize, twin: Twin) {
    bounded(preemptions, move || {
        let parts = std::sync::Arc::new(Parts {
            state: AtomicU32::new(0),
            turn: Futex::new(),
            value: UnsafeCell::new(0),
            twin,
        });
        let others: Vec<_> = (0..others)
            .map(|_| {
                let parts = std::sync::Arc::clone(&parts);
                thread::spawn(move || parts.add())
            })
            .collect();
        parts.add();
        others.into_iter().for_each(|other| other.join().expect("no panic"));
    });
}

#[test]
fn the_protocol_alone() {
    parts(3, 1, RIGHT);
    parts(2, 2, RIGHT);
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_reads_the_turn_after_its_look() {
    parts(3, 1, Twin { turn_first: false, ..RIGHT });
}

#[test]
#[should_panic(expected = "deadlock")]
fn twin_that_forgets_the_other_sleepers() {
    parts(2, 2, Twin { leaves_wanted: false, ..RIGHT });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_gives_back_without_release() {
    parts(3, 1, Twin { release: false, ..RIGHT });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_takes_without_acquire() {
    parts(3, 1, Twin { acquire: false, ..RIGHT });
}
