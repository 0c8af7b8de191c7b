//! percpu_ref: an object's count is killed when the object is replaced; its release callback is
//! what would free it.

use crate::chance::Chance;
use crate::flavour::{Flavour, Held, Visit};
use crate::stage::{LAST, Stage};
use reclaim::percpu_ref::{Options, PercpuRef};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const OBJECTS: usize = 64;

/// What the release callback changes.
#[derive(Default)]
struct State {
    stage: Stage,
    released: AtomicBool,
}

struct Object {
    state: Arc<State>,
    count: PercpuRef<Box<dyn Fn() + Send + Sync>>,
}

impl Object {
    /// Dead: `reinit` brings it to life.
    fn new() -> Self {
        let state = Arc::new(State::default());
        let of_callback = Arc::clone(&state);
        let release = move || {
            of_callback.stage.advance();
            // pairs with the Acquire in `update`
            let before = of_callback.released.swap(true, Ordering::AcqRel);
            assert!(!before, "the release callback ran twice");
        };
        Self {
            state,
            count: PercpuRef::with_options(
                Options { dead: true, ..Options::default() },
                Box::new(release),
            ),
        }
    }

    fn put(&self) {
        self.count.put().expect("balanced");
    }
}

#[derive(Default)]
struct Writer {
    free: Vec<usize>,
    killed: Vec<usize>,
}

/// The flavour.
pub(crate) struct Counted {
    objects: Vec<Object>,
    current: AtomicUsize,
    writer: Mutex<Writer>,
}

impl Counted {
    pub(crate) fn new() -> Self {
        let objects: Vec<Object> = (0..OBJECTS).map(|_| Object::new()).collect();
        objects[0].count.reinit().expect("dead and at zero");
        let writer = Writer { free: (1..OBJECTS).collect(), killed: Vec::new() };
        Self { objects, current: AtomicUsize::new(0), writer: Mutex::new(writer) }
    }

    /// The current object with a reference; objects are never freed, so that a late attempt meets a
    /// count that is dead or lives again.
    fn get(&self) -> &Object {
        loop {
            // Acquire pairs with the writer's swap: the object was brought to life before.
            let object = &self.objects[self.current.load(Ordering::Acquire)];
            if object.count.try_get_live() {
                return object;
            }
            std::thread::yield_now();
        }
    }
}

impl Flavour for Counted {
    fn name(&self) -> &'static str {
        "percpu_ref"
    }

    fn readers_may_sleep(&self) -> bool {
        true
    }

    fn read(&self, chance: &mut Chance, visit: Visit<'_>) {
        let object = self.get();
        let more = chance.below(4) as u32;
        if more > 0 {
            object.count.get_many(more).expect("a reference is held");
        }
        visit(&object.state.stage);
        if more > 0 {
            object.count.put_many(more).expect("balanced");
        }
        object.put();
    }

    fn read_in_handler(&self, visit: Visit<'_>) -> bool {
        // One attempt: a handler may have interrupted the writer itself.
        // pairs with the writer's swap
        let object = &self.objects[self.current.load(Ordering::Acquire)];
        if object.count.try_get_live() {
            visit(&object.state.stage);
            object.put();
        }
        true
    }

    fn take_away(&self) -> Option<Box<dyn Held + '_>> {
        Some(Box::new(Reference(self.get())))
    }

    fn update(&self, chance: &mut Chance) {
        let mut writer = self.writer.lock().expect("one writer, which does not panic");
        let Writer { free, killed } = &mut *writer;
        if let Some(next) = free.pop() {
            let object = &self.objects[next];
            object.state.stage.renew();
            object.state.released.store(false, Ordering::Relaxed); // published by the swap
            object.count.reinit().expect("released, and dead since");
            // pairs with the loads of `current`
            let old = self.current.swap(next, Ordering::AcqRel);
            let unlinked = &self.objects[old];
            unlinked.state.stage.advance();
            if chance.once_in(8) {
                unlinked.count.switch_to_atomic().expect("live and balanced");
                if chance.once_in(2) {
                    unlinked.count.switch_to_percpu().expect("live and balanced");
                }
            }
            let mut confirmed = false;
            unlinked.count.kill_and_confirm(|| confirmed = true).expect("killed once");
            assert!(
                confirmed && !unlinked.count.try_get_live(),
                "after the confirmation nobody gets a live reference"
            );
            if chance.once_in(16) && unlinked.count.try_get() {
                // A reference is left: the kill can be taken back, and be done again.
                unlinked.count.resurrect().expect("dead, not at zero");
                unlinked.put();
                unlinked.count.kill().expect("killed once per life");
            }
            killed.push(old);
        } else {
            std::thread::yield_now();
        }
        killed.retain(|&index| {
            let state = &self.objects[index].state;
            // Acquire pairs with the callback: its step comes before ours.
            let done = state.released.load(Ordering::Acquire) && state.stage.advance() >= LAST;
            if done {
                free.push(index);
            }
            !done
        });
    }

    fn finish(&self) -> Result<(), String> {
        let writer = self.writer.lock().expect("one writer, which does not panic");
        let lost = writer
            .killed
            .iter()
            .filter(|&&i| !self.objects[i].state.released.load(Ordering::Acquire))
            .count(); // pairs with the callback
        if lost == 0 {
            Ok(())
        } else {
            Err(format!("{lost} counts were killed and never released, without readers"))
        }
    }
}

/// A reference on its way to another thread.
struct Reference<'f>(&'f Object);

impl Held for Reference<'_> {
    fn finish(self: Box<Self>, visit: Visit<'_>) {
        visit(&self.0.state.stage);
        self.0.put();
    }
}
