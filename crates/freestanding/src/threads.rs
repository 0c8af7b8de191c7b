//! Threads and children by system calls.
#![allow(unsafe_code)]

use crate::exercise::Shared;
use crate::host::{self, ControlBlock};
use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use sys::futex::{self, Scope};
use sys::number::CLONE;
use sys::{memory, process, raw, thread};

type Body = fn(&Shared);

const THREADS: usize = 4;
const STACK: usize = 64 << 10;

const CLONE_VM: usize = 0x100;
const CLONE_FS: usize = 0x200;
const CLONE_FILES: usize = 0x400;
const CLONE_SIGHAND: usize = 0x800;
const CLONE_THREAD: usize = 0x1_0000;
const CLONE_SYSVSEM: usize = 0x4_0000;
const CLONE_SETTLS: usize = 0x8_0000;
const CLONE_CHILD_CLEARTID: usize = 0x20_0000;
const FLAGS: usize = CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_THREAD
    | CLONE_SYSVSEM
    | CLONE_SETTLS
    | CLONE_CHILD_CLEARTID;
const SIGCHLD: usize = 17;
const WAIT4: usize = 61;

static BLOCKS: [ControlBlock; THREADS] = [const { ControlBlock::new() }; THREADS];

/// A thread that was started: the kernel clears the word when it is gone.
struct Running(AtomicU32);

/// Runs `body` in all threads at once.
pub(crate) fn run(shared: &Shared, body: Body) {
    let running = [const { Running(AtomicU32::new(1)) }; THREADS];
    for (running, block) in running.iter().zip(&BLOCKS) {
        start(shared, body, block, running);
    }
    running.iter().for_each(join);
}

/// Runs `body` in a thread, and `own` in this one meanwhile.
pub(crate) fn beside(shared: &Shared, body: Body, own: impl FnOnce(&Shared)) {
    let running = Running(AtomicU32::new(1));
    start(shared, body, &BLOCKS[0], &running);
    own(shared);
    join(&running);
}

/// Handed over on the new thread's stack.
struct Start<'s> {
    shared: &'s Shared,
    body: Body,
}

fn start(shared: &Shared, body: Body, block: &'static ControlBlock, running: &Running) {
    let stack = memory::pages(STACK).expect("memory").as_ptr();
    // SAFETY: the end of the stack, less than that below it.
    let start = unsafe { stack.add(STACK - 64) }.cast::<Start<'_>>();
    // SAFETY: aligned to 64, and nobody else's.
    unsafe { start.write(Start { shared, body }) };
    let result: usize;
    // SAFETY: a thread on a stack and with a control block of its own. `running` and `shared` live
    // until it is joined.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, rsp",
            "call {entry}",
            "ud2",
            "2:",
            entry = sym entry,
            inlateout("rax") CLONE => result,
            in("rdi") FLAGS,
            in("rsi") start,
            in("rdx") 0,
            in("r10") running.0.as_ptr(),
            in("r8") block.prepare(),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    assert!(result.cast_signed() > 0, "clone");
}

extern "C" fn entry(start: *const Start<'_>) -> ! {
    host::begin_thread();
    // SAFETY: what `start` has left there.
    let start = unsafe { &*start };
    (start.body)(start.shared);
    // SAFETY: the kernel says when the thread is gone, and nobody waits for more.
    unsafe { thread::exit(0) }
}

fn join(running: &Running) {
    while running.0.load(Ordering::Acquire) != 0 {
        let _ = futex::wait(&running.0, 1, None, Scope::Shared);
    }
}

/// How a child ended that ran `body`, which does not come back.
pub(crate) fn in_child(body: impl FnOnce()) -> u32 {
    // SAFETY: a child with memory of its own, that goes on here.
    let child = unsafe { raw::syscall5(CLONE, SIGCHLD, 0, 0, 0, 0) }.expect("a child");
    if child == 0 {
        body();
        process::exit_group(99);
    }
    let mut status = 0u32;
    let at = ptr::from_mut(&mut status).expose_provenance();
    // SAFETY: a child of ours, and a place for the answer.
    unsafe { raw::syscall4(WAIT4, child, at, 0, 0) }.expect("a child of ours");
    status
}
