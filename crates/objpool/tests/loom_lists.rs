//! Models of the free lists: every interleaving (up to three preemptions) of a few operations. An
//! object given twice is a data race on its cell; lost ones are missed at the end.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;
use objpool::{
    Bitmap, CasLifo, FlagArray, FlatArray, FreeList, PerCpuList, RingArray,
    model::{Plan, Waiting},
};

struct Pool<L> {
    list: L,
    waiting: Waiting,
    objects: Vec<UnsafeCell<u32>>,
}

impl<L: FreeList> Pool<L> {
    fn new(capacity: u32) -> Arc<Self> {
        let list = L::new(&Plan { slots: 1, ..Plan::new(capacity) }).expect("memory");
        let waiting = Waiting::new();
        Arc::new(Self {
            list,
            waiting,
            objects: (0..capacity).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    /// Pops and writes: loom sees two owners, and an owner that does not see the last one's write,
    /// as a race.
    fn pop(&self) -> Option<u32> {
        let index = self.list.pop()?.index;
        self.objects[index as usize].with_mut(|object| {
            // SAFETY: this thread owns the object; that is what loom checks.
            unsafe { *object += 1 };
        });
        Some(index)
    }

    fn push(&self, index: u32) {
        self.list.push(index);
    }
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(f);
}

/// Two threads with one object each and two objects: pop never misses, and at the end both are
/// there.
fn two_threads_two_objects<L: FreeList>() {
    model(|| {
        let pool = Pool::<L>::new(2);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let index = pool.pop().expect("two objects, two threads");
                pool.push(index);
            })
        };
        for _ in 0..2 {
            let index = pool.pop().expect("two objects, two threads");
            pool.push(index);
        }
        other.join().expect("no panic");
        let both = (pool.pop(), pool.pop(), pool.pop());
        assert!(matches!(both, (Some(a), Some(b), None) if a != b), "{both:?}");
    });
}

/// The ABA case: one thread takes two and gives back the first, while the other takes one.
fn take_two_give_one<L: FreeList>() {
    model(|| {
        let pool = Pool::<L>::new(3);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.pop().expect("three objects, at most two elsewhere"))
        };
        let (a, b) = (pool.pop().expect("free"), pool.pop().expect("free"));
        pool.push(a);
        let held = other.join().expect("no panic");
        pool.push(b);
        pool.push(held);
        let mut all: Vec<u32> = std::iter::from_fn(|| pool.pop()).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
    });
}

macro_rules! models {
    ($($name:ident: $list:ty),*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn never_misses() {
                two_threads_two_objects::<$list>();
            }

            #[test]
            fn no_aba() {
                take_two_give_one::<$list>();
            }
        }
    )*};
}

models!(
    cas_lifo: CasLifo, flat_array: FlatArray, ring_array: RingArray, percpu_list: PerCpuList,
    bitmap: Bitmap, flag_array: FlagArray
);

/// The closing of the one list whose push is a plain store: the object of a push that the drain
/// missed is drained by the push.
#[test]
fn flag_array_late_push() {
    model(|| {
        let pool = Pool::<FlagArray>::new(1);
        let index = pool.pop().expect("one is free");
        let pusher = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                pool.list.push(index);
                pool.list.settle();
                if pool.waiting.is_quiet() { None } else { pool.list.drain() }
            })
        };
        assert!(pool.waiting.close());
        pool.list.close();
        let drained = [pool.list.drain(), pusher.join().expect("no panic")];
        assert_eq!(drained.into_iter().flatten().count(), 1, "dropped once: {drained:?}");
    });
}
