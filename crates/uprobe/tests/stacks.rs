//! Several stacks in one thread, stacks that change threads, and signal handlers that interrupt
//! anything.
#![allow(unsafe_code)]

mod common;
mod interrupts;

use common::{arm, buckets, calls, cell, returns, through, untimed, unwound};
use interrupts::{Interrupts, operation};
use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use uprobe::testing::Kind;

/// A stack with a context on it.
struct Coroutine {
    own: UnsafeCell<libc::ucontext_t>,
    caller: UnsafeCell<libc::ucontext_t>,
    stack: Vec<u8>,
    body: fn(&Coroutine),
    finished: AtomicBool,
}

impl Coroutine {
    fn new(body: fn(&Coroutine)) -> Box<Self> {
        // SAFETY: plain data.
        let empty = || UnsafeCell::new(unsafe { mem::zeroed() });
        let mut it = Box::new(Self {
            own: empty(),
            caller: empty(),
            stack: vec![0; 256 * 1024],
            body,
            finished: AtomicBool::new(false),
        });
        let address = (&raw const *it).expose_provenance();
        let (base, len) = (it.stack.as_mut_ptr(), it.stack.len());
        let own = it.own.get();
        // SAFETY: a valid context to be filled.
        unsafe { libc::getcontext(own) };
        // SAFETY: filled above, and nobody else has it.
        let context = unsafe { &mut *own };
        context.uc_stack.ss_sp = base.cast();
        context.uc_stack.ss_size = len;
        context.uc_link = it.caller.get();
        // SAFETY: an int is passed as one; the address is passed in two halves.
        let entry: extern "C" fn() = unsafe { mem::transmute(enter as extern "C" fn(u32, u32)) };
        // SAFETY: the context has a stack and a link.
        unsafe { libc::makecontext(own, entry, 2, (address >> 32) as c_int, address as c_int) };
        it
    }

    /// Runs it until it yields or ends. True: it has ended.
    fn resume(&self) -> bool {
        // SAFETY: both contexts are valid, and the coroutine is not running.
        unsafe { libc::swapcontext(self.caller.get(), self.own.get()) };
        self.finished.load(Ordering::Relaxed)
    }

    fn pause(&self) {
        // SAFETY: called on the coroutine's stack, while `resume` waits in `caller`.
        unsafe { libc::swapcontext(self.own.get(), self.caller.get()) };
    }
}

extern "C" fn enter(high: u32, low: u32) {
    let address = (high as usize) << 32 | low as usize;
    // SAFETY: `Coroutine::new` passed its address, and it is alive while it runs.
    let it = unsafe { &*ptr::with_exposed_provenance::<Coroutine>(address) };
    (it.body)(it);
    it.finished.store(true, Ordering::Relaxed);
}

#[test]
fn coroutines_return_in_any_order() {
    const OUTER: u32 = cell(0);
    const INNER: u32 = cell(1);
    arm(common::wrap_a as *const () as usize, Kind::Time(OUTER));
    arm(common::wrap_b as *const () as usize, Kind::Time(INNER));
    fn body(it: &Coroutine) {
        for _ in 0..10 {
            through(common::wrap_a, || {
                it.pause();
                through(common::wrap_b, || it.pause());
                it.pause();
            });
        }
    }
    let all: Vec<_> = (0..10).map(|_| Coroutine::new(body)).collect();
    // Another order every time.
    let mut order = 1_usize;
    let mut ended = 0;
    let mut running = [true; 10];
    while ended < all.len() {
        order =
            order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let n = (order >> 33) % all.len();
        through(common::wrap_b, || {
            if running[n] && all[n].resume() {
                running[n] = false;
                ended += 1;
            }
        });
    }
    assert_eq!((calls(OUTER), returns(OUTER), buckets(OUTER)), (100, 100, 100));
    assert_eq!(calls(INNER), returns(INNER));
    assert_eq!(unwound(OUTER) + unwound(INNER) + untimed(OUTER) + untimed(INNER), 0);
}

#[test]
fn a_stack_goes_on_in_another_thread() {
    const CELL: u32 = cell(2);
    arm(common::wrap_c as *const () as usize, Kind::Time(CELL));
    fn body(it: &Coroutine) {
        through(common::wrap_c, || through(common::wrap_c, || it.pause()));
    }
    struct Moved(Box<Coroutine>);
    // SAFETY: one thread at a time uses it.
    unsafe impl Send for Moved {}
    let all: Vec<_> = (0..50).map(|_| Moved(Coroutine::new(body))).collect();
    // Begun in a thread that ends, ended in another one.
    let all = thread::spawn(move || {
        for it in &all {
            assert!(!it.0.resume());
        }
        all
    })
    .join()
    .expect("no panic");
    assert_eq!((calls(CELL), returns(CELL)), (100, 0));
    thread::spawn(move || {
        for it in &all {
            assert!(it.0.resume());
        }
    })
    .join()
    .expect("no panic");
    assert_eq!((calls(CELL), returns(CELL), unwound(CELL)), (100, 100, 0));
    assert_eq!(buckets(CELL), 100);
}

#[test]
fn a_stack_that_is_unmapped_buries_its_calls() {
    const CELL: u32 = cell(3);
    arm(common::wrap_d as *const () as usize, Kind::Time(CELL));
    fn body(it: &Coroutine) {
        through(common::wrap_d, || it.pause());
    }
    thread::spawn(|| {
        for _ in 0..1000 {
            let it = Coroutine::new(body);
            assert!(!it.resume());
            // A large vector is a mapping of its own, which goes away here.
            drop(it);
        }
        through(common::wrap_d, || ());
    })
    .join()
    .expect("no panic");
    assert_eq!((calls(CELL), returns(CELL)), (1001, 1));
    assert_eq!(untimed(CELL), 0);
}

static IN_HANDLER: AtomicU64 = AtomicU64::new(0);

extern "C" fn handler(_: c_int) {
    for n in 0..3 {
        // SAFETY: adds one.
        assert_eq!(unsafe { common::leaf_e(n) }, n + 1);
        // SAFETY: as above.
        assert_eq!(unsafe { common::leaf_d(n) }, n + 1);
    }
    // SAFETY: three levels.
    assert_eq!(unsafe { common::recurse(3) }, 3);
    IN_HANDLER.fetch_add(1, Ordering::Relaxed);
    interrupts::handled();
}

#[test]
fn handlers_interrupt_anything() {
    const COUNT: u32 = 0;
    const TIME: u32 = cell(4);
    const DEEP: u32 = cell(4) + wire::cell::TIMED_BYTES as u32;
    arm(common::leaf_e as *const () as usize, Kind::Count(COUNT));
    arm(common::leaf_d as *const () as usize, Kind::Time(TIME));
    arm(common::recurse as *const () as usize, Kind::Pair(DEEP));
    // SAFETY: plain data.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: a handler that only calls probed functions.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, ptr::null_mut()) }, 0);
    let totals = thread::scope(|s| {
        let worker = |k| {
            let mut stack = vec![0_u8; 256 * 1024];
            // One on its only stack (Rust's threads have an alternative one of 8 KiB, too small for
            // what the tests do), the others on one of their own.
            let flags = if k == 0 { libc::SS_DISABLE } else { 0 };
            let alternative = libc::stack_t {
                ss_sp: stack.as_mut_ptr().cast(),
                ss_flags: flags,
                ss_size: stack.len(),
            };
            // SAFETY: the stack outlives its use: it is taken away below.
            unsafe { libc::sigaltstack(&raw const alternative, ptr::null_mut()) };
            let timer = Interrupts::start(libc::SIGUSR1, Duration::from_micros(50));
            let mut rounds = 0;
            while timer.short_of::<3>(600, false) {
                for n in 0..10 {
                    // SAFETY: adds one.
                    assert_eq!(operation(0, || unsafe { common::leaf_e(n) }), n + 1);
                    // SAFETY: adds one.
                    assert_eq!(operation(1, || unsafe { common::leaf_d(n) }), n + 1);
                }
                // SAFETY: five levels.
                assert_eq!(operation(2, || unsafe { common::recurse(5) }), 5);
                rounds += 1;
            }
            println!("{} handlers, over functions {:?}", timer.handlers(), timer.over::<3>());
            drop(timer);
            let off =
                libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
            // SAFETY: no handler is running.
            unsafe { libc::sigaltstack(&raw const off, ptr::null_mut()) };
            rounds
        };
        let workers: Vec<_> = (0..3).map(|k| s.spawn(move || worker(k))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum::<u64>()
    });
    let handled = IN_HANDLER.load(Ordering::Relaxed);
    assert_eq!(calls(COUNT), totals * 10 + handled * 3);
    assert_eq!(calls(TIME), totals * 10 + handled * 3);
    assert_eq!((returns(TIME), buckets(TIME)), (calls(TIME), calls(TIME)));
    assert_eq!(calls(DEEP), totals * 5 + handled * 3);
    assert_eq!(returns(DEEP), calls(DEEP));
    assert_eq!((unwound(TIME), untimed(TIME), unwound(DEEP), untimed(DEEP)), (0, 0, 0, 0));
}
