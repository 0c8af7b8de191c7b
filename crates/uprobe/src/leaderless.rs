//! For tests: processes whose first thread has ended. Their own entry in /proc is of no use then.
#![allow(unsafe_code)]

extern crate std;

use sys::{process, thread};

/// What `f` says in another thread of such a process.
pub(crate) fn ask(f: fn() -> bool) -> bool {
    // SAFETY: the child starts a thread, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        std::thread::spawn(move || {
            let stat = || std::fs::read_to_string("/proc/self/stat").expect("it is there");
            while !stat().contains(") Z ") {
                std::thread::yield_now();
            }
            process::exit_group(if f() { 0 } else { 1 });
        });
        // SAFETY: the other thread ends the process.
        unsafe { thread::exit(2) };
    }
    let mut status = -1;
    // SAFETY: a child of ours, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) < 2, "{status:#x}");
    status == 0
}
