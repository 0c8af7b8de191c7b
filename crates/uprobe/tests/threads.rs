//! Threads and processes that come and go.
#![allow(unsafe_code)]

mod common;

use common::{arm, calls, cell, returns, through, untimed, unwound};
use std::ffi::c_void;
use std::ptr;
use std::thread;
use uprobe::statistics;
use uprobe::testing::Kind;

#[test]
fn ten_thousand_short_lived_threads() {
    const COUNT: u32 = 0;
    const CELL: u32 = cell(0);
    arm(common::leaf_a as *const () as usize, Kind::Count(COUNT));
    arm(common::wrap_a as *const () as usize, Kind::Time(CELL));
    extern "C" fn body(_: *mut c_void) -> *mut c_void {
        through(common::wrap_a, || {
            // SAFETY: adds one.
            assert_eq!(unsafe { common::leaf_a(1) }, 2);
        });
        ptr::null_mut()
    }
    for _ in 0..2500 {
        let mut threads = [0; 4];
        for t in &mut threads {
            // SAFETY: default attributes, a function without arguments.
            assert_eq!(unsafe { libc::pthread_create(t, ptr::null(), body, ptr::null_mut()) }, 0);
        }
        for t in threads {
            // SAFETY: created above, joined once.
            unsafe { libc::pthread_join(t, ptr::null_mut()) };
        }
    }
    assert_eq!(calls(COUNT), 10_000);
    assert_eq!((calls(CELL), returns(CELL), untimed(CELL)), (10_000, 10_000, 0));
    assert!(statistics().chunks < 40, "a thread's chunk goes back: {:?}", statistics());
}

#[test]
fn a_thread_ends_inside_a_probed_function() {
    const CELL: u32 = cell(1);
    arm(common::wrap_b as *const () as usize, Kind::Time(CELL));
    extern "C-unwind" fn end(_: usize) {
        // SAFETY: ends this thread; no frame of Rust with something to drop is on its stack.
        unsafe { pthread_exit(ptr::null_mut()) }
    }
    extern "C-unwind" fn nested(_: usize) {
        // SAFETY: a wrap calls the function.
        unsafe { common::wrap_b(end, 0) };
    }
    extern "C" fn body(_: *mut c_void) -> *mut c_void {
        // SAFETY: a wrap calls the function.
        unsafe { common::wrap_b(nested, 0) };
        ptr::null_mut()
    }
    let body: extern "C" fn(*mut c_void) -> *mut c_void = body;
    for _ in 0..1000 {
        let mut thread = 0;
        assert_eq!(
            // SAFETY: default attributes, a function without arguments.
            unsafe { libc::pthread_create(&raw mut thread, ptr::null(), body, ptr::null_mut()) },
            0
        );
        // SAFETY: created above, joined once.
        unsafe { libc::pthread_join(thread, ptr::null_mut()) };
    }
    assert_eq!((calls(CELL), returns(CELL), unwound(CELL)), (2000, 0, 2000));
    assert!(statistics().chunks < 40, "{:?}", statistics());
}

unsafe extern "C-unwind" {
    fn pthread_exit(value: *mut c_void) -> !;
}

#[test]
fn a_fork_child_returns_through_what_was_pending() {
    const CELL: u32 = cell(2);
    const CHILD: u32 = cell(3);
    arm(common::wrap_c as *const () as usize, Kind::Time(CELL));
    arm(common::wrap_d as *const () as usize, Kind::Time(CHILD));
    // Others have pending calls meanwhile, which the child must not wait for or count.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let other = thread::spawn(move || through(common::wrap_c, || wait.recv().expect("a sender")));
    while calls(CELL) == 0 {
        thread::yield_now();
    }
    for _ in 0..20 {
        let mut child = -1;
        through(common::wrap_c, || {
            through(common::wrap_c, || {
                // SAFETY: the child calls probed functions and _exit.
                child = unsafe { libc::fork() };
                if child == 0 {
                    through(common::wrap_d, || ());
                }
            });
            if child == 0 {
                through(common::wrap_d, || ());
            }
        });
        if child == 0 {
            through(common::wrap_d, || ());
            // In the child's copy of all blocks, the parent's counts are as they were at the fork.
            let right =
                (calls(CHILD), returns(CHILD)) == (3, 3) && calls(CELL) - returns(CELL) == 1;
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!right)) };
        }
        let mut status = 0;
        // SAFETY: waits for the child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }
    go.send(()).expect("a receiver");
    other.join().expect("no panic");
    assert_eq!((calls(CELL), returns(CELL), calls(CHILD)), (41, 41, 0));
}

#[test]
fn a_vfork_child_shares_its_parents_counts() {
    const CELL: u32 = cell(4);
    arm(common::leaf_e as *const () as usize, Kind::Time(CELL));
    for _ in 0..20 {
        // SAFETY: the clone is a vfork whose child calls one leaf function and _exit, on a stack of
        // its own, while the parent waits.
        let child = unsafe { vfork_and_call(common::leaf_e) };
        assert!(child > 0);
        let mut status = 0;
        // SAFETY: waits for the child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 5 << 8);
        // SAFETY: adds one.
        assert_eq!(unsafe { common::leaf_e(1) }, 2);
    }
    assert_eq!((calls(CELL), returns(CELL)), (40, 40));
}

unsafe extern "C" {
    fn vfork_and_call(f: unsafe extern "C-unwind" fn(u64) -> u64) -> i32;
}

// A vfork by hand: Rust has no way to say that a function returns twice.
core::arch::global_asm!(
    ".pushsection .text.vfork_and_call,\"ax\",@progbits",
    ".globl vfork_and_call",
    "vfork_and_call:",
    "mov r8, rdi",
    "pop r9",
    "mov eax, 58",
    "syscall",
    "test eax, eax",
    "jz 2f",
    "push r9",
    "ret",
    "2:",
    // Leaves the parent's return address alone, which lies at the top of the shared stack.
    "sub rsp, 128",
    "and rsp, -16",
    "mov edi, 4",
    "call r8",
    "mov edi, eax",
    "mov eax, 231",
    "syscall",
    "ud2",
    ".popsection",
);
