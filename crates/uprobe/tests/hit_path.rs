//! Nothing is allocated and no system call is made at a hit.
#![allow(unsafe_code)]

mod common;

use common::{arm, arm_with, calls, cell, returns, through};
use patch::Liveness;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use uprobe::testing::Kind;
use uprobe::{Consumer, Context, Vectors, Verdict};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn arm_all() {
    fn entry(_: &mut Context, _: usize, cookie: &mut u64) -> Verdict {
        *cookie = 7;
        Verdict::Return
    }
    fn ret(_: &mut Context, _: usize, cookie: u64) {
        assert_eq!(cookie, 7);
    }
    arm(common::leaf_a as *const () as usize, Kind::Count(0));
    arm(common::leaf_b as *const () as usize, Kind::Pair(cell(0)));
    arm(common::leaf_c as *const () as usize, Kind::Time(cell(1)));
    arm_with(common::spin as *const () as usize, Kind::Time(cell(2)), &Liveness::ALL, true);
    arm(common::ping as *const () as usize, Kind::Time(cell(3)));
    arm(common::pong as *const () as usize, Kind::Time(cell(3)));
    let consumer = Consumer {
        entry: Some(entry),
        ret: Some(ret),
        span: None,
        busy: None,
        data: 0,
        vectors: Vectors::All,
        limit: 0,
    };
    arm(common::leaf_d as *const () as usize, Kind::Call).attach(consumer).expect("a place");
    arm(common::recurse as *const () as usize, Kind::Time(cell(4)));
}

fn hit_all() {
    for n in 0..1000 {
        for f in [common::leaf_a, common::leaf_b, common::leaf_c, common::leaf_d] {
            // SAFETY: adds one.
            assert_eq!(unsafe { f(n) }, n + 1);
        }
        // SAFETY: ten rounds.
        assert_eq!(unsafe { common::spin(10, 0) }, 10);
        // SAFETY: ten jumps.
        assert_eq!(unsafe { common::ping(10) }, 77);
        // SAFETY: more levels than a chunk has places.
        assert_eq!(unsafe { common::recurse(200) }, 200);
    }
}

/// All but exit kill the process from here on. (Not seccomp's strict mode: that forbids reading the
/// time stamp, too.)
fn forbid_system_calls() -> bool {
    let load = libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let is_exit = libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: 1,
        k: libc::SYS_exit as u32,
    };
    let answer =
        |k| libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k };
    let mut filter =
        [load, is_exit, answer(libc::SECCOMP_RET_ALLOW), answer(libc::SECCOMP_RET_KILL_PROCESS)];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: numbers only.
    let quiet = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: a valid program, which the kernel copies.
    let set =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    quiet == 0 && set == 0
}

#[test]
fn no_allocation_and_no_system_call() {
    arm_all();
    let mut before = ALLOCATIONS.get();
    hit_all();
    assert_eq!(ALLOCATIONS.get() - before, 0, "a thread's first hits");
    before = ALLOCATIONS.get();
    hit_all();
    assert_eq!(ALLOCATIONS.get() - before, 0);
    // SAFETY: the child calls probed functions and leaves.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let forbidden = forbid_system_calls();
        hit_all();
        through(common::wrap_a, || ());
        // SAFETY: exit_group is not allowed; exit of the only thread is.
        unsafe { libc::syscall(libc::SYS_exit, i32::from(!forbidden)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "killed by a system call, or not allowed to try");
    assert_eq!(calls(0), 2000);
    assert_eq!((calls(cell(1)), returns(cell(1))), (2000, 2000));
    assert_eq!((calls(cell(2)), calls(cell(3)), calls(cell(4))), (2000, 20_000, 400_000));
}
