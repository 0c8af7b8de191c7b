//! Threads, with the interface of `std::thread`.

use crate::time::{self, picoseconds};
use crate::{context, scheduler};
use core::ffi::c_void;
use core::time::Duration;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// What a thread has returned, once it has.
type Packet<T> = Arc<Mutex<Option<std::thread::Result<T>>>>;

/// Permission to wait for a thread's end.
pub struct JoinHandle<T> {
    thread: usize,
    result: Packet<T>,
}

impl<T> JoinHandle<T> {
    /// Waits until the thread has ended.
    ///
    /// # Errors
    /// The thread panicked: with what.
    ///
    /// # Panics
    /// Outside of the simulation.
    pub fn join(self) -> std::thread::Result<T> {
        context::await_turn();
        let ended = context::expect(|world| {
            let ended = world.scheduler.join(self.thread);
            if !ended {
                world.scheduler.spend(world.scheduler.machine.costs.system_call);
                world.scheduler.block("joins a thread", None);
            }
            ended
        });
        if !ended {
            context::suspend();
        }
        let result = self.result.lock().expect("no panic under the lock").take();
        result.expect("a thread ends after it has left its result")
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        context::await_turn();
        self.result.lock().expect("no panic under the lock").is_some()
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// Starts a thread on the CPU that has the fewest.
///
/// # Panics
/// Outside of a simulation.
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    start(None, f)
}

/// Starts a thread that stays on one CPU.
///
/// # Panics
/// Outside of a simulation, and if there is no such CPU.
pub fn spawn_on<F, T>(cpu: usize, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let cpus = context::expect(|world| world.scheduler.machine.cpus);
    assert!(cpu < cpus, "CPU {cpu} of {cpus}");
    start(Some(cpu), f)
}

fn start<F, T>(pinned: Option<usize>, f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    context::await_turn();
    context::expect(|world| world.scheduler.spend(world.scheduler.machine.costs.system_call));
    let result = Packet::default();
    let theirs = Arc::clone(&result);
    let thread = context::spawn(pinned, move || {
        let outcome = catch_unwind(AssertUnwindSafe(f));
        *theirs.lock().expect("no panic under the lock") = Some(outcome);
    });
    JoinHandle { thread, result }
}

/// A system call that lets the other threads of this CPU run.
pub fn yield_now() {
    context::await_turn();
    let others = context::with(|world| {
        world.scheduler.spend(world.scheduler.machine.costs.system_call);
        world.scheduler.yield_now()
    });
    if others == Some(true) {
        context::suspend();
    }
}

/// Sleeps for a time.
///
/// # Panics
/// Outside of a simulation.
pub fn sleep(duration: Duration) {
    context::await_turn();
    context::expect(|world| {
        world.scheduler.spend(world.scheduler.machine.costs.system_call);
        let until = world.scheduler.now() + picoseconds(duration);
        world.scheduler.block("sleeps for a time", Some(until));
    });
    context::suspend();
}

/// The number of the running thread: 0 for the first of a simulation, and so on in the order of
/// their starts. 0 outside of one.
///
/// All threads of a simulation are one to `thread_local!`; what has to be theirs alone goes by this
/// number.
pub fn index() -> usize {
    context::with(|world| world.scheduler.current()).unwrap_or(0)
}

/// The CPU on which the running thread is; 0 outside of a simulation.
pub fn cpu() -> usize {
    time::settle();
    context::with(|world| world.scheduler.current_cpu()).unwrap_or(0)
}

/// How many CPUs the machine has; 1 outside of a simulation.
pub fn cpus() -> usize {
    context::with(|world| world.scheduler.machine.cpus).unwrap_or(1)
}

/// Whether this runs on a simulated machine.
pub fn is_simulated() -> bool {
    context::with(|_| ()).is_some()
}

/// Pointers that each thread has: see [`word`].
pub const WORDS: usize = scheduler::WORDS;

/// One of the running thread's own pointers, null when it starts: what `thread_local!` is to code
/// that runs elsewhere. Costs a load. Null outside of a simulation.
///
/// # Panics
/// `number` is not below [`WORDS`].
#[inline]
pub fn word(number: usize) -> *mut () {
    context::with(|world| {
        world.scheduler.spend(world.scheduler.machine.costs.hit);
        world.scheduler.words()[number]
    })
    .unwrap_or(core::ptr::null_mut())
}

/// Sets a pointer of the running thread. Costs a store.
///
/// # Panics
/// `number` is not below [`WORDS`], or outside of a simulation.
#[inline]
pub fn set_word(number: usize, value: *mut ()) {
    context::expect(|world| {
        world.scheduler.spend(world.scheduler.machine.costs.hit);
        world.scheduler.words()[number] = value;
    });
}

/// The running thread calls this at its end, with null, before those who join it go on: once,
/// however often it is asked to; again if it is asked meanwhile, up to four times.
///
/// # Panics
/// Outside of a simulation.
pub fn at_end(function: extern "C" fn(*mut c_void)) {
    context::expect(|world| {
        let functions = world.scheduler.at_end();
        if !functions.iter().any(|known| core::ptr::fn_addr_eq(*known, function)) {
            functions.push(function);
        }
    });
}
