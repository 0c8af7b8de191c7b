//! Consumers: what they see and change, cookies and vetoes, several at a site, removal, misses by
//! cause.
#![allow(unsafe_code)]

mod common;

use common::{LOST, arm, arm_with, cell, through};
use patch::{Liveness, Registers};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use uprobe::testing::Kind;
use uprobe::{Consumer, Context, Loss, Vectors, Verdict, sync};

fn nothing() -> Consumer {
    Consumer {
        entry: None,
        ret: None,
        span: None,
        busy: None,
        data: 0,
        vectors: Vectors::Sse,
        limit: 0,
    }
}

fn lost(loss: Loss) -> u64 {
    LOST[loss as usize].load(Ordering::Relaxed)
}

#[test]
fn arguments_and_results_are_seen_and_changed() {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    fn entry(context: &mut Context, data: usize, cookie: &mut u64) -> Verdict {
        assert_eq!(context.registers.rip, common::leaf_a as *const () as u64);
        assert_eq!(context.argument(0), Some(context.registers.rdi));
        *cookie = context.registers.rdi;
        context.registers.rdi += data as u64;
        SEEN.fetch_add(1, Ordering::Relaxed);
        // No return for odd arguments.
        if cookie.is_multiple_of(2) { Verdict::Return } else { Verdict::Skip }
    }
    fn ret(context: &mut Context, data: usize, cookie: u64) {
        assert_eq!(context.registers.rax, cookie + data as u64 + 1);
        context.registers.rax = cookie * 2;
    }
    let site = arm(common::leaf_a as *const () as usize, Kind::Call);
    let id = site
        .attach(Consumer { entry: Some(entry), ret: Some(ret), data: 100, ..nothing() })
        .expect("a place");
    for n in 0..1000 {
        // SAFETY: a leaf function.
        let result = unsafe { common::leaf_a(n) };
        assert_eq!(result, if n % 2 == 0 { n * 2 } else { n + 101 });
    }
    assert_eq!(SEEN.load(Ordering::Relaxed), 1000);
    assert!(site.remove(id));
    assert!(!site.remove(id), "it is gone");
    sync();
    // SAFETY: a leaf function.
    assert_eq!(unsafe { common::leaf_a(1) }, 2);
    assert_eq!(SEEN.load(Ordering::Relaxed), 1000);
    assert!(lost(Loss::Disabled) >= 1);
}

#[test]
fn several_at_one_site_nest() {
    static ORDER: AtomicU64 = AtomicU64::new(0);
    fn note(what: u64) {
        ORDER.store(ORDER.load(Ordering::Relaxed) * 10 + what, Ordering::Relaxed);
    }
    fn entry(_: &mut Context, data: usize, cookie: &mut u64) -> Verdict {
        note(data as u64);
        *cookie = data as u64 + 4;
        Verdict::Return
    }
    fn ret(_: &mut Context, data: usize, cookie: u64) {
        assert_eq!(cookie, data as u64 + 4);
        note(cookie);
    }
    let site = arm(common::wrap_a as *const () as usize, Kind::Call);
    let add = |data, vectors| {
        site.attach(Consumer {
            entry: Some(entry),
            ret: Some(ret),
            span: None,
            busy: None,
            data,
            vectors,
            limit: 0,
        })
        .expect("a place")
    };
    let ids = [add(1, Vectors::Sse), add(2, Vectors::All), add(3, Vectors::Sse)];
    through(common::wrap_a, || note(9));
    assert_eq!(ORDER.swap(0, Ordering::Relaxed), 1_239_765);
    assert!(site.remove(ids[1]));
    through(common::wrap_a, || {
        // Removed while its return is pending: not told.
        assert!(site.remove(ids[2]));
    });
    assert_eq!(ORDER.swap(0, Ordering::Relaxed), 135);
}

#[test]
fn a_limit_is_kept() {
    static RETURNS: AtomicU64 = AtomicU64::new(0);
    fn ret(_: &mut Context, _: usize, _: u64) {
        RETURNS.fetch_add(1, Ordering::Relaxed);
    }
    let site = arm(common::recurse as *const () as usize, Kind::Call);
    let id = site.attach(Consumer { ret: Some(ret), limit: 10, ..nothing() }).expect("a place");
    let before = lost(Loss::Depth);
    for _ in 0..3 {
        // SAFETY: 25 levels.
        assert_eq!(unsafe { common::recurse(25) }, 25);
    }
    assert_eq!(RETURNS.load(Ordering::Relaxed), 30);
    assert_eq!(lost(Loss::Depth) - before, 45);
    assert!(site.remove(id));
}

/// For tests that look at what is lost by recursion, which is one number for all.
fn recursion_alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn what_a_consumer_calls_is_not_probed() {
    const CELL: u32 = cell(0);
    fn entry(_: &mut Context, _: usize, _: &mut u64) -> Verdict {
        // SAFETY: a leaf function.
        assert_eq!(unsafe { common::leaf_c(1) }, 2);
        // SAFETY: itself.
        assert_eq!(unsafe { common::leaf_b(1) }, 2);
        Verdict::Skip
    }
    let site = arm(common::leaf_b as *const () as usize, Kind::Call);
    arm(common::leaf_c as *const () as usize, Kind::Time(CELL));
    site.attach(Consumer { entry: Some(entry), ..nothing() }).expect("a place");
    let _alone = recursion_alone();
    let before = lost(Loss::Recursion);
    for _ in 0..10 {
        // SAFETY: a leaf function.
        assert_eq!(unsafe { common::leaf_b(1) }, 2);
    }
    assert_eq!(lost(Loss::Recursion) - before, 20);
    assert_eq!(common::calls(CELL), 0);
    // SAFETY: a leaf function.
    assert_eq!(unsafe { common::leaf_c(1) }, 2);
    assert_eq!((common::calls(CELL), common::returns(CELL)), (1, 1));
}

#[test]
fn they_come_and_go_under_load() {
    static RUNNING: AtomicU64 = AtomicU64::new(0);
    static ALIVE: AtomicBool = AtomicBool::new(false);
    fn entry(_: &mut Context, data: usize, _: &mut u64) -> Verdict {
        assert!(data != 1 || ALIVE.load(Ordering::Relaxed), "called after sync");
        RUNNING.fetch_add(1, Ordering::Relaxed);
        Verdict::Return
    }
    fn ret(_: &mut Context, data: usize, _: u64) {
        assert!(data != 1 || ALIVE.load(Ordering::Relaxed), "called after sync");
        RUNNING.fetch_add(1, Ordering::Relaxed);
    }
    let site = arm_with(
        common::leaf_d as *const () as usize,
        Kind::Call,
        &Liveness { red_zone: false, ..Liveness::ALL },
        false,
    );
    let stop = AtomicBool::new(false);
    thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: a leaf function.
                    assert_eq!(unsafe { common::leaf_d(1) }, 2);
                }
            });
        }
        for _ in 0..100 {
            ALIVE.store(true, Ordering::Relaxed);
            let id = site
                .attach(Consumer { entry: Some(entry), ret: Some(ret), data: 1, ..nothing() })
                .expect("a place");
            let other = site
                .attach(Consumer { entry: Some(entry), ret: Some(ret), data: 2, ..nothing() })
                .expect("a place");
            let before = RUNNING.load(Ordering::Relaxed);
            while RUNNING.load(Ordering::Relaxed) == before {
                thread::yield_now();
            }
            assert!(site.remove(id));
            sync();
            ALIVE.store(false, Ordering::Relaxed);
            assert!(site.remove(other));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_trap_does_the_same() {
    const CELL: u32 = cell(1);
    let timed = arm(common::leaf_e as *const () as usize, Kind::Time(CELL));
    // A stack with one return address on it.
    let mut stack = [0_u64, 0x1234];
    let slot = &raw mut stack[1];
    let before = Registers {
        rsp: slot.expose_provenance() as u64,
        rip: common::leaf_e as *const () as u64,
        rdi: 5,
        ..Registers::default()
    };
    let mut registers = before;
    thread::scope(|s| {
        s.spawn(|| {
            // With exits nothing changes for the function, and nothing on its stack.
            let instance = !common::EXITS;
            assert_eq!(timed.trap(&mut registers), instance, "an instance was made");
            assert_eq!(registers.rsp, before.rsp + 8 * u64::from(instance));
            assert_eq!(registers.rip == before.rip, !instance);
            assert_eq!((registers.rdi, registers.rflags), (before.rdi, before.rflags));
        });
    });
    assert_eq!(common::calls(CELL), 1);
    // SAFETY: a local variable.
    let now = unsafe { slot.read_volatile() };
    assert_eq!(now == 0x1234, common::EXITS, "the stub's address");
}

/// A consumer that needs more stack than there is: the program is in a signal handler, on a stack
/// that is hardly larger than the kernel needs.
#[test]
fn slow_code_has_a_stack_of_its_own() {
    static ROUNDS: AtomicU64 = AtomicU64::new(0);
    const NEEDED: usize = 24 << 10;
    fn signal_stack() -> libc::stack_t {
        let mut now = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
        // SAFETY: room for the answer.
        assert_eq!(unsafe { libc::sigaltstack(std::ptr::null(), &raw mut now) }, 0);
        now
    }
    fn entry(_: &mut Context, _: usize, _: &mut u64) -> Verdict {
        uprobe::slowly(&mut || {
            let mut room = [0_u8; NEEDED];
            // A breakpoint's handler would come on it, and overwrite the handler that this is in.
            assert_ne!(
                signal_stack().ss_flags & libc::SS_DISABLE,
                0,
                "the signal stack is taken away"
            );
            std::hint::black_box(&mut room).fill(1);
            ROUNDS.fetch_add(u64::from(room[NEEDED - 1]), Ordering::Relaxed);
        });
        Verdict::Skip
    }
    extern "C" fn handler(_: libc::c_int) {
        // SAFETY: adds one.
        assert_eq!(unsafe { common::leaf_f(3) }, 4);
        assert_eq!(
            signal_stack().ss_flags & (libc::SS_DISABLE | libc::SS_ONSTACK),
            libc::SS_ONSTACK
        );
    }
    let site = arm(common::leaf_f as *const () as usize, Kind::Call);
    let id = site.attach(Consumer { entry: Some(entry), ..nothing() }).expect("a place");
    // SAFETY: plain data.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_ONSTACK;
    assert_eq!(
        // SAFETY: a handler that only calls a probed function.
        unsafe {
            let action = (&raw const action).cast();
            uprobe::signals::sigaction(libc::SIGUSR2, action, std::ptr::null_mut())
        },
        0
    );
    thread::spawn(|| {
        // SAFETY: asks for a number.
        let kernels = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
        // Room for this test's own frames: in debug builds they are large. And what must not be
        // touched.
        let (size, guard) = ((kernels + (12 << 10)).next_multiple_of(4096), 1 << 16);
        // SAFETY: new memory.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                guard + size,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let stack = memory.wrapping_byte_add(guard);
        // SAFETY: the upper part of it.
        assert_eq!(unsafe { libc::mprotect(stack, size, libc::PROT_READ | libc::PROT_WRITE) }, 0);
        let alternative = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: size };
        let mut before = alternative;
        // SAFETY: the stack is never unmapped.
        assert_eq!(unsafe { libc::sigaltstack(&raw const alternative, &raw mut before) }, 0);
        // SAFETY: it is handled.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR2) }, 0);
        let after = signal_stack();
        assert_eq!(
            (after.ss_sp, after.ss_size, after.ss_flags),
            (stack, size, 0),
            "it is the program's again"
        );
        // SAFETY: the thread's own.
        assert_eq!(unsafe { libc::sigaltstack(&raw const before, std::ptr::null_mut()) }, 0);
    })
    .join()
    .expect("no panic");
    assert_eq!(ROUNDS.load(Ordering::Relaxed), 1);
    assert!(site.remove(id));
}

// escapable(f, argument): calls f(argument) and gives 0, or 1 if a handler has gone to `escape`
// meanwhile, which puts everything back: what sigsetjmp and siglongjmp do.
std::arch::global_asm!(
    ".globl consumers_escapable",
    "consumers_escapable:",
    ".cfi_startproc",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 8",
    "mov [rip + consumers_stack], rsp",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "xor eax, eax",
    "1:",
    "add rsp, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".globl consumers_escape",
    "consumers_escape:",
    "mov rsp, [rip + consumers_stack]",
    "mov eax, 1",
    "jmp 1b",
    ".cfi_endproc",
    ".pushsection .bss",
    ".balign 8",
    "consumers_stack: .skip 8",
    ".popsection",
);

unsafe extern "C" {
    safe fn consumers_escapable(f: unsafe extern "C-unwind" fn(u64) -> u64, argument: u64) -> u64;
    fn consumers_escape();
}

/// A handler that never returns leaves a consumer for good. The thread's next hits are hits again.
#[test]
fn consumers_that_are_left_by_a_handler() {
    // One of its own: SIGUSR2 is another test's, which runs beside this one.
    static SEEN: AtomicU64 = AtomicU64::new(0);
    extern "C" fn handler(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel gives the frame.
        let frame = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        frame.uc_mcontext.gregs[libc::REG_RIP as usize] = consumers_escape as *const () as i64;
    }
    fn entry(context: &mut Context, _: usize, _: &mut u64) -> Verdict {
        SEEN.fetch_add(1, Ordering::Relaxed);
        if context.argument(0) == Some(7) {
            // SAFETY: to this thread, which has a handler.
            unsafe { libc::raise(libc::SIGURG) };
        }
        Verdict::Skip
    }
    // SAFETY: zero is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
    // SAFETY: a handler for the life of the process.
    unsafe { libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()) };
    let site = arm(common::leaf_g as *const () as usize, Kind::Call);
    let id = site
        .attach(Consumer { entry: Some(entry), vectors: Vectors::All, ..nothing() })
        .expect("a place");
    let _alone = recursion_alone();
    let before = lost(Loss::Recursion);
    for round in 0..50 {
        assert_eq!(consumers_escapable(common::leaf_g, 7), 1, "round {round}");
        assert_eq!(consumers_escapable(common::leaf_g, 8), 0, "round {round}");
    }
    assert_eq!((SEEN.load(Ordering::Relaxed), lost(Loss::Recursion)), (100, before));
    assert!(site.remove(id));
}
