//! A hit on a stack that was met before allocates nothing and makes no system call: both would end
//! this process.
#![allow(unsafe_code)]

mod common;

use common::{ROOMY, cell, hit, start};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use wire::cell::CALLS;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: the system's allocator, which is asked for exactly what was asked here.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// From here on, any system call but `write` and `exit_group` kills.
fn forbid_system_calls() {
    let filter = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let mut program = [
        filter(LOAD, 0, 0, 0),
        filter(EQUAL, 2, 0, libc::SYS_write as u32),
        filter(EQUAL, 1, 0, libc::SYS_exit_group as u32),
        filter(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        filter(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    assert_eq!(
        // SAFETY: the program lives through the call, which copies it.
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) },
        0
    );
}

/// What the child does; its exit code.
fn child(hits: impl Fn()) -> i32 {
    let (mut allocations, mut calls) = (0, 0);
    // One loop: another one would call from another place, whose address is new.
    for round in 0..220 {
        // By now everything was seen once, and whoever remembers stacks has remembered them or
        // given up.
        if round == 20 {
            (allocations, calls) = (ALLOCATIONS.load(Ordering::Relaxed), cell(CALLS));
            forbid_system_calls();
        }
        hits();
    }
    if ALLOCATIONS.load(Ordering::Relaxed) != allocations {
        return 3;
    }
    if cell(CALLS) == calls { 4 } else { 0 }
}

fn in_child(hits: impl Fn()) {
    start(ROOMY);
    // SAFETY: the child runs what is below on its only thread, and ends there.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let code = child(hits);
        // SAFETY: ends the process, without any handlers.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: our child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(!libc::WIFSIGNALED(status), "a system call (signal {})", libc::WTERMSIG(status));
    assert_eq!(libc::WEXITSTATUS(status), 0, "3: an allocation; 4: no hits");
}

#[test]
fn the_same_stack() {
    in_child(|| (0..100).for_each(|_| hit(1)));
}

#[test]
fn many_stacks() {
    in_child(|| (0..500).for_each(hit));
}

/// What a first hit does with system calls that fail is nothing that the program sees.
#[test]
fn errno_is_left_alone() {
    start(ROOMY);
    std::thread::spawn(|| {
        // SAFETY: every thread has one.
        let place = unsafe { libc::__errno_location() };
        // SAFETY: the thread's own.
        let errno = unsafe { &mut *place };
        for stack in 0..600 {
            *errno = 1000 + stack as i32;
            hit(stack);
            assert_eq!(*errno, 1000 + stack as i32);
        }
    })
    .join()
    .expect("errno is the same");
}
