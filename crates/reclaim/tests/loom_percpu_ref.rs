//! The end of a `percpu_ref` under the model checker, on the path without restartable sequences:
//! released once, after the last use. Each twin lacks one thing and must fail. (With restartable
//! sequences the processor does what the RCU section does here: an add is over, or has not
//! happened, when the gate is closed.)
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use reclaim::percpu_ref::Options;
use reclaim::percpu_ref::model::{Counter, Protocol, Sound};

fn explore(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

struct NoBias;

impl Protocol for NoBias {
    const BIASED: bool = false;
}

struct NoWait;

impl Protocol for NoWait {
    const WAITS: bool = false;
}

struct World<P> {
    refs: Counter<P>,
    object: UnsafeCell<u32>,
    released: AtomicUsize,
}

impl<P: Protocol> World<P> {
    fn new() -> Arc<Self> {
        let refs = Counter::new(Options { allow_reinit: true, ..Options::default() });
        Arc::new(Self { refs, object: UnsafeCell::new(7), released: AtomicUsize::new(0) })
    }

    fn look(&self) {
        // SAFETY: what is under test; loom reports a race as a panic.
        self.object.with(|object| assert_eq!(unsafe { *object }, 7, "used after the release"));
    }

    fn put(&self) {
        if self.refs.put(1).expect("balanced") {
            assert_eq!(self.released.fetch_add(1, Ordering::Relaxed), 0, "released twice");
            // SAFETY: as above.
            self.object.with_mut(|object| unsafe { *object = 0 });
        }
    }
}

fn kill_against_get_and_put<P: Protocol>() {
    explore(3, || {
        let world = World::<P>::new();
        let user = {
            let world = world.clone();
            thread::spawn(move || {
                percpu::cpu::model_set_current(1);
                if world.refs.try_get_live() {
                    world.look();
                    world.put();
                }
            })
        };
        world.refs.kill().expect("killed once");
        world.look();
        world.put();
        user.join().expect("no panic");
        assert!(world.refs.is_zero());
        assert_eq!(world.released.load(Ordering::Relaxed), 1, "never released");
    });
}

#[test]
fn released_once_after_the_last_use() {
    kill_against_get_and_put::<Sound>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_without_the_bias() {
    kill_against_get_and_put::<NoBias>();
}

#[test]
#[should_panic(expected = "Unbalanced")]
fn twin_that_does_not_wait_for_adds_in_progress() {
    kill_against_get_and_put::<NoWait>();
}

#[test]
fn after_the_confirmation_nobody_gets_a_live_one() {
    explore(3, || {
        let world = World::<Sound>::new();
        let confirmed = Arc::new(AtomicUsize::new(0));
        let user = {
            let (world, confirmed) = (world.clone(), confirmed.clone());
            thread::spawn(move || {
                let before = confirmed.load(Ordering::Acquire);
                if world.refs.try_get_live() {
                    assert_eq!(before, 0, "taken after the confirmation");
                    world.put();
                }
            })
        };
        world.refs.kill().expect("killed once");
        confirmed.store(1, Ordering::Release);
        world.put();
        user.join().expect("no panic");
    });
}

#[test]
fn killed_by_one_of_two() {
    explore(2, || {
        let world = World::<Sound>::new();
        let other = {
            let world = world.clone();
            thread::spawn(move || world.refs.kill().map(|()| world.put()).is_ok())
        };
        let here = world.refs.kill().map(|()| world.put()).is_ok();
        let there = other.join().expect("no panic");
        assert!(here != there);
        assert_eq!(world.released.load(Ordering::Relaxed), 1);
    });
}
