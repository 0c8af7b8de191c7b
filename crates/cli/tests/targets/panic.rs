//! Rust panics through probed frames: caught by `catch_unwind`, with destructors, resumed, in
//! threads; a last one that nobody catches.
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static DROPPED: AtomicU64 = AtomicU64::new(0);
static PANICS: AtomicU64 = AtomicU64::new(0);
static DEEPS: AtomicU64 = AtomicU64::new(0);

struct Guard(String);
impl Drop for Guard {
    fn drop(&mut self) {
        DROPPED.fetch_add(self.0.len() as u64, Relaxed);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
fn t_panic(n: u64) -> u64 {
    PANICS.fetch_add(1, Relaxed);
    let _guard = Guard(n.to_string());
    if n % 2 == 0 {
        panic!("even {n}");
    }
    let numbers = vec![1, 2, 3];
    numbers[black_box(n as usize + 3)]
}

#[unsafe(no_mangle)]
#[inline(never)]
fn t_deep(n: u64, depth: u64) -> u64 {
    DEEPS.fetch_add(1, Relaxed);
    let _guard = Guard("x".repeat(depth as usize));
    let below = if depth == 0 { t_panic(n) } else { t_deep(n, depth - 1) };
    black_box(below) + 1
}

#[unsafe(no_mangle)]
#[inline(never)]
fn t_catch(n: u64) -> usize {
    let caught = catch_unwind(AssertUnwindSafe(|| t_deep(n, n % 12)));
    let payload = caught.expect_err("every call panics");
    match payload.downcast_ref::<String>() {
        Some(text) => text.len(),
        None => 0,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
fn t_resume(n: u64) -> usize {
    let again = catch_unwind(AssertUnwindSafe(|| {
        let payload = catch_unwind(AssertUnwindSafe(|| t_deep(n, 2))).expect_err("panics");
        resume_unwind(payload)
    }));
    again.map_or(7, |()| 0)
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut sum = 0;
    for n in 0..2000 {
        sum += t_catch(n);
    }
    for n in 0..100 {
        sum += t_resume(n);
    }
    let threads: Vec<_> = (0..4)
        .map(|t| std::thread::spawn(move || (0..500).map(|n| t_catch(n + t)).sum::<usize>()))
        .collect();
    for thread in threads {
        sum += thread.join().expect("the thread catches its panics");
    }
    let died = std::thread::spawn(|| t_deep(4, 4)).join().is_err();
    println!("sum {sum} dropped {} thread died {died}", DROPPED.load(Relaxed));
    // One more that ends the program with exit code 101; the names of the frames that it passes go
    // to standard error.
    println!("calls t_panic {}", PANICS.load(Relaxed) + 1);
    println!("calls t_deep {}", DEEPS.load(Relaxed) + 4);
    println!("calls t_catch 4000");
    println!("calls t_resume 100");
    std::panic::set_hook(Box::new(|info| {
        let trace = std::backtrace::Backtrace::force_capture().to_string();
        let names = trace.lines().filter_map(|line| line.split(": ").nth(1));
        for name in names.filter(|name| name.starts_with("t_")) {
            eprintln!("{name}");
        }
        eprintln!("{:?}", info.payload().downcast_ref::<String>());
    }));
    t_deep(6, 3);
}
