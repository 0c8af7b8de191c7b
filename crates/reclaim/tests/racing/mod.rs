//! Threads that ThreadSanitizer sees whole, for the stresses in `races.rs` of several crates.

use std::ffi::c_void;
use std::ptr;

/// One thread's part of a race.
struct Task<'a> {
    f: &'a (dyn Fn(usize, u64) + Sync),
    thread: usize,
    rounds: u64,
}

/// Runs `f(thread, round)` on threads of two waves, so that threads end while others work.
///
/// Threads of the C library, which ThreadSanitizer sees begin and end; what std shares with its
/// threads comes without instrumentation. A panic in one ends the process.
pub(crate) fn race(name: &str, threads: usize, rounds: u64, f: impl Fn(usize, u64) + Sync) {
    for _ in 0..2 {
        let tasks: Vec<_> = (0..threads).map(|thread| Task { f: &f, thread, rounds }).collect();
        let mut started = Vec::new();
        for task in &tasks {
            let mut id: libc::pthread_t = 0;
            let task = ptr::from_ref(task).cast_mut().cast::<c_void>();
            // SAFETY: `run` takes a task, which outlives the thread: it is joined below.
            let error = unsafe { libc::pthread_create(&mut id, ptr::null(), run, task) };
            assert_eq!(error, 0, "a thread");
            started.push(id);
        }
        for id in started {
            // SAFETY: started above, joined once.
            assert_eq!(unsafe { libc::pthread_join(id, ptr::null_mut()) }, 0);
        }
    }
    println!("{name}: {threads} threads, {rounds} rounds each, twice");
}

extern "C" fn run(task: *mut c_void) -> *mut c_void {
    // SAFETY: see `race`.
    let task = unsafe { &*task.cast::<Task<'_>>() };
    (0..task.rounds).for_each(|round| (task.f)(task.thread, round));
    ptr::null_mut()
}
