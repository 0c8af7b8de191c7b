//! Models of cached references: the shared word, and an entry against those who flush it; each with
//! twins that must fail.
//!
//! Run: `RUSTFLAGS="--cfg loom" cargo test -p trapline-reclaim --release --test 'loom_*'`.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering, fence};
use loom::thread;
use reclaim::cached::model::{Asymmetric, Count, Entry, Fences, Owed, Touch};

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

/// The touching thread's fence only, or the flusher's only.
#[derive(Clone, Copy)]
struct Half {
    light: bool,
    heavy: bool,
}

impl Fences for Half {
    fn light(self) {
        if self.light {
            fence(Ordering::SeqCst);
        }
    }

    fn heavy(self) {
        if self.heavy {
            fence(Ordering::SeqCst);
        }
    }
}

const OBJECT: usize = 64;

/// One object, one thread's entry. The object is "freed" by a write to a cell that its users read.
struct World {
    count: Count,
    entry: Entry,
    value: UnsafeCell<u32>,
    freed: AtomicUsize,
}

impl World {
    /// One reference, which the entry's owner has, and the object cached with a delta of 0.
    fn cached() -> Arc<Self> {
        let world = Self {
            count: Count::one(),
            entry: Entry::default(),
            value: UnsafeCell::new(1),
            freed: AtomicUsize::new(0),
        };
        let _alive = world.count.add(1, 0);
        world.entry.fill(OBJECT, 0);
        Arc::new(world)
    }

    fn use_object(&self) {
        self.value.with(|v| assert_eq!(unsafe { *v }, 1, "freed while there was a reference"));
    }

    fn settle(&self, owed: Owed) {
        assert_eq!(owed.object, OBJECT);
        if (owed.users, owed.refs) != (0, 0) && self.count.add(owed.users, owed.refs) {
            self.free();
        }
    }

    fn free(&self) {
        self.freed.fetch_add(1, Ordering::Relaxed);
        self.value.with_mut(|v| unsafe { *v = 0 });
    }

    /// What `clone` and `drop` do.
    fn change(&self, by: i64, fences: impl Fences) {
        match self.entry.touch(OBJECT, by, fences) {
            Touch::Done => return,
            Touch::Marked => {
                if let Some(owed) = self.entry.empty() {
                    self.settle(owed);
                }
                return;
            }
            Touch::Missed => {
                if let Some(owed) = self.entry.empty() {
                    self.settle(owed);
                }
            }
        }
        self.settle(Owed { object: OBJECT, users: 0, refs: by });
    }

    fn exit(&self) {
        if let Some(owed) = self.entry.empty() {
            self.settle(owed);
        }
    }

    fn flush(&self, fences: impl Fences) {
        self.entry.revoke(Some(OBJECT));
        fences.heavy();
        if let Some(owed) = self.entry.commit() {
            self.settle(owed);
        }
    }
}

#[test]
fn touches_and_a_flush() {
    let fences = Asymmetric::new();
    model(move || {
        let world = World::cached();
        let there = Arc::clone(&world);
        let other = thread::spawn(move || {
            // clone, drop, drop the last one; each with a use before.
            there.use_object();
            there.change(1, fences);
            there.use_object();
            there.change(-1, fences);
            there.use_object();
            there.change(-1, fences);
            there.exit();
        });
        world.flush(fences);
        other.join().unwrap();
        assert_eq!(world.freed.load(Ordering::Relaxed), 1, "freed once, and not leaked");
        assert_eq!(world.count.parts(), (0, 0));
    });
}

/// A thread clones and goes to sleep; a flush comes between; then the reference that it cloned from
/// is dropped elsewhere.
fn a_clone_against_flush(
    owner: impl Fences + Send + Sync + 'static,
    flusher: impl Fences + Send + Sync + 'static,
) {
    model(move || {
        let world = World::cached();
        let there = Arc::clone(&world);
        let other = thread::spawn(move || there.change(1, owner));
        world.flush(flusher);
        other.join().unwrap();
        world.settle(Owed { object: OBJECT, users: 0, refs: -1 });
        world.use_object();
        assert_eq!(world.freed.load(Ordering::Relaxed), 0, "freed under the clone");
        world.flush(Asymmetric::new());
        world.settle(Owed { object: OBJECT, users: 0, refs: -1 });
        assert_eq!(world.freed.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_clone_and_a_flush() {
    a_clone_against_flush(Asymmetric::new(), Asymmetric::new());
}

#[test]
#[should_panic]
fn twin_touch_without_light() {
    a_clone_against_flush(Half { light: false, heavy: true }, Asymmetric::new());
}

#[test]
#[should_panic]
fn twin_flush_without_heavy() {
    a_clone_against_flush(Asymmetric::new(), Half { light: true, heavy: false });
}

/// The thread sleeps for ever after its last drop: the flush alone has to free the object.
#[test]
fn a_sleeping_thread_pins_nothing() {
    model(|| {
        let world = World::cached();
        let there = Arc::clone(&world);
        let other = thread::spawn(move || {
            there.use_object();
            there.change(-1, Asymmetric::new());
        });
        world.flush(Asymmetric::new());
        other.join().unwrap();
        world.flush(Asymmetric::new());
        assert_eq!(world.freed.load(Ordering::Relaxed), 1);
    });
}

/// A request, a flush and the owner's end at once.
#[test]
fn request_flush_and_exit() {
    model(|| {
        let world = World::cached();
        let (flusher, requester) = (Arc::clone(&world), Arc::clone(&world));
        let a = thread::spawn(move || flusher.flush(Asymmetric::new()));
        let b = thread::spawn(move || requester.entry.request(OBJECT));
        world.use_object();
        world.change(-1, Asymmetric::new());
        world.exit();
        a.join().unwrap();
        b.join().unwrap();
        assert_eq!(world.freed.load(Ordering::Relaxed), 1);
    });
}

/// The owner looks at the word before its addition only: it does not learn that its entry was taken
/// in between.
#[test]
#[should_panic]
fn twin_touch_that_does_not_look_again() {
    model(|| {
        // The entry's protocol spelled out, with a word, a delta, and what the flusher took.
        let cached = Arc::new(AtomicBool::new(true));
        let delta = Arc::new(AtomicI64::new(0));
        let count = Arc::new(Count::one());
        let _alive = count.add(1, 0);
        let freed = Arc::new(AtomicUsize::new(0));
        let other = {
            let (cached, delta, count, freed) =
                (Arc::clone(&cached), Arc::clone(&delta), Arc::clone(&count), Arc::clone(&freed));
            thread::spawn(move || {
                if cached.load(Ordering::Acquire) {
                    delta.store(delta.load(Ordering::Relaxed) - 1, Ordering::Release);
                    fence(Ordering::SeqCst);
                } else if count.add(0, -1) {
                    freed.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        cached.store(false, Ordering::Release);
        fence(Ordering::SeqCst);
        if count.add(-1, delta.load(Ordering::Acquire)) {
            freed.fetch_add(1, Ordering::Relaxed);
        }
        other.join().unwrap();
        assert_eq!(freed.load(Ordering::Relaxed), 1);
    });
}

/// Two threads let go at once: one settles its entry, the other drops the last reference.
#[test]
fn exactly_one_of_two_droppers_frees() {
    model(|| {
        let count = Arc::new(Count::one());
        let _alive = count.add(1, 0);
        let there = Arc::clone(&count);
        let other = thread::spawn(move || usize::from(there.add(-1, 0)));
        let here = usize::from(count.add(0, -1));
        assert_eq!(here + other.join().unwrap(), 1);
    });
}

/// Users and references in two words: each of the droppers looks at the other word after its own
/// change.
#[test]
#[should_panic]
fn twin_users_and_references_in_two_words() {
    model(|| {
        let (users, refs) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicI64::new(1)));
        let other = {
            let (users, refs) = (Arc::clone(&users), Arc::clone(&refs));
            thread::spawn(move || {
                users.fetch_sub(1, Ordering::AcqRel);
                usize::from(refs.load(Ordering::Acquire) == 0)
            })
        };
        refs.fetch_sub(1, Ordering::AcqRel);
        let here = usize::from(users.load(Ordering::Acquire) == 0);
        assert_eq!(here + other.join().unwrap(), 1, "freed twice, or never");
    });
}

/// `set_caching(false)` against a thread that fills its entry.
fn switching_off(owner: impl Fences + Send + Sync + 'static) {
    model(move || {
        let world = Arc::new(World {
            count: Count::one(),
            entry: Entry::default(),
            value: UnsafeCell::new(1),
            freed: AtomicUsize::new(0),
        });
        let on = Arc::new(AtomicBool::new(true));
        let (there, still_on) = (Arc::clone(&world), Arc::clone(&on));
        let other = thread::spawn(move || {
            if still_on.load(Ordering::Relaxed) {
                let _alive = there.count.add(1, 0);
                there.entry.fill(OBJECT, 1);
                owner.light();
                if !still_on.load(Ordering::Relaxed) {
                    there.exit();
                }
            } else {
                let _alive = there.count.add(0, 1);
            }
        });
        on.store(false, Ordering::Relaxed);
        Asymmetric::new().heavy();
        world.entry.request(OBJECT);
        other.join().unwrap();
        assert_ne!(
            world.entry.touch(OBJECT, 1, Asymmetric::new()),
            Touch::Done,
            "cached although caching is switched off"
        );
    });
}

#[test]
fn no_entry_escapes_the_switch() {
    switching_off(Asymmetric::new());
}

#[test]
#[should_panic]
fn twin_fill_without_light() {
    switching_off(Half { light: false, heavy: true });
}
