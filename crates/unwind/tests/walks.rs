//! Stacks of this process against those that glibc's `backtrace` gives.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use unwind::{Bounds, EXACT, End, Host, Method, Module, Start, Unwinder};

/// Program counter, stack pointer and frame pointer where it stands.
macro_rules! registers {
    () => {{
        let (pc, sp, bp): (u64, u64, u64);
        // SAFETY: reads three registers.
        unsafe {
            std::arch::asm!(
                "lea {0}, [rip]",
                "mov {1}, rsp",
                "mov {2}, rbp",
                out(reg) pc,
                out(reg) sp,
                out(reg) bp,
            )
        };
        (pc, sp, bp)
    }};
}

struct Plain;

impl Host for Plain {
    fn original(&self, _: u64, _: &mut dyn FnMut(u64, u64)) -> Option<u64> {
        None
    }

    fn slowly(&self, f: &mut dyn FnMut()) {
        f();
    }
}

fn unwinder() -> &'static Unwinder {
    static UNWINDER: OnceLock<Unwinder> = OnceLock::new();
    UNWINDER.get_or_init(|| {
        let unwinder = Unwinder::new().unwrap();
        // Frames as absolute addresses: the tag takes the bias back.
        let mut modules = Module::all(&mut |_| 0);
        modules.iter_mut().for_each(|m| m.tag = m.bias);
        unwinder.set_modules(modules);
        unwinder
    })
}

thread_local! {
    static BOUNDS: RefCell<Bounds> = RefCell::default();
}

#[derive(Debug)]
struct Both {
    ours: Vec<u64>,
    end: End,
    theirs: Vec<u64>,
}

/// The stack of the caller, twice.
#[inline(never)]
fn both(method: Method) -> Both {
    let mut theirs = vec![std::ptr::null_mut(); 512];
    // SAFETY: room for 512 addresses.
    let n = unsafe { libc::backtrace(theirs.as_mut_ptr(), 512) };
    let theirs: Vec<u64> = theirs[..n as usize].iter().map(|p| p.addr() as u64).collect();
    let (pc, sp, bp) = registers!();
    let mut out = [0; 512];
    let start = Start { pc, sp, bp, entry: false };
    let (len, end) =
        BOUNDS.with_borrow_mut(|bounds| unwinder().walk(&Plain, start, method, bounds, &mut out));
    Both { ours: out[..len].to_vec(), end, theirs }
}

/// The same frames from the caller of `both` on, to the start of the thread.
fn check(both: &Both) {
    assert_eq!(both.end, End::Complete, "{both:x?}");
    let ours: Vec<u64> = both.ours.iter().map(|f| f & !EXACT).collect();
    // Theirs begins inside `both`.
    assert_eq!(ours, both.theirs[1..], "{both:x?}");
}

#[inline(never)]
fn recurse(depth: u32, f: &mut dyn FnMut()) -> u32 {
    if depth == 0 {
        f();
        return 0;
    }
    std::hint::black_box(recurse(depth - 1, f)) + 1
}

#[test]
fn deep_and_shallow() {
    for depth in [0, 1, 5, 100, 300] {
        for _ in 0..3 {
            recurse(depth, &mut || check(&both(Method::Tables)));
        }
    }
}

#[test]
fn more_frames_than_room() {
    let mut out = [0; 16];
    recurse(100, &mut || {
        let (pc, sp, bp) = registers!();
        let start = Start { pc, sp, bp, entry: false };
        let (len, end) =
            unwinder().walk(&Plain, start, Method::Tables, &mut Bounds::default(), &mut out);
        assert_eq!((len, end), (16, End::Deep));
    });
}

#[test]
fn threads_have_stacks_of_their_own() {
    for _ in 0..3 {
        std::thread::spawn(|| recurse(20, &mut || check(&both(Method::Tables)))).join().unwrap();
    }
}

#[test]
fn through_the_c_library() {
    thread_local!(static SEEN: RefCell<Vec<Both>> = RefCell::default());
    extern "C" fn compare(_: *const c_void, _: *const c_void) -> c_int {
        let both = both(Method::Tables);
        SEEN.with_borrow_mut(|seen| seen.push(both));
        0
    }
    let mut some = [3_u64, 1, 2, 5, 4];
    // SAFETY: an array of five words.
    unsafe { libc::qsort(some.as_mut_ptr().cast(), 5, 8, Some(compare)) };
    SEEN.with_borrow(|seen| {
        assert!(seen.len() > 3);
        seen.iter().for_each(check);
    });
}

#[test]
fn stacks_that_were_aligned() {
    #[repr(align(256))]
    struct Aligned([u8; 256]);
    #[inline(never)]
    fn aligned(depth: u32) {
        let room = Aligned([depth as u8; 256]);
        if depth == 0 {
            check(&both(Method::Tables));
        } else {
            aligned(depth - 1);
        }
        std::hint::black_box(&room.0);
    }
    aligned(5);
}

/// In a handler on a stack of its own the walk goes on to what it has interrupted, and from there
/// on as `backtrace` does.
#[test]
fn signal_handlers_with_and_without_a_stack_of_their_own() {
    thread_local!(static SEEN: RefCell<Vec<Both>> = RefCell::default());
    extern "C" fn handler(_: c_int) {
        let both = both(Method::Tables);
        SEEN.with_borrow_mut(|seen| seen.push(both));
    }
    let mut stack = vec![0_u8; 1 << 16];
    let own = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    for flags in [0, libc::SA_ONSTACK] {
        // SAFETY: zero is a valid sigaction.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as extern "C" fn(c_int) as usize;
        action.sa_flags = flags;
        assert_eq!(
            // SAFETY: a handler for the life of the process.
            unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) },
            0
        );
        // SAFETY: the memory lives to the end of the test, which switches it off again.
        assert_eq!(unsafe { libc::sigaltstack(&raw const own, std::ptr::null_mut()) }, 0);
        recurse(7, &mut || {
            // SAFETY: a signal to this thread.
            unsafe { libc::raise(libc::SIGUSR1) };
        });
    }
    let off = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: no handler runs.
    unsafe { libc::sigaltstack(&raw const off, std::ptr::null_mut()) };
    SEEN.with_borrow(|seen| {
        assert_eq!(seen.len(), 2);
        for both in seen {
            check(both);
            assert_eq!(both.ours.iter().filter(|f| **f & EXACT != 0).count(), 1, "{both:x?}");
        }
    });
}

/// This test is not compiled with frame pointers, so the chain breaks off, and the tables take
/// over.
#[test]
fn by_frame_pointers_to_the_end() {
    recurse(9, &mut || {
        let both = both(Method::FramePointers);
        assert_eq!(both.end, End::Complete);
        assert_eq!(both.ours.last(), both.theirs.last());
    });
}

#[test]
fn a_module_that_is_not_known_ends_the_walk() {
    let unwinder = Unwinder::new().unwrap();
    recurse(3, &mut || {
        let (pc, sp, bp) = registers!();
        let walk = |method| {
            unwinder
                .walk(
                    &Plain,
                    Start { pc, sp, bp, entry: false },
                    method,
                    &mut Bounds::default(),
                    &mut [0; 64],
                )
                .1
        };
        assert_eq!(walk(Method::Tables), End::NoTable);
    });
}

/// Whatever the registers hold, a walk ends, and reads nothing but the stack.
#[test]
fn nonsense_does_no_harm() {
    let here = 0_u64;
    let sp = (&raw const here).addr() as u64 & !7;
    let code = unwinder as fn() -> &'static Unwinder as usize as u64;
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 16
    };
    for _ in 0..20_000 {
        let pc = match random() % 3 {
            0 => random(),
            1 => 0,
            _ => code.wrapping_add(random() % 0x10000),
        };
        let bp = match random() % 3 {
            0 => random() << 16,
            1 => sp.wrapping_add(random() % 4096),
            _ => u64::MAX - random() % 32,
        };
        for method in [Method::Tables, Method::FramePointers] {
            let start = Start { pc, sp, bp, entry: random() % 2 == 0 };
            let (len, end) = BOUNDS.with_borrow_mut(|bounds| {
                unwinder().walk(&Plain, start, method, bounds, &mut [0; 64])
            });
            assert!(len < 64 || end == End::Deep);
        }
    }
    let start = |sp| Start { pc: code, sp, bp: sp, entry: true };
    for sp in [0, 8, 4096, u64::MAX - 7, 1 << 47] {
        let (len, end) = unwinder().walk(
            &Plain,
            start(sp),
            Method::Tables,
            &mut Bounds::default(),
            &mut [0; 64],
        );
        assert_eq!((len, end), (0, End::NoBounds));
    }
}

/// What is called has its return address on top of the stack at first, and what nobody calls has
/// not.
#[test]
fn not_all_functions_are_called() {
    unsafe extern "C" {
        fn _start();
    }
    let is_called = |f: *const ()| unwinder().is_called(f.addr() as u64);
    assert!(is_called(libc::qsort as *const ()));
    assert!(is_called(is_nothing as *const ()));
    assert!(!is_called(_start as *const ()));
    // Where nothing is loaded.
    assert!(unwinder().is_called(16));
}

fn is_nothing() {}

/// Frames of a module that is not to be seen are left out, but for the start of the thread, and the
/// others are as ever.
#[test]
fn what_is_not_to_be_seen_is_left_out() {
    thread_local!(static SEEN: RefCell<Vec<(Both, Vec<u64>)>> = RefCell::default());
    static WITHOUT: OnceLock<(Unwinder, std::ops::Range<u64>)> = OnceLock::new();
    fn hide() -> (Unwinder, std::ops::Range<u64>) {
        let unwinder = Unwinder::new().unwrap();
        let mut modules = Module::all(&mut |_| 0);
        modules.iter_mut().for_each(|m| m.tag = m.bias);
        // The C library.
        let hidden = modules
            .iter_mut()
            .find(|m| m.range.contains(&(libc::qsort as *const () as u64)))
            .unwrap();
        hidden.unseen = true;
        let range = hidden.range.clone();
        unwinder.set_modules(modules);
        (unwinder, range)
    }
    extern "C" fn compare(_: *const c_void, _: *const c_void) -> c_int {
        let both = both(Method::Tables);
        let (unwinder, _) = WITHOUT.get_or_init(hide);
        let (pc, sp, bp) = registers!();
        let mut out = [0; 512];
        let start = Start { pc, sp, bp, entry: false };
        let (len, end) =
            unwinder.walk(&Plain, start, Method::Tables, &mut Bounds::default(), &mut out);
        assert_eq!(end, End::Complete);
        SEEN.with_borrow_mut(|seen| seen.push((both, out[..len].to_vec())));
        0
    }
    let mut some = [3_u64, 1, 2];
    // SAFETY: an array of three words.
    unsafe { libc::qsort(some.as_mut_ptr().cast(), 3, 8, Some(compare)) };
    let (_, hidden) = WITHOUT.get().unwrap();
    SEEN.with_borrow(|seen| {
        assert!(seen.len() >= 2);
        for (both, ours) in seen {
            // Theirs begins with two frames of this test's: `both` and `compare`.
            let (start, inner) = both.theirs[2..].split_last().unwrap();
            let left: Vec<u64> =
                inner.iter().filter(|f| !hidden.contains(f)).chain([start]).copied().collect();
            assert!(left.len() < inner.len(), "the sort is not there: {both:x?}");
            assert_eq!(*ours, left, "{both:x?}");
        }
    });
}

/// The outermost frame of a coroutine is a return address that no call has left there.
#[test]
fn a_stack_that_was_made_by_hand() {
    static DONE: OnceLock<Both> = OnceLock::new();
    extern "C" fn body() {
        let _ = DONE.set(both(Method::Tables));
    }
    let mut stack = vec![0_u8; 512 << 10];
    // SAFETY: plain data.
    let mut here: libc::ucontext_t = unsafe { std::mem::zeroed() };
    // SAFETY: plain data.
    let mut there: libc::ucontext_t = unsafe { std::mem::zeroed() };
    // SAFETY: room for a context.
    assert_eq!(unsafe { libc::getcontext(&raw mut there) }, 0);
    (there.uc_stack.ss_sp, there.uc_stack.ss_size, there.uc_link) =
        (stack.as_mut_ptr().cast(), stack.len(), &raw mut here);
    // SAFETY: a context with a stack that outlives its use.
    unsafe { libc::makecontext(&raw mut there, body, 0) };
    // SAFETY: it comes back when `body` has returned.
    assert_eq!(unsafe { libc::swapcontext(&raw mut here, &raw const there) }, 0);
    let both = DONE.get().unwrap();
    assert_eq!(both.end, End::Complete, "{both:x?}");
    // What glibc shows of it depends on its version.
    assert!(both.theirs[1..].starts_with(&both.ours[..2]), "{both:x?}");
}

// Two functions with frame pointers, the inner of which is interrupted by a signal, and the
// handler, which has one, too.
std::arch::global_asm!(
    ".macro __walks_frame name",
    ".globl \\name",
    "\\name:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    ".endm",
    ".macro __walks_end",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    ".endm",
    "__walks_frame walks_outer",
    "call walks_inner",
    "__walks_end",
    "__walks_frame walks_inner",
    "ud2",
    "__walks_end",
    "__walks_frame walks_handler",
    "lea rdi, [rip + 2f]",
    "mov rsi, rbp",
    "call {handled}",
    "2:",
    "__walks_end",
    ".purgem __walks_frame",
    ".purgem __walks_end",
    handled = sym handled,
);

static HANDLED: OnceLock<[(Vec<u64>, End); 2]> = OnceLock::new();

/// `walks_handler` calls this with the address that it returns to and its frame pointer; `context`
/// is still where the kernel gave it.
extern "C" fn handled(pc: u64, bp: u64, context: *mut libc::ucontext_t) {
    let start = Start { pc, sp: bp, bp, entry: false };
    let walk = |method| {
        let mut out = [0; 512];
        let (len, end) = unwinder().walk(&Plain, start, method, &mut Bounds::default(), &mut out);
        (out[..len].to_vec(), end)
    };
    let _ = HANDLED.set([walk(Method::Tables), walk(Method::FramePointers)]);
    // SAFETY: the kernel's, for the handler.
    let context = unsafe { &mut *context };
    context.uc_mcontext.gregs[libc::REG_RIP as usize] += 2;
}

/// A handler's frame pointer leads past the function that was interrupted.
#[test]
fn by_frame_pointers_from_a_handler() {
    unsafe extern "C" {
        fn walks_outer();
        fn walks_inner();
        fn walks_handler();
    }
    // SAFETY: plain data.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = walks_handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    assert_eq!(
        // SAFETY: a handler that skips the instruction.
        unsafe { libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut()) },
        0
    );
    // SAFETY: its only effect is handled.
    unsafe { walks_outer() };
    let [tables, pointers] = HANDLED.get().unwrap();
    let interrupted = (walks_inner as *const () as u64 + 4) | EXACT;
    assert_eq!((tables.0[1], tables.1), (interrupted, End::Complete), "{:x?}", tables.0);
    assert_eq!(pointers, tables);
}

std::arch::global_asm!(
    // on_stack(f, argument, top): f(argument) on another stack, as `__morestack` calls.
    ".globl walks_on_stack",
    ".type walks_on_stack, @function",
    "walks_on_stack:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "mov rsp, rdx",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "mov rsp, rbp",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    ".size walks_on_stack, . - walks_on_stack",
);

unsafe extern "C" {
    #[link_name = "walks_on_stack"]
    fn on_stack(f: extern "C" fn(usize), argument: usize, top: usize);
}

/// Calls on stacks of its own, one in the other: in memory of the program's, and from the kernel,
/// below and above.
extern "C" fn deeper(left: usize) {
    const SIZE: usize = 256 << 10;
    if left == 0 {
        check(&both(Method::Tables));
        let frames = both(Method::FramePointers);
        assert_eq!(frames.end, End::Complete, "{frames:x?}");
        return;
    }
    if left.is_multiple_of(2) {
        let mut heap = vec![0_u128; SIZE / 16];
        let top = heap.as_mut_ptr_range().end.expose_provenance();
        // SAFETY: a stack of that size, which nobody else uses, aligned.
        unsafe { on_stack(deeper, left - 1, top) };
    } else {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping.
        let stack = unsafe { libc::mmap(std::ptr::null_mut(), SIZE, protection, flags, -1, 0) };
        assert_ne!(stack, libc::MAP_FAILED);
        // SAFETY: as above.
        unsafe { on_stack(deeper, left - 1, stack.expose_provenance() + SIZE) };
        // SAFETY: nobody is on it any more.
        unsafe { libc::munmap(stack, SIZE) };
    }
}

#[test]
fn functions_that_switch_stacks_and_say_so() {
    for depth in [1, 2, 3, 6] {
        for _ in 0..3 {
            deeper(depth);
        }
    }
}
