//! A pool that a signal handler uses over the very code that it interrupts.

use objpool::{Builder, DefaultPool, RseqLifo};
use std::alloc::Layout;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static POOL: OnceLock<DefaultPool> = OnceLock::new();
static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_signal(_signal: i32) {
    if let Some(pool) = POOL.get()
        && let Some(object) = pool.pop()
    {
        // SAFETY: 64 bytes, aligned to 8, owned by this handler.
        unsafe { object.cast::<u64>().write(1) };
        // SAFETY: popped above, not used any more.
        if unsafe { pool.push(object) }.is_ok() {
            HANDLED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn main() -> Result<(), objpool::BuildError> {
    // What the first operation would do otherwise, maybe inside the handler.
    percpu::init();
    let pool = Builder::new(64, Layout::new::<[u64; 8]>()).build::<RseqLifo>()?;
    let pool = POOL.get_or_init(|| pool);
    // SAFETY: the handler keeps to the pool and to atomics.
    unsafe { libc::signal(libc::SIGUSR1, on_signal as *const () as usize) };
    for round in 0..1_000_000u32 {
        let object = pool.pop().expect("this thread and its handler use two of 64");
        if round.is_multiple_of(1000) {
            // SAFETY: the handler is installed.
            unsafe { libc::raise(libc::SIGUSR1) };
        }
        // SAFETY: popped above, not used any more.
        unsafe { pool.push(object) }.expect("an object of this pool");
    }
    println!("{} signals handled; {:?}", HANDLED.load(Ordering::Relaxed), pool.statistics());
    Ok(())
}
