//! The end of a pool, synchronous and asynchronous (the kernel's `objpool_fini` with and without
//! objects in use): when the destructors and the release callback run, on which thread, and over
//! what.

use crate::common::{ALL, Kind, layout};
use objpool::{
    Bitmap, Builder, CasLifo, FlagArray, FlatArray, FreeList, PerCpuList, Pool, RawPool, RingArray,
    RseqLifo,
};
use std::ffi::c_int;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, ThreadId};

const CAPACITY: usize = 12;

/// What happened, in order.
#[derive(Clone, Debug, PartialEq)]
enum Event {
    Dropped(usize, ThreadId),
    Released(ThreadId),
}

fn here() -> ThreadId {
    thread::current().id()
}

/// A pool that tells what happens to it. Objects hold their numbers.
fn told<L: FreeList>() -> (Arc<RawPool<L>>, mpsc::Receiver<Event>) {
    let (to, from) = mpsc::channel();
    let also = to.clone();
    let pool = Builder::new(CAPACITY, layout(8))
        .on_release(move || also.send(Event::Released(here())).expect("the test listens"))
        .build_with::<L, ()>(
            |place, number| {
                // SAFETY: a new object of 8 bytes.
                unsafe { place.cast::<usize>().write(number) };
                Ok(())
            },
            move |place| {
                // SAFETY: written above, and by nobody since.
                let number = unsafe { place.cast::<usize>().read() };
                to.send(Event::Dropped(number, here())).expect("the test listens");
            },
        )
        .expect("memory");
    (Arc::new(pool), from)
}

struct Out(NonNull<u8>);

// SAFETY: an object is memory that one thread uses at a time.
unsafe impl Send for Out {}

fn push<L: FreeList>(pool: &RawPool<L>, out: Out) {
    // SAFETY: popped by the test, and not used after.
    unsafe { pool.push(out.0) }.expect("an object that is out");
}

/// Everything is back: the end is where `close` is called, and before it returns.
fn synchronous<L: FreeList>() {
    let (pool, events) = told::<L>();
    let all: Vec<_> = std::iter::from_fn(|| pool.pop()).map(Out).collect();
    all.into_iter().for_each(|out| push(&pool, out));
    assert_eq!(events.try_iter().count(), 0, "{}: not before", L::NAME);
    pool.close();
    ends_here::<L>(events.try_iter().collect(), CAPACITY);
    drop(pool);
    assert_eq!(events.try_iter().count(), 0, "{}: once", L::NAME);
}

/// `n` objects are dropped, each once, and then it is released, all on this thread.
fn ends_here<L: FreeList>(mut events: Vec<Event>, n: usize) {
    assert_eq!(events.pop(), Some(Event::Released(here())), "{}: last", L::NAME);
    drops_here::<L>(events, n);
}

fn drops_here<L: FreeList>(events: Vec<Event>, n: usize) {
    let mut numbers: Vec<usize> = events
        .into_iter()
        .map(|event| match event {
            Event::Dropped(number, thread) if thread == here() => number,
            other => panic!("{}: {other:?} on {:?}", L::NAME, here()),
        })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), n, "{}", L::NAME);
}

/// Closed while objects are out on other threads: each is dropped by the thread that returns it, as
/// late as that comes, and the last one releases.
fn asynchronous<L: FreeList>() {
    let (pool, events) = told::<L>();
    let mut out: Vec<_> = (0..7).map(|_| Out(pool.pop().expect("free"))).collect();
    pool.close();
    drops_here::<L>(events.try_iter().collect(), CAPACITY - 7);
    while let Some(one) = out.pop() {
        let last = out.is_empty();
        let pool = Arc::clone(&pool);
        let thread = thread::spawn(move || {
            push(&pool, one);
            here()
        });
        let id = thread.join().expect("no panic");
        let told: Vec<Event> = events.try_iter().collect();
        assert!(matches!(told[0], Event::Dropped(_, thread) if thread == id), "{told:?}");
        assert_eq!(told.len(), 1 + usize::from(last), "{}: {told:?}", L::NAME);
        assert!(!last || told[1] == Event::Released(id), "{told:?}");
    }
}

/// The same, all at once: returning and closing race.
fn racing<L: FreeList>() {
    for _ in 0..30 {
        let (pool, events) = told::<L>();
        thread::scope(|s| {
            for _ in 0..4 {
                let out = [(); 3].map(|()| Out(pool.pop().expect("free")));
                let pool = &pool;
                s.spawn(move || out.into_iter().for_each(|one| push(pool, one)));
            }
            s.spawn(|| pool.close());
        });
        let mut events: Vec<Event> = events.try_iter().collect();
        assert!(matches!(events.pop(), Some(Event::Released(_))), "{}: last", L::NAME);
        let mut numbers: Vec<usize> = events
            .into_iter()
            .map(|event| match event {
                Event::Dropped(number, _) => number,
                Event::Released(_) => panic!("{}: released twice", L::NAME),
            })
            .collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..CAPACITY), "{}: each once", L::NAME);
    }
}

/// Never closed, with objects out: the drop of the pool releases, and what is out is nobody's.
fn dropped_in_use<L: FreeList>() {
    let (pool, events) = told::<L>();
    let out = [pool.pop(), pool.pop()];
    drop(pool);
    ends_here::<L>(events.try_iter().collect(), CAPACITY - out.len());
}

macro_rules! every_list {
    ($($test:ident),*) => {$(
        mod $test {
            use super::*;

            #[test]
            fn every_list() {
                super::$test::<RseqLifo>();
                super::$test::<FlagArray>();
                super::$test::<Bitmap>();
                super::$test::<PerCpuList>();
                super::$test::<RingArray>();
                super::$test::<FlatArray>();
                super::$test::<CasLifo>();
            }
        }
    )*};
}

every_list!(synchronous, asynchronous, racing, dropped_in_use);

static POOL: AtomicPtr<&'static dyn Pool> = AtomicPtr::new(ptr::null_mut());
static CLOSED: AtomicUsize = AtomicUsize::new(0);

/// None of those that other tests of this program handle (`nested`), at the same time.
const SIGNAL: c_int = libc::SIGIO;

extern "C" fn closes(_signal: c_int) {
    // SAFETY: null, or a leaked reference.
    if let Some(pool) = unsafe { POOL.load(Ordering::Acquire).as_ref() } {
        pool.close();
        CLOSED.fetch_add(1, Ordering::Release);
    }
}

/// `close` in a signal handler, over a thread that is anywhere in pop and push.
#[test]
fn closed_over_pop_and_push() {
    // SAFETY: an all-zero sigaction is a valid one without flags and with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = closes as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler keeps to the pool and to atomics.
    assert_eq!(unsafe { libc::sigaction(SIGNAL, &action, ptr::null_mut()) }, 0);
    for kind in ALL {
        for round in 0..40 {
            closed_over(kind, round);
        }
    }
}

fn closed_over(kind: Kind, round: u32) {
    static RELEASED: AtomicUsize = AtomicUsize::new(0);
    RELEASED.store(0, Ordering::Relaxed);
    let closed = CLOSED.load(Ordering::Acquire);
    let builder = Builder::new(4, layout(16)).on_release(|| {
        RELEASED.fetch_add(1, Ordering::Relaxed);
    });
    let pool: &'static dyn Pool = Box::leak(kind.build(builder).expect("memory"));
    POOL.store(Box::into_raw(Box::new(pool)), Ordering::Release);
    thread::scope(|s| {
        let (to, from) = mpsc::channel();
        s.spawn(move || {
            // SAFETY: takes nothing.
            to.send(unsafe { libc::pthread_self() }).expect("the other side lives");
            loop {
                match (crate::common::take(pool, 1), crate::common::take(pool, 1)) {
                    (None, None) if CLOSED.load(Ordering::Acquire) != closed => break,
                    pair => [pair.0, pair.1]
                        .into_iter()
                        .flatten()
                        .for_each(|owned| crate::common::give(pool, owned)),
                }
            }
        });
        let worker = from.recv().expect("it runs");
        (0..round * 50).for_each(|_| std::hint::spin_loop());
        // SAFETY: the worker lives until the pool is closed.
        assert_eq!(unsafe { libc::pthread_kill(worker, SIGNAL) }, 0);
    });
    POOL.store(ptr::null_mut(), Ordering::Release);
    assert_eq!(RELEASED.load(Ordering::Relaxed), 1, "{kind:?}: every object came back");
    assert_eq!(pool.statistics().in_use, 0);
}
