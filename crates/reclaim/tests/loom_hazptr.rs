//! Models of the hazard-pointer protocol, each with twins that lack one thing and must fail.
//!
//! "Free" is a write to a cell that readers read: loom reports the race where the machine would
//! have reported a use after free, or nothing. Run: `RUSTFLAGS="--cfg loom" cargo test -p
//! trapline-reclaim --release --test 'loom_*'`.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use loom::thread;
use reclaim::hazptr::Head;
use reclaim::hazptr::model::{
    Asymmetric, Claims, Fences, Kept, SLOTS, Seen, Slot, Snapshot, Stack, chain_len,
};
use std::ptr;

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

/// The reader's fence only, or the reclaimer's only.
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

struct Object {
    value: UnsafeCell<u32>,
}

impl Object {
    fn read(&self) -> u32 {
        // Dereferencing is what the protocol allows while the object is protected.
        self.value.with(|v| unsafe { *v })
    }

    fn write(&self, to: u32) {
        self.value.with_mut(|v| unsafe { *v = to });
    }
}

const POISON: u32 = 99;

struct World {
    objects: [Object; 2],
    src: AtomicPtr<Object>,
    slots: [Slot; 2],
}

impl World {
    fn new() -> Arc<Self> {
        let object = |v| Object { value: UnsafeCell::new(v) };
        let world = Arc::new(Self {
            objects: [object(0), object(0)],
            src: AtomicPtr::new(ptr::null_mut()),
            slots: Default::default(),
        });
        world.objects[0].write(1);
        world.src.store(world.object(0), Ordering::Release);
        world
    }

    fn object(&self, i: usize) -> *mut Object {
        ptr::from_ref(&self.objects[i]).cast_mut()
    }

    /// A writer: publishes the second object, retires and, unless it is protected, frees the first.
    fn replace(&self, fences: impl Fences) {
        self.objects[1].write(2);
        let old = self.src.swap(self.object(1), Ordering::AcqRel);
        fences.heavy();
        let mut snapshot = Snapshot::default();
        self.slots.iter().for_each(|s| snapshot.add(s.seen()));
        snapshot.seal();
        if !snapshot.protects(old.addr(), || unreachable!()) {
            self.objects[0].write(POISON);
        }
    }

    fn use_object(&self, p: *mut Object) {
        // SAFETY: objects live as long as the world.
        let value = unsafe { &*p }.read();
        assert!(value == 1 || value == 2, "read {value} from a protected object");
    }
}

fn protect_against_replace(
    reader: impl Fences + Send + Sync + 'static,
    writer: impl Fences + Send + Sync + 'static,
) {
    model(move || {
        let world = World::new();
        let there = Arc::clone(&world);
        let other = thread::spawn(move || {
            for _ in 0..2 {
                let p = there.slots[0].protect(&there.src, reader);
                there.use_object(p);
            }
            there.slots[0].free();
        });
        world.replace(writer);
        other.join().unwrap();
    });
}

#[test]
fn protect() {
    protect_against_replace(Asymmetric::new(), Asymmetric::new());
}

#[test]
#[should_panic]
fn twin_protect_without_light() {
    protect_against_replace(Half { light: false, heavy: true }, Asymmetric::new());
}

#[test]
#[should_panic]
fn twin_protect_without_heavy() {
    protect_against_replace(Asymmetric::new(), Half { light: true, heavy: false });
}

/// The reader's steps written out, with what a twin changes as parameters.
fn spelled_out_protect(reload: bool, clear: Ordering) {
    model(move || {
        let world = World::new();
        let there = Arc::clone(&world);
        let announced = Arc::new(AtomicPtr::<Object>::new(ptr::null_mut()));
        let slot = Arc::clone(&announced);
        let other = thread::spawn(move || {
            let mut p = there.src.load(Ordering::Relaxed);
            loop {
                slot.store(p, Ordering::Release);
                fence(Ordering::SeqCst);
                let now = there.src.load(Ordering::Acquire);
                if now == p || !reload {
                    break;
                }
                p = now;
            }
            there.use_object(p);
            slot.store(ptr::null_mut(), clear);
        });
        world.objects[1].write(2);
        let old = world.src.swap(world.object(1), Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if announced.load(Ordering::Acquire) != old {
            world.objects[0].write(POISON);
        }
        other.join().unwrap();
    });
}

#[test]
fn protect_spelled_out() {
    spelled_out_protect(true, Ordering::Release);
}

/// Where `light()` is a compiler fence, only the second load orders the reader behind the writer
/// that made the object. Nothing is freed here.
fn made_before_read(reload: Ordering) {
    model(move || {
        let world = World::new();
        let there = Arc::clone(&world);
        let other = thread::spawn(move || {
            let mut p = there.src.load(Ordering::Relaxed);
            loop {
                there.slots[0].announce(p);
                let now = there.src.load(reload);
                if now == p {
                    break;
                }
                p = now;
            }
            there.use_object(p);
        });
        world.objects[1].write(2);
        world.src.store(world.object(1), Ordering::Release);
        other.join().unwrap();
    });
}

#[test]
fn the_second_load_orders_the_accesses() {
    made_before_read(Ordering::Acquire);
}

/// The trap of the posted series: equal pointers, but the accesses are ordered by nothing.
#[test]
#[should_panic]
fn twin_second_load_without_acquire() {
    made_before_read(Ordering::Relaxed);
}

#[test]
#[should_panic]
fn twin_no_reload() {
    spelled_out_protect(false, Ordering::Release);
}

#[test]
#[should_panic]
fn twin_clear_without_release() {
    spelled_out_protect(true, Ordering::Relaxed);
}

/// The slot goes from one object to the next without being emptied: the new announcement has to
/// release the accesses to the old object.
fn announce_over_announce(second: Ordering) {
    model(move || {
        let world = World::new();
        let there = Arc::clone(&world);
        let announced = Arc::new(AtomicPtr::<Object>::new(world.object(0)));
        let slot = Arc::clone(&announced);
        // The reader has protected object 0 before.
        let other = thread::spawn(move || {
            there.use_object(there.object(0));
            slot.store(there.object(1), second);
        });
        fence(Ordering::SeqCst);
        if announced.load(Ordering::Acquire) != world.object(0) {
            world.objects[0].write(POISON);
        }
        other.join().unwrap();
    });
}

#[test]
fn an_announcement_releases_the_one_before() {
    announce_over_announce(Ordering::Release);
}

#[test]
#[should_panic]
fn twin_announcement_without_release() {
    announce_over_announce(Ordering::Relaxed);
}

fn wait_free(
    protect: impl Fn(&Slot, &AtomicPtr<Object>) -> *mut Object + Send + Sync + Copy + 'static,
) {
    model(move || {
        let world = World::new();
        let there = Arc::clone(&world);
        let other = thread::spawn(move || {
            let p = protect(&there.slots[0], &there.src);
            there.use_object(p);
            there.slots[0].free();
        });
        world.replace(Asymmetric::new());
        other.join().unwrap();
    });
}

#[test]
fn wildcard() {
    wait_free(|slot, src| slot.protect_wait_free(src, Asymmetric::new()));
}

#[test]
#[should_panic]
fn twin_wildcard_without_light() {
    wait_free(|slot, src| slot.protect_wait_free(src, Half { light: false, heavy: true }));
}

/// Between the wildcard and the pointer the slot is empty for a moment.
#[test]
#[should_panic]
fn twin_wildcard_with_a_gap() {
    wait_free(|slot, src| {
        slot.announce_anything();
        fence(Ordering::SeqCst);
        let p = src.load(Ordering::Acquire);
        slot.idle();
        slot.announce(p);
        p
    });
}

/// Thread 1 protects and hands the protection to thread 2, which uses the object and lets go; a
/// reclaimer looks meanwhile.
fn hand_off(copy: bool) {
    model(move || {
        let world = World::new();
        // Slot 1 is the one that thread 1 protects in.
        let p = world.slots[1].protect(&world.src, Asymmetric::new());
        let there = Arc::clone(&world);
        let address = p.expose_provenance();
        let other = thread::spawn(move || {
            let p = ptr::with_exposed_provenance_mut::<Object>(address);
            let holder = if copy {
                there.slots[0].announce(p);
                there.slots[1].free();
                0
            } else {
                1
            };
            there.use_object(p);
            there.slots[holder].free();
        });
        world.replace(Asymmetric::new());
        other.join().unwrap();
    });
}

#[test]
fn a_slot_that_changes_hands_protects_all_the_while() {
    hand_off(false);
}

/// A round reads slot 0 before the copy and slot 1 after it.
#[test]
#[should_panic]
fn twin_copied_protection() {
    hand_off(true);
}

#[test]
fn exactly_one_releases_an_orphaned_block() {
    model(|| {
        let claims = Arc::new(Claims::default());
        claims.reset((1 << SLOTS) - 1);
        let (a, b) = (claims.take().unwrap(), claims.take().unwrap());
        let released = Arc::new(AtomicUsize::new(0));
        let give = |index: usize| {
            let (claims, released) = (Arc::clone(&claims), Arc::clone(&released));
            thread::spawn(move || {
                if claims.give(index).0 {
                    released.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let (first, second) = (give(a), give(b));
        if claims.orphan(0).0 {
            released.fetch_add(1, Ordering::Relaxed);
        }
        first.join().unwrap();
        second.join().unwrap();
        assert_eq!(released.load(Ordering::Relaxed), 1);
    });
}

/// "Free slots" and "orphan" in two words: nobody, or two, see both.
#[test]
#[should_panic]
fn twin_claims_in_two_words() {
    model(|| {
        let held = Arc::new(AtomicUsize::new(1));
        let orphan = Arc::new(AtomicBool::new(false));
        let released = Arc::new(AtomicUsize::new(0));
        let last_holder = {
            let (held, orphan, released) =
                (Arc::clone(&held), Arc::clone(&orphan), Arc::clone(&released));
            thread::spawn(move || {
                held.fetch_sub(1, Ordering::AcqRel);
                if orphan.load(Ordering::Acquire) {
                    released.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        orphan.store(true, Ordering::Release);
        if held.load(Ordering::Acquire) == 0 {
            released.fetch_add(1, Ordering::Relaxed);
        }
        last_holder.join().unwrap();
        assert_eq!(released.load(Ordering::Relaxed), 1);
    });
}

/// A round that finds no thread that has used slots makes nobody fence; a thread fences itself when
/// it begins to.
fn beginning_to_read(fence_after_saying_so: bool) {
    model(move || {
        let world = World::new();
        let reads = Arc::new(AtomicBool::new(false));
        let (there, says) = (Arc::clone(&world), Arc::clone(&reads));
        let other = thread::spawn(move || {
            says.store(true, Ordering::Relaxed);
            if fence_after_saying_so {
                fence(Ordering::SeqCst);
            }
            // With a compiler fence as `light()`: here only what the fence above orders.
            let p = there.src.load(Ordering::Acquire);
            there.use_object(p);
        });
        world.objects[1].write(2);
        world.src.swap(world.object(1), Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if !reads.load(Ordering::Relaxed) {
            world.objects[0].write(POISON);
        }
        other.join().unwrap();
    });
}

#[test]
fn a_reader_that_begins_is_seen_or_sees_the_unlinking() {
    beginning_to_read(true);
}

#[test]
#[should_panic]
fn twin_beginning_without_fence() {
    beginning_to_read(false);
}

#[test]
fn nothing_is_lost_between_pushes_and_takes() {
    model(|| {
        let stack = Arc::new(Stack::new());
        let heads: Arc<[Head; 3]> = Arc::new(Default::default());
        let push = |from: usize, to: usize| {
            let (stack, heads) = (Arc::clone(&stack), Arc::clone(&heads));
            thread::spawn(move || {
                for head in &heads[from..to] {
                    // SAFETY: each head is pushed once and outlives the list.
                    unsafe { stack.push(ptr::from_ref(head).cast_mut()) }.unwrap();
                }
            })
        };
        let (a, b) = (push(0, 2), push(2, 3));
        let mut total = 0;
        for _ in 0..2 {
            let (first, len) = stack.take();
            assert_eq!(chain_len(first) as u64, len);
            total += len;
        }
        a.join().unwrap();
        b.join().unwrap();
        assert_eq!(total + stack.take().1, 3);
    });
}

/// What `barrier` rests on: who takes a list after another round did sees that that round had
/// begun.
#[test]
fn a_later_take_sees_the_earlier_round() {
    model(|| {
        let kept = Arc::new(Kept::new());
        let in_round = Arc::new(AtomicBool::new(false));
        let head = Arc::new(Head::new());
        // SAFETY: pushed once, outlives the list.
        unsafe { kept.push_all(ptr::from_ref(&*head).cast_mut()) };
        let round = {
            let (kept, in_round) = (Arc::clone(&kept), Arc::clone(&in_round));
            thread::spawn(move || {
                in_round.store(true, Ordering::Relaxed);
                !kept.take().is_null()
            })
        };
        let here = !kept.take().is_null();
        let seen = in_round.load(Ordering::Relaxed);
        let there = round.join().unwrap();
        assert!(here != there);
        assert!(here || seen, "the object is in the hand of a round that the barrier does not see");
    });
}

#[test]
fn slots_say_what_they_hold() {
    model(|| {
        let slot = Slot::default();
        assert_eq!(slot.seen(), Seen::Nothing);
        assert!(slot.is_free());
        slot.idle();
        assert!(!slot.is_free());
        assert_eq!(slot.seen(), Seen::Nothing);
    });
}
