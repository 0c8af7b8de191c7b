//! Threads of the model as coroutines on one thread of the system, and how the code in them finds
//! the machine on which it runs.

#![allow(unsafe_code)]

use crate::events::Event;
use crate::scheduler::Turn;
use crate::world::{Operation, Step, World};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};
use std::panic::Location;

/// Stack of a modelled thread. Pages that it never touches cost nothing.
const STACK: usize = 256 * 1024;

type Task = Coroutine<(), (), ()>;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    /// The coroutines, by thread. `None` for one that runs, has ended, or cannot be resumed.
    static TASKS: RefCell<Vec<Option<Task>>> = const { RefCell::new(Vec::new()) };
    /// How the running coroutine suspends itself.
    static YIELDER: Cell<*const Yielder<(), ()>> = const { Cell::new(std::ptr::null()) };
}

/// Calls `f` with the machine that this code runs on. `None`: it runs on none. A thread that
/// unwinds does neither wait nor take time: two unwinding threads at once would be one too many for
/// the one thread of the system on which both run.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(&mut World) -> R) -> Option<R> {
    if std::thread::panicking() {
        return None;
    }
    // What runs at the end of the system's thread runs on no machine.
    WORLD.try_with(|world| world.borrow_mut().as_mut().map(f)).ok().flatten()
}

/// [`with`], where it makes no sense elsewhere.
///
/// # Panics
/// Outside of a simulation.
#[track_caller]
pub(crate) fn expect<R>(f: impl FnOnce(&mut World) -> R) -> R {
    with(f).expect("inside of a simulation, and not while a panic unwinds")
}

/// Lets others run until the scheduler comes back to the running thread.
pub(crate) fn suspend() {
    let yielder = YIELDER.get();
    assert!(!yielder.is_null(), "only threads of the model suspend");
    // SAFETY: `spawn` stored it at the start of the coroutine that runs, and `resume` puts it back
    // whenever it goes on: it lies on this coroutine's own stack, which exists while this runs.
    let yielder = unsafe { &*yielder };
    yielder.suspend(());
    YIELDER.set(yielder);
}

/// Returns when the running thread may do what others can see.
pub(crate) fn await_turn() {
    while with(|world| world.scheduler.turn()) == Some(Turn::Later) {
        suspend();
    }
}

/// Does to the line of an address what the operation does. What it does to the value, the caller
/// does after this returns, before anything else.
#[inline]
pub(crate) fn access(address: usize, operation: &Operation, location: &'static Location<'static>) {
    loop {
        match with(|world| world.access(address, operation, location)) {
            None | Some(Step::Done) => return,
            Some(Step::Later) => suspend(),
            Some(Step::Queued(place, since)) => {
                suspend();
                with(|world| world.count_granted(place, since, operation, location));
                return;
            }
        }
    }
}

/// A new thread of the machine that runs `body`, on the given CPU or on any. If `body` panics, the
/// simulation does.
pub(crate) fn spawn(pinned: Option<usize>, body: impl FnOnce() + 'static) -> usize {
    let stack = DefaultStack::new(STACK).expect("memory for a stack");
    let task = Coroutine::with_stack(stack, |yielder: &Yielder<(), ()>, ()| {
        YIELDER.set(yielder);
        body();
        end();
    });
    let thread = expect(|world| world.scheduler.spawn(pinned));
    TASKS.with_borrow_mut(|tasks| {
        debug_assert_eq!(tasks.len(), thread, "threads and coroutines have the same numbers");
        tasks.push(Some(task));
    });
    thread
}

/// Calls what the running thread has registered for its end, also what registers itself anew then:
/// as often as POSIX has it for the destructors of keys.
fn end() {
    for _ in 0..4 {
        let functions = expect(|world| std::mem::take(world.scheduler.at_end()));
        if functions.is_empty() {
            return;
        }
        functions.into_iter().for_each(|function| function(std::ptr::null_mut()));
    }
}

/// Takes the machine away, also when a panic unwinds. Coroutines that are dropped unwind, too, and
/// what their destructors touch belongs to no machine any more.
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        drop(WORLD.take());
        drop(TASKS.take());
    }
}

/// Runs `main` as the first thread of the machine, until all threads have ended. Returns the
/// machine as it is then.
///
/// # Panics
/// Inside of a simulation; and where all threads that are left wait for each other.
pub(crate) fn run(world: World, main: impl FnOnce() + 'static) -> World {
    WORLD.with_borrow_mut(|current| {
        assert!(current.is_none(), "a simulation inside of a simulation");
        *current = Some(world);
    });
    let installed = Installed;
    spawn(None, main);
    while let Some((at, event)) = expect(|world| world.scheduler.events.next()) {
        match event {
            Event::Run(cpu) => resume(expect(|world| world.scheduler.resume(cpu, at))),
            Event::Grant(place) => {
                if let Some(thread) = expect(|world| world.grant(place, at)) {
                    resume(thread);
                }
            }
            Event::Timeout(thread, sleep) => expect(|world| world.timeout(thread, sleep, at)),
        }
    }
    let stuck: Vec<String> = expect(|world| {
        let unfinished = world.scheduler.unfinished();
        unfinished.map(|(thread, state)| format!("thread {thread}: {state:?}")).collect()
    });
    assert!(stuck.is_empty(), "deadlock: nothing can happen any more: {}", stuck.join(", "));
    let world = WORLD.take().expect("installed above");
    drop(installed);
    world
}

/// Runs the thread until it suspends or ends.
fn resume(thread: usize) {
    let task = TASKS.with_borrow_mut(|tasks| tasks[thread].take());
    let mut task = task.expect("a thread that has events has not ended");
    match task.resume(()) {
        CoroutineResult::Yield(()) => TASKS.with_borrow_mut(|tasks| tasks[thread] = Some(task)),
        CoroutineResult::Return(()) => expect(|world| world.scheduler.end()),
    }
}
