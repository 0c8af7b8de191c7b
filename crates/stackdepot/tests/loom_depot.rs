//! Models of save, put and reuse. Under loom every stack has the same hash, so all of them meet in
//! one bucket and only the content tells them apart.
//!
//! Each property has a twin without the part that it depends on, and the twin has to fail.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p trapline-stackdepot --test loom_depot`
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use stackdepot::broken::{self, Twin};
use stackdepot::model::{Free, Place, Slot};
use stackdepot::{Depot, Flags, Handle, Put, Refs, Region};
use std::sync::atomic::{AtomicBool, Ordering};

const GET: Flags = Flags::GET;
const GROW: Flags = Flags::CAN_GROW;
const A: &[u64] = &[1, 2];
const B: &[u64] = &[3, 4];

type Model = Arc<Depot>;

/// Room for a few records of two frames in one bucket.
fn depot() -> Model {
    let builder = Depot::builder().buckets_log2(0).max_depth(2).pool_bytes(128);
    Arc::new(builder.build_in(Region::model(112)).unwrap())
}

/// Every interleaving with up to two preemptions.
fn check(twin: Twin, model: impl Fn() + Sync + Send + 'static) {
    check_within(2, twin, model);
}

/// With up to `preemptions`: whole saves that insert and evict have too many steps for more than
/// one.
fn check_within(preemptions: usize, twin: Twin, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        broken::set(twin);
        model();
    });
}

/// The model has to fail, by an assertion of its own.
fn must_fail(twin: Twin, because: &str, model: impl Fn() + Sync + Send + 'static) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let failure = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(twin, model)));
    std::panic::set_hook(hook);
    broken::set(Twin::Whole);
    let payload = failure.expect_err("the broken twin passed");
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(payload.downcast_ref::<&str>().copied());
    assert!(text.is_some_and(|t| t.contains(because)), "failed for another reason: {text:?}");
}

fn content(depot: &Depot, handle: Handle) -> Vec<u64> {
    let mut buf = [0; 2];
    depot.fetch(handle, &mut buf).map(<[u64]>::to_vec).unwrap_or_default()
}

/// Two threads save one stack: one record, one handle (or "contended").
fn save_save() {
    let depot = depot();
    let other = {
        let depot = depot.clone();
        thread::spawn(move || depot.save(A, GET | GROW))
    };
    let mine = depot.save(A, GET | GROW);
    let theirs = other.join().unwrap();
    if !mine.is_none() && !theirs.is_none() {
        assert_eq!(mine, theirs, "one stack, one handle");
    }
    let saves = [mine, theirs].iter().filter(|h| !h.is_none()).count() as u32;
    assert!(saves >= 1);
    let entries: Vec<_> = depot.iter().collect();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].refs, Refs::Counted(saves));
}

#[test]
fn two_saves_of_one_stack() {
    check(Twin::Whole, save_save);
}

#[test]
fn two_saves_without_a_second_look() {
    must_fail(Twin::NoSecondLook, "one stack, one handle", save_save);
}

/// Two threads save two stacks into one bucket: both are there.
#[test]
fn two_saves_of_two_stacks() {
    check(Twin::Whole, || {
        let depot = depot();
        let other = {
            let depot = depot.clone();
            thread::spawn(move || depot.save(A, GET | GROW))
        };
        let b = depot.save(B, GET | GROW);
        let a = other.join().unwrap();
        assert!(a.is_none() || content(&depot, a) == A);
        assert!(b.is_none() || content(&depot, b) == B);
        assert_eq!(depot.iter().count(), [a, b].iter().filter(|h| !h.is_none()).count());
    });
}

/// One thread looks A up while another evicts it and fills its place with B: whoever has a
/// reference has the stack that it sought, as long as it holds it.
fn look_put_reuse() {
    let place = Arc::new(Place::new(A));
    let reader = {
        let place = place.clone();
        thread::spawn(move || {
            if place.look(A) {
                assert!(place.holds(A), "held is what was sought");
                return place.put();
            }
            false
        })
    };
    if place.put() {
        place.fill(B);
        assert!(place.holds(B), "held is what was sought");
        // Unless the reader has a reference on it, by mistake and for a moment.
        place.put();
    }
    reader.join().unwrap();
}

#[test]
fn reuse_beside_a_lookup() {
    check(Twin::Whole, look_put_reuse);
}

#[test]
fn reuse_with_the_comparison_before_the_reference() {
    must_fail(Twin::ComparesFirst, "held is what was sought", look_put_reuse);
}

#[test]
fn reuse_with_an_increment_from_zero() {
    must_fail(Twin::IncrementsZero, "held is what was sought", look_put_reuse);
}

/// A lookup that knows the place from an earlier slot meets the same stack, made there anew: if it
/// gets a reference, a slot names the record, for a put looks there.
fn look_publish() {
    let slot = Arc::new(Slot::new());
    let other = {
        let slot = slot.clone();
        thread::spawn(move || assert_ne!(slot.look(A), Some(false), "what is held has a slot"))
    };
    slot.publish(A);
    other.join().unwrap();
    assert_eq!(slot.look(A), Some(true));
}

#[test]
fn what_is_held_has_a_slot() {
    check(Twin::Whole, look_publish);
}

#[test]
fn what_is_held_before_it_has_a_slot() {
    must_fail(Twin::EnlivensFirst, "what is held has a slot", look_publish);
}

/// A save without GET meets the last put: the stack it got is there for ever.
#[test]
fn promotion_meets_the_last_put() {
    check_within(1, Twin::Whole, || {
        let depot = depot();
        let first = depot.save(A, GET | GROW);
        let keeper = {
            let depot = depot.clone();
            thread::spawn(move || depot.save(A, GROW))
        };
        let put = depot.put(first).unwrap();
        let b = depot.save(B, GET | GROW);
        let kept = keeper.join().unwrap();
        assert!(b.is_none() || content(&depot, b) == B);
        if !kept.is_none() {
            assert_eq!(content(&depot, kept), A);
            assert!(depot.iter().any(|e| e.handle == kept && e.refs == Refs::Persistent));
            // (The other way round does not hold: a new record may have taken the old one's place.)
            assert!(put != Put::Persistent || kept == first);
        }
    });
}

/// A save without GET looks for a persistent record first, and takes no reference on it: it may
/// come to a place that is being reused. What it takes for the persistent stack must be that, and
/// stay it.
#[test]
fn a_look_at_persistent_records_meets_reuse() {
    check_within(1, Twin::Whole, move || {
        let depot = depot();
        let first = depot.save(A, GET | GROW);
        let other = {
            let depot = depot.clone();
            thread::spawn(move || {
                depot.put(first).unwrap();
                depot.save(B, GROW)
            })
        };
        // B is nowhere but in A's old place (or a fresh one), persistent from its first instant.
        let mine = depot.save(B, Flags::NONE);
        let theirs = other.join().unwrap();
        for b in [mine, theirs] {
            assert!(b.is_none() || content(&depot, b) == B);
        }
        assert!(mine.is_none() || theirs.is_none() || mine == theirs);
    });
}

/// Two holders put at once: one of them evicts, and the place is free once.
#[test]
fn two_puts_of_one_stack() {
    check(Twin::Whole, || {
        let depot = depot();
        let handle = depot.save(A, GET | GROW);
        assert_eq!(depot.save(A, GET), handle);
        let other = {
            let depot = depot.clone();
            thread::spawn(move || depot.put(handle).unwrap())
        };
        let mut puts = [depot.put(handle).unwrap(), other.join().unwrap()];
        puts.sort_by_key(|p| *p == Put::Evicted);
        assert_eq!(puts, [Put::Released, Put::Evicted]);
        assert_eq!((depot.stats().free_records, depot.iter().count()), (1, 0));
        assert!(depot.put(handle).is_err());
    });
}

/// Two threads take places and give them back: no place is lost, or in two hands.
fn two_at_the_free_list() {
    let free = Arc::new(Free::new());
    (1..3).for_each(|place| free.push(place));
    let owned = Arc::new([0, 1, 2].map(|_| AtomicBool::new(false)));
    let take = |free: &Free, owned: &[AtomicBool; 3]| {
        let place = free.pop()?;
        assert!(!owned[place].swap(true, Ordering::Relaxed), "a place in two hands");
        Some(place)
    };
    let give = |free: &Free, owned: &[AtomicBool; 3], place: usize| {
        owned[place].store(false, Ordering::Relaxed);
        free.push(place);
    };
    let other = {
        let (free, owned) = (free.clone(), owned.clone());
        thread::spawn(move || take(&free, &owned))
    };
    let (first, second) = (take(&free, &owned), take(&free, &owned));
    // In another order than they came: an old view of the queue is wrong then, if it passes.
    for place in [second, first].into_iter().flatten() {
        give(&free, &owned, place);
    }
    let again = [take(&free, &owned), take(&free, &owned)];
    let theirs = other.join().unwrap();
    let more = take(&free, &owned);
    for place in again.into_iter().chain([theirs, more]).flatten() {
        give(&free, &owned, place);
    }
    let rest = (0..3).filter_map(|_| take(&free, &owned)).count();
    assert_eq!(rest, 2, "all but the one that the queue keeps");
}

#[test]
fn takers_meet_at_the_free_list() {
    check(Twin::Whole, two_at_the_free_list);
}

#[test]
fn takers_meet_at_a_free_list_without_tags() {
    must_fail(Twin::NoTags, "a place in two hands", two_at_the_free_list);
}

/// Two threads give a place back at once, beside one that takes.
#[test]
fn givers_meet_at_the_free_list() {
    check(Twin::Whole, || {
        let free = Arc::new(Free::new());
        let givers: Vec<_> = (1..3)
            .map(|place| {
                let free = free.clone();
                thread::spawn(move || free.push(place))
            })
            .collect();
        let early = free.pop();
        givers.into_iter().for_each(|giver| giver.join().unwrap());
        let rest = (0..3).filter_map(|_| free.pop()).count();
        assert_eq!(rest + usize::from(early.is_some()), 2, "all but the one that the queue keeps");
    });
}
