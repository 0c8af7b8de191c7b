//! Models of save, put and reuse. Under loom every stack has the same hash, so all of them meet in one bucket and only the content tells them apart.
//!
//! Each property has a twin without the part that it depends on, and the twin has to fail.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p trapline-stackdepot --test loom_depot`
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use loom::thread;
use stackdepot::broken::{self, Twin};
use stackdepot::{Depot, Flags, GracePeriod, Handle, Put, Refs, Region};

const GET: Flags = Flags::GET;
const GROW: Flags = Flags::CAN_GROW;
const A: &[u64] = &[1, 2];
const B: &[u64] = &[3, 4];

/// The plainest grace period there is: a count of open sections; once it was seen at 0, every section that was open before has ended.
#[derive(Default)]
struct Counted {
    open: AtomicUsize,
    /// The broken twin: says so at once.
    hasty: bool,
}

struct Section<'a>(&'a AtomicUsize);

impl Drop for Section<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl GracePeriod for Counted {
    const EVICTS: bool = true;
    type Section<'a> = Section<'a>;

    fn enter(&self) -> Option<Section<'_>> {
        self.open.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Some(Section(&self.open))
    }

    fn now(&self) -> u64 {
        fence(Ordering::SeqCst);
        1
    }

    fn elapsed(&self, _stamp: u64) -> bool {
        if self.hasty {
            return true;
        }
        fence(Ordering::SeqCst);
        self.open.load(Ordering::Acquire) == 0
    }
}

type Model = Arc<Depot<Counted>>;

fn depot(hasty: bool) -> Model {
    let grace = Counted { open: AtomicUsize::new(0), hasty };
    Arc::new(Depot::builder().buckets_log2(0).max_depth(2).pool_bytes(128).grace_period(grace).build_in(Region::model(112)).unwrap())
}

fn check(twin: Twin, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
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
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    assert!(text.is_some_and(|t| t.contains(because)), "failed for another reason: {text:?}");
}

fn content(depot: &Depot<Counted>, handle: Handle) -> Vec<u64> {
    let mut buf = [0; 2];
    depot.fetch(handle, &mut buf).map(<[u64]>::to_vec).unwrap_or_default()
}

/// Two threads save one stack: one record, one handle (or "contended").
fn save_save() {
    let depot = depot(false);
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
        let depot = depot(false);
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

/// One thread looks A up while another evicts it and saves B, which may take A's place: what the first thread holds is A.
fn save_put_reuse(hasty: bool) {
    let depot = depot(hasty);
    let first = depot.save(A, GET | GROW);
    let reader = {
        let depot = depot.clone();
        thread::spawn(move || {
            let handle = depot.save(A, GET | GROW);
            assert!(handle.is_none() || content(&depot, handle) == A, "held is what was saved");
            handle
        })
    };
    depot.put(first).unwrap();
    let b = depot.save(B, GET | GROW);
    assert!(b.is_none() || content(&depot, b) == B);
    let a = reader.join().unwrap();
    assert!(a.is_none() || content(&depot, a) == A, "held is what was saved, later too");
    assert!(b.is_none() || content(&depot, b) == B);
}

#[test]
fn reuse_after_a_grace_period() {
    check(Twin::Whole, || save_put_reuse(false));
}

#[test]
fn reuse_without_a_grace_period() {
    must_fail(Twin::Whole, "held is what was saved", || save_put_reuse(true));
}

#[test]
fn reuse_with_an_increment_from_zero() {
    must_fail(Twin::IncrementsZero, "held is what was saved", || save_put_reuse(false));
}

/// A save without GET meets the last put: the stack it got is there for ever.
#[test]
fn promotion_meets_the_last_put() {
    check(Twin::Whole, || {
        let depot = depot(false);
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

/// A save without GET looks without a section at first, so that even a true grace period does not protect it: it may come to a place that is being reused. What it takes for
/// the persistent stack must be that, and stay it.
#[test]
fn a_look_without_a_section_meets_reuse() {
    for hasty in [false, true] {
        check(Twin::Whole, move || {
            let depot = depot(hasty);
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
}

/// Two holders put at once: one of them evicts, and the place is free once.
#[test]
fn two_puts_of_one_stack() {
    check(Twin::Whole, || {
        let depot = depot(false);
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

/// Two evictions meet at the free list, whose lock one of them does not get: no place is lost or handed out twice.
#[test]
fn two_evictions_meet_at_the_free_list() {
    check(Twin::Whole, || {
        let depot = depot(false);
        let (a, b) = (depot.save(A, GET | GROW), depot.save(B, GET | GROW));
        let other = {
            let depot = depot.clone();
            thread::spawn(move || depot.put(a).unwrap())
        };
        depot.put(b).unwrap();
        other.join().unwrap();
        assert_eq!(depot.stats().free_records, 2);
        let mut again = [depot.save(&[5, 6], GET), depot.save(&[7, 8], GET)];
        again.sort();
        let mut places = [a, b];
        places.sort();
        assert_eq!(again, places);
    });
}
