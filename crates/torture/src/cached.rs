//! Cached references: the value's drop is what would free it.

use crate::chance::Chance;
use crate::flavour::{Flavour, Held, Visit};
use crate::stage::{LAST, Stage};
use reclaim::cached::{self, CachedArc};
use std::sync::{Arc, Mutex, RwLock};

const OBJECTS: usize = 64;

/// What is counted.
struct Value(Arc<Stage>);

impl Drop for Value {
    fn drop(&mut self) {
        assert_eq!(self.0.advance(), 2, "dropped once, after it was unlinked");
    }
}

struct Writer {
    free: Vec<Arc<Stage>>,
    unlinked: Vec<Arc<Stage>>,
}

/// The flavour. The lock is only there to clone from a reference that the writer is about to
/// replace; cloning and dropping are what is tortured.
pub(crate) struct Cached {
    current: RwLock<CachedArc<Value>>,
    writer: Mutex<Writer>,
}

impl Cached {
    pub(crate) fn new() -> Self {
        let writer =
            Writer { free: (0..OBJECTS).map(|_| Arc::default()).collect(), unlinked: Vec::new() };
        Self {
            current: RwLock::new(CachedArc::new(Value(Arc::default()))),
            writer: Mutex::new(writer),
        }
    }

    fn get(&self) -> CachedArc<Value> {
        CachedArc::clone(&self.current.read().expect("no writer panics with the lock"))
    }
}

impl Flavour for Cached {
    fn name(&self) -> &'static str {
        "cached"
    }

    fn readers_may_sleep(&self) -> bool {
        true
    }

    fn read(&self, chance: &mut Chance, visit: Visit<'_>) {
        let own = self.get();
        let more: Vec<_> = (0..chance.below(3)).map(|_| CachedArc::clone(&own)).collect();
        visit(&own.0);
        drop(own);
        if let Some(other) = more.last() {
            visit(&other.0);
        }
        drop(more);
        if chance.once_in(256) {
            cached::flush_thread();
        }
    }

    fn read_in_handler(&self, _visit: Visit<'_>) -> bool {
        // Cloning by way of the cache is not for handlers, as its documentation says.
        false
    }

    fn take_away(&self) -> Option<Box<dyn Held + '_>> {
        Some(Box::new(Taken(self.get())))
    }

    fn update(&self, chance: &mut Chance) {
        let mut writer = self.writer.lock().expect("one writer, which does not panic");
        let Writer { free, unlinked } = &mut *writer;
        if let Some(stage) = free.pop() {
            stage.renew();
            let next = CachedArc::new(Value(stage));
            let old = std::mem::replace(
                &mut *self.current.write().expect("no reader panics with the lock"),
                next,
            );
            let stage = Arc::clone(&old.0);
            stage.advance();
            match chance.below(4) {
                0 => CachedArc::request_flush(&old),
                1 => CachedArc::flush(&old),
                2 => CachedArc::set_caching(&old, false),
                _ => {}
            }
            drop(old);
            unlinked.push(stage);
        } else {
            cached::flush_all();
            std::thread::yield_now();
        }
        unlinked.retain(|stage| {
            // 1: still referred to. 2 and above: dropped; from then on the writer ages it.
            let done = stage.get() >= 2 && stage.advance() >= LAST;
            if done {
                free.push(Arc::clone(stage));
            }
            !done
        });
    }

    fn finish(&self) -> Result<(), String> {
        cached::flush_all();
        let writer = self.writer.lock().expect("one writer, which does not panic");
        let lost = writer.unlinked.iter().filter(|stage| stage.get() < 2).count();
        if lost == 0 {
            Ok(())
        } else {
            Err(format!("{lost} objects without references were not dropped by a flush"))
        }
    }
}

/// A reference on its way to another thread.
struct Taken(CachedArc<Value>);

impl Held for Taken {
    fn finish(self: Box<Self>, visit: Visit<'_>) {
        visit(&self.0.0);
    }
}
