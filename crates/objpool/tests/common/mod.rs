//! What the tests of all pools share: the ownership oracle, and every pool by name.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]

use objpool::{
    Bitmap, BuildError, Builder, CasLifo, FlagArray, FlatArray, PerCpuList, Pool, RingArray,
    RseqLifo,
};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// The default list, in each of its modes, and all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Default,
    DefaultWithoutRseq,
    FlagArray,
    Bitmap,
    PerCpuList,
    RingArray,
    FlatArray,
    CasLifo,
}

pub const ALL: [Kind; 8] = [
    Kind::Default,
    Kind::DefaultWithoutRseq,
    Kind::FlagArray,
    Kind::Bitmap,
    Kind::PerCpuList,
    Kind::RingArray,
    Kind::FlatArray,
    Kind::CasLifo,
];

impl Kind {
    pub fn build(self, builder: Builder) -> Result<Box<dyn Pool>, BuildError> {
        Ok(match self {
            Self::Default => Box::new(builder.build::<RseqLifo>()?),
            Self::DefaultWithoutRseq => Box::new(builder.rseq(false).build::<RseqLifo>()?),
            Self::FlagArray => Box::new(builder.build::<FlagArray>()?),
            Self::Bitmap => Box::new(builder.build::<Bitmap>()?),
            Self::PerCpuList => Box::new(builder.build::<PerCpuList>()?),
            Self::RingArray => Box::new(builder.build::<RingArray>()?),
            Self::FlatArray => Box::new(builder.build::<FlatArray>()?),
            Self::CasLifo => Box::new(builder.build::<CasLifo>()?),
        })
    }

    /// `capacity` objects of `size` bytes.
    pub fn pool(self, capacity: usize, size: usize) -> Box<dyn Pool> {
        self.build(Builder::new(capacity, layout(size))).expect("memory")
    }
}

pub fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a layout")
}

/// An object that this test owns, checked: its first word names the owner, 0 while it is free, and
/// the last word follows the first.
#[derive(Debug)]
pub struct Owned {
    object: NonNull<u8>,
    who: u64,
}

impl Owned {
    pub fn address(&self) -> NonNull<u8> {
        self.object
    }
}

// SAFETY: an object is memory that one thread uses at a time.
unsafe impl Send for Owned {}

fn owner(object: NonNull<u8>) -> &'static AtomicU64 {
    // SAFETY: objects are zeroed, aligned to 8, at least 8 bytes long, and used through atomics
    // only; the tests keep the pool for longer.
    unsafe { object.cast::<AtomicU64>().as_ref() }
}

/// Pops, and fails the test if the object has an owner.
pub fn take(pool: &dyn Pool, who: u64) -> Option<Owned> {
    own(pool, pool.pop()?, who)
}

/// As [`take`], waiting.
pub fn wait(pool: &dyn Pool, who: u64) -> Option<Owned> {
    own(pool, pool.pop_wait()?, who)
}

/// As [`wait`], for a while.
pub fn wait_for(pool: &dyn Pool, who: u64, time: Duration) -> Option<Owned> {
    own(pool, pool.pop_timeout(time)?, who)
}

fn own(pool: &dyn Pool, object: NonNull<u8>, who: u64) -> Option<Owned> {
    if let Err(other) = owner(object).compare_exchange(0, who, Ordering::Acquire, Ordering::Relaxed)
    {
        panic!("{}: object {object:?} of {other} was given to {who}", pool.name());
    }
    Some(Owned { object, who })
}

/// Pushes, and fails the test if somebody else wrote into the object meanwhile.
pub fn give(pool: &dyn Pool, owned: Owned) {
    let Owned { object, who } = owned;
    if let Err(other) = owner(object).compare_exchange(who, 0, Ordering::Release, Ordering::Relaxed)
    {
        panic!("{}: object {object:?} of {who} is {other}'s", pool.name());
    }
    // SAFETY: popped by `take`, not used after.
    unsafe { pool.push(object) }.expect("an object that is out");
}

/// Until `waits` pops of this pool have had to wait, or have just begun to.
pub fn until_waiting(pool: &dyn Pool, waits: u64) {
    while pool.statistics().waits < waits {
        thread::yield_now();
    }
}

/// Takes everything out and puts it back: each object is there, once.
pub fn check_full(pool: &dyn Pool) {
    assert_eq!(pool.statistics().in_use, 0, "{}: everything is back", pool.name());
    let all: Vec<Owned> = std::iter::from_fn(|| take(pool, u64::MAX)).collect();
    assert_eq!(all.len(), pool.capacity(), "{}: drained", pool.name());
    assert_eq!(pool.statistics().in_use, pool.capacity());
    all.into_iter().for_each(|owned| give(pool, owned));
    assert_eq!(pool.statistics().in_use, 0);
}

/// Keeps this thread on the `n`-th CPU of the machine that it may use; if there is none, where it
/// was.
pub fn pin(n: usize) {
    // SAFETY: takes nothing.
    put(unsafe { libc::pthread_self() }, n);
}

/// Keeps a thread that lives on the `n`-th CPU that this process may use.
pub fn put(thread: libc::pthread_t, n: usize) {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // The first thread's, which no test pins: a thread may be put here and there.
    let process = std::process::id().cast_signed();
    // SAFETY: `allowed` is writable for its size.
    let r = unsafe { libc::sched_getaffinity(process, size_of_val(&allowed), &mut allowed) };
    assert_eq!(r, 0);
    // SAFETY: every number is below CPU_SETSIZE.
    let Some(cpu) = (0..libc::CPU_SETSIZE as usize)
        .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &allowed) })
        .nth(n)
    else {
        return;
    };
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut one) };
    // SAFETY: the thread lives, `one` is readable for its size.
    assert_eq!(unsafe { libc::pthread_setaffinity_np(thread, size_of_val(&one), &one) }, 0);
}

/// A small generator: the tests need variety, not quality.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
