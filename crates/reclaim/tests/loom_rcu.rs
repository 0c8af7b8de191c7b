//! `rcu`'s machine under the model checker: a reader never meets a write to what was unlinked. Each
//! twin lacks one thing and must fail.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use reclaim::rcu::model::{Asymmetric, Fences, Machine, broken};
use reclaim::rcu::{self, Domain, Head};
use std::ptr::NonNull;

/// Explores with few preemptions: every known way to break the protocol needs three or less.
fn explore(f: impl Fn() + Send + Sync + 'static) {
    explore_to(3, f);
}

fn explore_to(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// Two objects, one of which is current. Loom itself reports a write to one that is being read, or
/// whose reading did not happen before.
struct World<F> {
    machine: Machine<F>,
    current: AtomicUsize,
    objects: [UnsafeCell<u32>; 2],
}

/// Close enough to the wrap that the second period of a model is beyond it.
const START: u64 = 0x1_0000_u64.wrapping_neg();

impl<F: Fences> World<F> {
    fn new(readers: usize) -> Arc<Self> {
        let world = Self {
            machine: Machine::new(START),
            current: AtomicUsize::new(0),
            objects: [UnsafeCell::new(7), UnsafeCell::new(7)],
        };
        for _ in 0..readers {
            world.machine.readers().acquire().expect("memory");
        }
        Arc::new(world)
    }

    fn read(&self, reader: usize) {
        let record = self.machine.readers().iter().nth(reader).expect("made by `new`");
        self.machine.enter(record);
        let now = self.current.load(Ordering::Acquire);
        // SAFETY: what is under test; loom reports a race as a panic.
        self.objects[now].with(|object| assert_eq!(unsafe { *object }, 7));
        record.leave();
    }

    fn unlink(&self) {
        self.current.store(1, Ordering::Release);
    }

    fn wait(&self, cookie: u64) {
        while !self.machine.poll(cookie) {
            thread::yield_now();
        }
    }

    fn destroy(&self) {
        // SAFETY: as in `read`.
        self.objects[0].with_mut(|object| unsafe { *object = 0 });
    }
}

fn one_reader_one_writer<F: Fences>() {
    explore(|| {
        let world = World::<F>::new(1);
        let reader = {
            let world = world.clone();
            thread::spawn(move || {
                world.read(0);
                // The second section may begin in the period that waits for the first.
                world.read(0);
            })
        };
        world.unlink();
        let cookie = world.machine.cookie();
        world.wait(cookie);
        world.destroy();
        reader.join().expect("no panic");
    });
}

#[test]
fn a_writer_waits_for_the_reader() {
    one_reader_one_writer::<Asymmetric>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_without_the_readers_fence() {
    one_reader_one_writer::<broken::NoLight>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_without_the_writers_fence() {
    one_reader_one_writer::<broken::NoHeavy>();
}

#[test]
fn two_pollers_help_each_other() {
    explore_to(2, || {
        let world = World::<Asymmetric>::new(1);
        let reader = {
            let world = world.clone();
            thread::spawn(move || world.read(0))
        };
        let helper = {
            let world = world.clone();
            thread::spawn(move || {
                let cookie = world.machine.cookie();
                world.machine.want(cookie);
                world.machine.poll(cookie);
            })
        };
        world.unlink();
        let cookie = world.machine.cookie();
        world.wait(cookie);
        world.destroy();
        reader.join().expect("no panic");
        helper.join().expect("no panic");
    });
}

/// A cookie may be asked about by another thread than the one that took it.
#[test]
fn a_cookie_is_good_on_another_thread() {
    explore(|| {
        let world = World::<Asymmetric>::new(1);
        let reader = {
            let world = world.clone();
            thread::spawn(move || world.read(0))
        };
        let unlinker = {
            let world = world.clone();
            thread::spawn(move || {
                world.unlink();
                world.machine.cookie()
            })
        };
        let cookie = unlinker.join().expect("no panic");
        world.wait(cookie);
        world.destroy();
        reader.join().expect("no panic");
    });
}

/// The global domain, with registration and the thread-local slot.
#[test]
fn the_global_domain() {
    explore(|| {
        let world = Arc::new((AtomicUsize::new(0), [UnsafeCell::new(7), UnsafeCell::new(7)]));
        let reader = {
            let world = world.clone();
            thread::spawn(move || {
                let _section = rcu::read_lock();
                let now = world.0.load(Ordering::Acquire);
                // SAFETY: what is under test.
                world.1[now].with(|object| assert_eq!(unsafe { *object }, 7));
            })
        };
        world.0.store(1, Ordering::Release);
        rcu::synchronize();
        // SAFETY: as above.
        world.1[0].with_mut(|object| unsafe { *object = 0 });
        reader.join().expect("no panic");
    });
}

/// Two threads queue and run at once: each callback runs once, after a grace period, and `barrier`
/// has seen both.
#[test]
fn callbacks_run_once_and_barrier_waits_for_them() {
    #[repr(C)]
    struct Object {
        head: Head,
        ran: AtomicUsize,
    }
    unsafe fn run(head: NonNull<Head>) {
        // SAFETY: the head is the first field of an `Object`, which outlives the model's threads.
        let object = unsafe { head.cast::<Object>().as_ref() };
        object.ran.fetch_add(1, Ordering::Relaxed);
    }
    explore_to(2, || {
        let domain = Arc::new(Domain::new());
        let objects =
            Arc::new([0; 2].map(|_| Object { head: Head::new(), ran: AtomicUsize::new(0) }));
        let queue = |domain: &Domain, object: &Object| {
            // SAFETY: new, and kept by the `Arc` until after the barrier.
            unsafe { domain.call(NonNull::from(object).cast(), run) };
        };
        let other = {
            let (domain, objects) = (domain.clone(), objects.clone());
            thread::spawn(move || {
                queue(&domain, &objects[0]);
                domain.run_callbacks();
            })
        };
        queue(&domain, &objects[1]);
        domain.barrier();
        assert_eq!(objects[1].ran.load(Ordering::Relaxed), 1);
        other.join().expect("no panic");
        domain.barrier();
        assert_eq!(objects[0].ran.load(Ordering::Relaxed), 1);
    });
}
