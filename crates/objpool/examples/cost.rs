//! What one pop + a write + one push costs on this machine, for each free list, beside malloc and
//! free.

use objpool::{
    Bitmap, Builder, CasLifo, FlagArray, FlatArray, FreeList, ObjectPool, PerCpuList, RawPool,
    RingArray, RseqLifo,
};
use std::alloc::Layout;
use std::hint::black_box;

/// A debug build shows that it works, and not what it costs.
const ROUNDS: u32 = if cfg!(debug_assertions) { 20_000 } else { 2_000_000 };

fn main() {
    let builder = || Builder::new(1024, Layout::new::<[u64; 8]>());
    for _ in 0..3 {
        measure("malloc + free", || {
            let mut object = Box::new([0u64; 8]);
            object[0] = 1;
            black_box(object);
        });
        raw(&builder().build::<RseqLifo>().expect("memory"), "");
        raw(&builder().rseq(false).build::<RseqLifo>().expect("memory"), ", rseq off");
        raw(&builder().build::<FlagArray>().expect("memory"), "");
        raw(&builder().build::<Bitmap>().expect("memory"), "");
        raw(&builder().build::<PerCpuList>().expect("memory"), "");
        raw(&builder().build::<RingArray>().expect("memory"), "");
        raw(&builder().build::<FlatArray>().expect("memory"), "");
        raw(&builder().build::<CasLifo>().expect("memory"), "");
        let typed: ObjectPool<[u64; 8]> = ObjectPool::new(1024, |_| [0; 8]).expect("memory");
        measure("guard, default", || {
            if let Some(mut object) = typed.pop() {
                object[0] = 1;
                black_box(&mut *object);
            }
        });
        println!();
    }
}

fn raw<L: FreeList>(pool: &RawPool<L>, note: &str) {
    measure(&format!("{}{note}", L::NAME), || {
        if let Some(object) = pool.pop() {
            // SAFETY: an object of 64 bytes, aligned to 8, owned by this thread.
            unsafe { black_box(object).cast::<u64>().write(1) };
            // SAFETY: popped above, not used any more.
            unsafe { pool.push(object) }.expect("an object of this pool");
        }
    });
}

fn measure(name: &str, mut pair: impl FnMut()) {
    let start = cpu_time();
    (0..ROUNDS).for_each(|_| pair());
    println!("{:6.2} ns  {name}", (cpu_time() - start) as f64 / f64::from(ROUNDS));
}

/// Nanoseconds that this thread has run: other programs on the machine disturb it less than the
/// wall clock.
fn cpu_time() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    let r = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(r, 0, "every Linux has this clock");
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
