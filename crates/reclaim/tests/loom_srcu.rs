//! `srcu`'s machine under the model checker: a reader never meets a write to what was unlinked.
//! Each twin lacks one thing and must fail.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use reclaim::srcu::model::{Asymmetric, Atomic, Fences, Machine, Protocol, broken};
use reclaim::srcu::{Flavour, Normal, SrcuDomain, SrcuFast};

/// Explores with few preemptions: every known way to break the protocol needs three or less.
fn explore(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

struct Sound;
struct BegunFirst;
struct OneIndex;
struct NoLight;
struct NoHeavy;

macro_rules! fences_of {
    ($($name:ident: $fences:ty),*) => {
        $(impl Fences for $name {
            fn light() {
                <$fences>::light();
            }
            fn heavy() {
                <$fences>::heavy();
            }
            fn full() {
                <$fences>::full();
            }
        })*
    };
}

fences_of! {
    Sound: Asymmetric, BegunFirst: Asymmetric, OneIndex: Asymmetric, NoLight: broken::NoLight,
    NoHeavy: broken::NoHeavy
}

impl Protocol for Sound {}
impl Protocol for NoLight {}
impl Protocol for NoHeavy {}
impl Protocol for BegunFirst {
    const ENDED_FIRST: bool = false;
}
impl Protocol for OneIndex {
    const BOTH_INDICES: bool = false;
}

struct World<P> {
    machine: Machine<P, Atomic>,
    current: AtomicUsize,
    objects: [UnsafeCell<u32>; 2],
}

impl<P: Protocol> World<P> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            // Three periods before the wrap.
            machine: Machine::new(3_u64.wrapping_neg()),
            current: AtomicUsize::new(0),
            objects: [UnsafeCell::new(7), UnsafeCell::new(7)],
        })
    }

    fn read(&self, inside: impl FnOnce()) {
        let index = self.machine.enter();
        let now = self.current.load(Ordering::Acquire);
        inside();
        // SAFETY: what is under test; loom reports a race as a panic.
        self.objects[now].with(|object| assert_eq!(unsafe { *object }, 7));
        self.machine.leave(index);
    }

    fn wait(&self) {
        let cookie = self.machine.cookie();
        while !self.machine.poll(cookie) {
            thread::yield_now();
        }
    }

    fn replace(&self) {
        self.current.store(1, Ordering::Release);
        self.wait();
        // SAFETY: as in `read`.
        self.objects[0].with_mut(|object| unsafe { *object = 0 });
    }
}

fn one_reader_one_writer<P: Protocol>() {
    explore(|| {
        let world = World::<P>::new();
        let reader = {
            let world = world.clone();
            thread::spawn(move || {
                percpu::cpu::model_set_current(1);
                world.read(|| ());
            })
        };
        world.replace();
        reader.join().expect("no panic");
    });
}

/// The reader may have read its index before a whole period passed.
fn a_period_passes_first<P: Protocol>() {
    explore(|| {
        let world = World::<P>::new();
        let reader = {
            let world = world.clone();
            thread::spawn(move || world.read(|| ()))
        };
        world.wait();
        world.replace();
        reader.join().expect("no panic");
    });
}

/// A section begins and ends inside another, perhaps between the two sums of a check.
fn a_nested_section<P: Protocol>() {
    explore(|| {
        let world = World::<P>::new();
        let reader = {
            let world = world.clone();
            thread::spawn(move || {
                world.read(|| {
                    let inner = world.machine.enter();
                    world.machine.leave(inner);
                });
            })
        };
        world.replace();
        reader.join().expect("no panic");
    });
}

#[test]
fn a_writer_waits_for_the_reader() {
    one_reader_one_writer::<Sound>();
}

#[test]
fn a_writer_waits_for_a_straggler() {
    a_period_passes_first::<Sound>();
}

#[test]
fn a_writer_is_not_deceived_by_a_nested_section() {
    a_nested_section::<Sound>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_without_the_readers_fence() {
    one_reader_one_writer::<NoLight>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_without_the_writers_fence() {
    one_reader_one_writer::<NoHeavy>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_drains_one_index_only() {
    a_period_passes_first::<OneIndex>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn twin_that_sums_the_beginnings_first() {
    a_nested_section::<BegunFirst>();
}

/// A section that ends on another thread.
#[test]
fn a_section_is_handed_over() {
    explore(|| {
        let world = World::<Sound>::new();
        let index = world.machine.enter();
        let now = world.current.load(Ordering::Acquire);
        let reader = {
            let world = world.clone();
            thread::spawn(move || {
                percpu::cpu::model_set_current(1);
                // SAFETY: what is under test.
                world.objects[now].with(|object| assert_eq!(unsafe { *object }, 7));
                world.machine.leave(index);
            })
        };
        world.replace();
        reader.join().expect("no panic");
    });
}

fn the_public_face<K: Flavour>() {
    explore(|| {
        let world = Arc::new((
            SrcuDomain::<K>::new(),
            AtomicUsize::new(0),
            [UnsafeCell::new(7), UnsafeCell::new(7)],
        ));
        let reader = {
            let world = world.clone();
            thread::spawn(move || {
                let _section = world.0.read_lock();
                let now = world.1.load(Ordering::Acquire);
                // SAFETY: what is under test.
                world.2[now].with(|object| assert_eq!(unsafe { *object }, 7));
            })
        };
        world.1.store(1, Ordering::Release);
        world.0.synchronize();
        // SAFETY: as above.
        world.2[0].with_mut(|object| unsafe { *object = 0 });
        reader.join().expect("no panic");
    });
}

#[test]
fn the_normal_flavour() {
    the_public_face::<Normal>();
}

#[test]
fn the_fast_flavour() {
    let _: fn() -> SrcuFast = SrcuFast::new;
    the_public_face::<reclaim::srcu::Fast>();
}
