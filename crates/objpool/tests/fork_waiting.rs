//! Fork while threads wait: the child knows nothing of the parent's waiters, its own wait and are
//! woken, and the parent's go on as before.
#![cfg(not(loom))]

mod common;

use common::{ALL, Kind, give, take, until_waiting, wait};
use objpool::Pool;
use std::ffi::c_int;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

/// After which a child that hangs is killed by its own alarm: it is the parent's wait that fails.
const HANGS: u32 = 60;

fn exit_code(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is writable, `pid` is a child of this process.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status), "the child ended by itself: {status:#x}");
    libc::WEXITSTATUS(status)
}

/// The pool for the threads of a child, which share nothing else with it.
static POOL: AtomicPtr<&'static dyn Pool> = AtomicPtr::new(ptr::null_mut());

fn pool() -> &'static dyn Pool {
    // SAFETY: set to a leaked reference by whoever starts what calls this.
    unsafe { *POOL.load(Ordering::Acquire) }
}

extern "C" fn waits(_: *mut std::ffi::c_void) -> *mut std::ffi::c_void {
    match pool().pop_wait() {
        // SAFETY: just popped.
        Some(object) if unsafe { pool().push(object) }.is_ok() => ptr::null_mut(),
        _ => ptr::dangling_mut(),
    }
}

/// Runs in the child: one thread, in whose hands is `object`, the only one that exists.
fn child(object: NonNull<u8>) -> i32 {
    // SAFETY: takes a number.
    unsafe { libc::alarm(HANGS) };
    let pool = pool();
    if pool.pop_timeout(Duration::from_millis(1)).is_some() {
        return 1;
    }
    let waits_before = pool.statistics().waits;
    let mut threads: [libc::pthread_t; 3] = [0; 3];
    for thread in &mut threads {
        // SAFETY: `waits` needs no argument.
        if unsafe { libc::pthread_create(thread, ptr::null(), waits, ptr::null_mut()) } != 0 {
            return 2;
        }
    }
    until_waiting(pool, waits_before + 3);
    // SAFETY: this thread's own, as the parent's was.
    if unsafe { pool.push(object) }.is_err() {
        return 3;
    }
    for thread in threads {
        let mut failed = ptr::null_mut();
        // SAFETY: started above, joined once.
        if unsafe { libc::pthread_join(thread, &mut failed) } != 0 || !failed.is_null() {
            return 4;
        }
    }
    match pool.pop() {
        // SAFETY: just popped.
        Some(object) if unsafe { pool.push(object) }.is_ok() => 0,
        _ => 5,
    }
}

fn forks_while_others_wait(kind: Kind) {
    let leaked: &'static dyn Pool = Box::leak(kind.pool(1, 16));
    POOL.store(Box::into_raw(Box::new(leaked)), Ordering::Release);
    let object = leaked.pop().expect("one is free");
    thread::scope(|s| {
        for who in 1..=3 {
            s.spawn(move || give(leaked, wait(leaked, who).expect("it comes back")));
        }
        until_waiting(leaked, 3);
        for _ in 0..5 {
            // SAFETY: the child calls the pool, the C library's threads and _exit.
            let pid = unsafe { libc::fork() };
            assert!(pid >= 0, "fork");
            if pid == 0 {
                let code = child(object);
                // SAFETY: ends the child without running anything of the parent's.
                unsafe { libc::_exit(code) };
            }
            assert_eq!(
                exit_code(pid),
                0,
                "{kind:?}: 1 an object from nowhere, 2 no thread, 3 a push refused, 4 a waiter \
                 failed, 5 the object is gone"
            );
        }
        // SAFETY: popped above.
        unsafe { leaked.push(object) }.expect("it is out");
    });
    common::check_full(leaked);
}

#[test]
fn fork_while_others_wait() {
    let _one = ONE_AT_A_TIME.lock();
    ALL.into_iter().for_each(forks_while_others_wait);
}

/// Pool pointer, signals and timers belong to the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// What the parent's handler has to say of its fork.
static CHILD: AtomicI32 = AtomicI32::new(0);
static OBJECT: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Over a thread that waits: forks. In the child it has a look at the pool, so that everything that
/// belongs to the parent is forgotten, and asks for the second handler.
extern "C" fn forks(_signal: c_int) {
    // SAFETY: the child goes on to wait; that is the test.
    let pid = unsafe { libc::fork() };
    if pid != 0 {
        CHILD.store(pid, Ordering::Release);
        return;
    }
    if pool().pop().is_some() {
        // SAFETY: ends the child.
        unsafe { libc::_exit(10) };
    }
    let after = |tv_usec| libc::timeval { tv_sec: 0, tv_usec };
    let once = libc::itimerval { it_interval: after(0), it_value: after(20_000) };
    // SAFETY: the time is readable.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &once, ptr::null_mut()) };
}

/// In the child, whose one thread sleeps: gives it what it waits for.
extern "C" fn pushes(_signal: c_int) {
    if let Some(object) = NonNull::new(OBJECT.swap(ptr::null_mut(), Ordering::AcqRel)) {
        // SAFETY: the object that the parent's main thread holds; here it is nobody else's.
        if unsafe { pool().push(object) }.is_err() {
            // SAFETY: ends the child.
            unsafe { libc::_exit(11) };
        }
        // SAFETY: takes a number: what does not end now hangs.
        unsafe { libc::alarm(HANGS) };
        return;
    }
    // SAFETY: ends the child.
    unsafe { libc::_exit(12) };
}

/// The thread that waits is the one that lives on in the child: its call is started again by the
/// kernel, and what another handler pushes there must reach it.
#[test]
fn a_thread_that_waits_forks_from_a_handler() {
    let _one = ONE_AT_A_TIME.lock();
    for (signal, handler) in [(libc::SIGUSR2, forks as *const ()), (libc::SIGALRM, pushes as _)] {
        // SAFETY: an all-zero sigaction is a valid one without flags and with an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handlers keep to the pool, to fork and to atomics.
        assert_eq!(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) }, 0);
    }
    for kind in ALL {
        let leaked: &'static dyn Pool = Box::leak(kind.pool(1, 16));
        POOL.store(Box::into_raw(Box::new(leaked)), Ordering::Release);
        let mine = take(leaked, 1).expect("one is free");
        CHILD.store(0, Ordering::Release);
        thread::scope(|s| {
            // SAFETY: takes nothing.
            let parent = unsafe { libc::getpid() };
            let (to, from) = mpsc::channel();
            s.spawn(move || {
                // SAFETY: takes nothing.
                to.send(unsafe { libc::pthread_self() }).expect("the other side lives");
                let got = leaked.pop_wait();
                // SAFETY: takes nothing.
                if unsafe { libc::getpid() } != parent {
                    // SAFETY: ends the child.
                    unsafe { libc::_exit(if got.is_some() { 0 } else { 13 }) };
                }
                // SAFETY: just popped.
                unsafe { leaked.push(got.expect("it comes back")) }.expect("it is out");
            });
            until_waiting(leaked, 1);
            // Asleep, most likely; right in any case.
            thread::sleep(Duration::from_millis(5));
            OBJECT.store(mine.address().as_ptr(), Ordering::Release);
            let waiter = from.recv().expect("the waiter sends it first");
            // SAFETY: the waiter lives until it gets what this thread holds.
            unsafe { libc::pthread_kill(waiter, libc::SIGUSR2) };
            while CHILD.load(Ordering::Acquire) == 0 {
                thread::yield_now();
            }
            assert_eq!(
                exit_code(CHILD.load(Ordering::Acquire)),
                0,
                "{kind:?}: 10 an object from nowhere, 11 a push refused, 12 never \
                 woken, 13 woken for nothing"
            );
            give(leaked, mine);
        });
        common::check_full(leaked);
    }
}
