//! One function, t_leaf, called from wherever Rust calls functions from: every way leaves a stack
//! of its own shape, which the test compares with gdb's.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{LazyLock, Once};

static LEAVES: AtomicU64 = AtomicU64::new(0);

#[unsafe(no_mangle)]
#[inline(never)]
fn t_leaf(n: u64) -> u64 {
    LEAVES.fetch_add(1, Relaxed);
    black_box(n)
}

trait Shape {
    fn area(&self, n: u64) -> u64;
    fn twice(&self, n: u64) -> u64 {
        self.area(n) + self.area(n + 1)
    }
}

struct Square(u64);
struct Nested<S>(Vec<S>);

impl Shape for Square {
    fn area(&self, n: u64) -> u64 {
        t_leaf(self.0) + n
    }
}

impl<S: Shape> Shape for Nested<S> {
    fn area(&self, n: u64) -> u64 {
        self.0.iter().map(|shape| shape.twice(n)).sum::<u64>() + t_leaf(n)
    }
}

impl Shape for Box<dyn Shape> {
    fn area(&self, n: u64) -> u64 {
        (**self).area(n) + t_leaf(1)
    }
}

fn shapes() -> u64 {
    let nested = Nested(vec![Square(4), Square(5)]);
    let inner: Vec<Box<dyn Shape>> = vec![Box::new(Square(3)), Box::new(nested)];
    black_box(Box::new(Nested(inner)) as Box<dyn Shape>).twice(6)
}

#[inline(never)]
fn generic<F: Fn(u64) -> u64, T: Into<u64>>(f: F, value: T) -> u64 {
    f(value.into()) + 1
}

fn closures() -> u64 {
    let base = black_box(5);
    let boxed: Box<dyn Fn(u64) -> u64> = Box::new(move |n| generic(|m| t_leaf(m) + base, n) + 1);
    let mut numbers: Vec<u64> = (0..30).map(|n| n * 7 % 31).collect();
    numbers.sort_by_key(|n| t_leaf(*n));
    numbers.sort_unstable_by(|a, b| t_leaf(*b).cmp(&t_leaf(*a)));
    let map: BTreeMap<u64, u64> = numbers.iter().map(|n| (t_leaf(*n), *n)).collect();
    generic(&boxed, 3u8)
        + generic(boxed, 4u32)
        + map.values().rev().take_while(|n| t_leaf(**n) > 20).sum::<u64>()
}

struct Guard(u64);
impl Drop for Guard {
    fn drop(&mut self) {
        t_leaf(self.0);
    }
}

#[inline(never)]
fn panics(n: u64) -> u64 {
    let _guard = Guard(n);
    if n == 0 {
        panic!("at the bottom");
    }
    panics(n - 1) + 1
}

fn caught(n: u64) -> u64 {
    let again = catch_unwind(AssertUnwindSafe(|| {
        let payload = catch_unwind(AssertUnwindSafe(|| panics(n))).expect_err("it panics");
        t_leaf(7);
        resume_unwind(payload)
    }));
    let len = |text: &&str| text.len() as u64;
    again.map_or_else(|payload| t_leaf(payload.downcast_ref::<&str>().map_or(0, len)), |()| 0)
}

static LAZY: LazyLock<u64> = LazyLock::new(|| t_leaf(8));
static ONCE: Once = Once::new();

thread_local! {
    static AT_END: RefCell<Option<Guard>> = const { RefCell::new(None) };
}

fn all() -> u64 {
    let mut sum = shapes() + closures();
    for n in 0..4 {
        sum += caught(n);
    }
    sum
}

fn main() {
    std::panic::set_hook(Box::new(|_| {
        t_leaf(9);
    }));
    ONCE.call_once(|| {
        t_leaf(10);
    });
    let mut sum = *LAZY;
    for round in 0..3 {
        sum += all();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                std::thread::spawn(move || {
                    AT_END.with(|place| *place.borrow_mut() = Some(Guard(round)));
                    all()
                })
            })
            .collect();
        let ends = threads.into_iter().map(|thread| thread.join().expect("it catches its panics"));
        sum += ends.sum::<u64>();
        sum += std::thread::scope(|scope| scope.spawn(|| t_leaf(round)).join().expect("no panic"));
        assert!(std::thread::spawn(|| panics(2)).join().is_err());
    }
    println!("sum {sum} leaves {}", LEAVES.load(Relaxed));
}
