//! Arming and disarming many functions under running threads, breakpoints on many threads, and the
//! end of the process in the middle of it.
#![allow(unsafe_code)]

mod common;

use common::{calls, cell, hooks, returns};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use uprobe::{
    Action, Config, Engine, Method, Patching, Refusal, Returns, SiteId, SlotPolicy, Target,
};

/// The engine is the process's: one test at a time.
fn engine() -> (&'static Engine, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (Engine::start(hooks(), Config::default()).expect("the engine"), alone)
}

/// Functions that give back their argument plus one, made at run time.
struct Village {
    start: usize,
    functions: usize,
    /// Bytes of each.
    size: u32,
}

impl Village {
    const SPACING: usize = 32;
    /// push rbx; mov rbx, rdi; lea rax, [rbx + 1]; pop rbx; ret
    const CODE: [u8; 10] = [0x53, 0x48, 0x89, 0xfb, 0x48, 0x8d, 0x43, 0x01, 0x5b, 0xc3];

    /// xor eax, eax; lea rdi, [rdi + 0]; dec ecx; call 1f; 1: lea rsp, [rsp + 8]; add ecx, 0;
    /// jg 0; lea rax, [rdi + 1]; ret: goes four times through its first byte, if ecx is 4. Moving
    /// it as a whole is not possible, for it calls.
    const LOOP: [u8; 31] = [
        0x31, 0xc0, 0x48, 0x8d, 0x7f, 0x00, 0xff, 0xc9, 0xe8, 0, 0, 0, 0, 0x48, 0x8d, 0x64, 0x24,
        0x08, 0x83, 0xc1, 0x00, 0x90, 0x90, 0x7f, 0xe7, 0x48, 0x8d, 0x47, 0x01, 0xc3, 0xcc,
    ];

    fn new(functions: usize) -> Self {
        Self::of(functions, &Self::CODE)
    }

    /// Never unmapped: stubs lead back to it.
    fn of(functions: usize, code: &[u8]) -> Self {
        let bytes = (functions * Self::SPACING).next_multiple_of(4096);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: new memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                protection,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: just mapped.
        let memory = unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>(), bytes) };
        memory.fill(0xcc);
        memory
            .chunks_exact_mut(Self::SPACING)
            .for_each(|place| place[..code.len()].copy_from_slice(code));
        // SAFETY: the memory is ours.
        assert_eq!(unsafe { libc::mprotect(start, bytes, libc::PROT_READ | libc::PROT_EXEC) }, 0);
        Self { start: start.expose_provenance(), functions, size: code.len() as u32 }
    }

    fn address(&self, index: usize) -> u64 {
        (self.start + index % self.functions * Self::SPACING) as u64
    }

    fn call(&self, index: usize, n: u64) -> u64 {
        // SAFETY: a function of this type is there.
        let f: extern "C" fn(u64, u64, u64, u64) -> u64 =
            unsafe { std::mem::transmute(self.address(index) as usize) };
        f(n, 0, 0, 4)
    }

    fn targets(&self, action: Action) -> impl Iterator<Item = Target> {
        let after = Self::SPACING as u32 - self.size;
        let target = move |i| Target { after, ..Target::entry(self.address(i), self.size, action) };
        (0..self.functions).map(target)
    }

    fn arm(&self, engine: &'static Engine, action: Action, patching: Patching) -> Vec<SiteId> {
        let mut batch = engine.batch();
        self.targets(action).for_each(|t| batch.add(t));
        batch.commit(patching).into_iter().map(|armed| armed.expect("armed").id).collect()
    }

    /// Runs `f` while threads call all functions and check the results; how many calls there were.
    fn under_load(&self, threads: usize, f: impl FnOnce()) -> u64 {
        let stop = AtomicBool::new(false);
        let made = AtomicU64::new(0);
        thread::scope(|s| {
            for k in 0..threads {
                let (stop, made) = (&stop, &made);
                s.spawn(move || {
                    uprobe::prepare_thread();
                    let mut i = k * 7919;
                    while !stop.load(Ordering::Relaxed) {
                        for _ in 0..256 {
                            i += 1;
                            assert_eq!(self.call(i, i as u64), i as u64 + 1);
                        }
                        made.fetch_add(256, Ordering::Relaxed);
                    }
                });
            }
            f();
            stop.store(true, Ordering::Relaxed);
        });
        made.into_inner()
    }
}

#[test]
fn batches_come_and_go_under_more_threads_than_processors() {
    const THREADS: usize = 8;
    const ROUNDS: u64 = 50;
    let (engine, _alone) = engine();
    let village = Village::new(64);
    for by in [Returns::Instances, Returns::Exits] {
        let before = (calls(cell(0)), returns(cell(0)));
        let made = village.under_load(THREADS, || {
            for _ in 0..ROUNDS {
                let mut batch = engine.batch();
                let action = Action::Time { cell: cell(0) };
                village.targets(action).for_each(|t| batch.add(Target { by, ..t }));
                let armed = batch.commit(Patching::Live).into_iter();
                let sites: Vec<_> = armed.map(|armed| armed.expect("armed").id).collect();
                thread::yield_now();
                engine.remove(&sites, Patching::Live).expect("removed");
            }
        });
        let (calls, returns) = (calls(cell(0)) - before.0, returns(cell(0)) - before.1);
        assert!(calls <= made, "{calls} of {made}");
        // One call of each thread is under way when the exits go.
        let pending = if by == Returns::Exits { ROUNDS * THREADS as u64 } else { 0 };
        assert!(returns <= calls && calls <= returns + pending, "{by:?}: {calls} {returns}");
    }
    assert!(engine.armed().is_empty());
}

/// The branches back are led past the probe, which comes and goes while threads are in them.
#[test]
fn functions_that_branch_back_come_and_go() {
    let (engine, _alone) = engine();
    let village = Village::of(16, &Village::LOOP[..30]);
    for traps in [true, false] {
        let arm = |patching| {
            let mut batch = engine.batch();
            village
                .targets(Action::Count { cell: cell(3) })
                .for_each(|t| batch.add(Target { traps, ..t }));
            let armed: Vec<_> =
                batch.commit(patching).into_iter().map(|a| a.expect("armed")).collect();
            assert!(armed.iter().all(|a| a.method == Method::Detour && !a.counts_branches));
            assert_eq!(engine.armed().len(), 16, "the branches are no probes");
            armed.into_iter().map(|a| a.id).collect::<Vec<_>>()
        };
        let before = calls(cell(3));
        let made = village.under_load(6, || {
            for _ in 0..30 {
                let sites = arm(Patching::Live);
                thread::yield_now();
                engine.remove(&sites, Patching::Live).expect("removed");
            }
        });
        let counted = calls(cell(3)) - before;
        assert!(counted <= made, "{counted} of {made}");
        let sites = arm(Patching::Quiet);
        let before = calls(cell(3));
        (0..16).for_each(|i| assert_eq!(village.call(i, 1), 2));
        assert_eq!(calls(cell(3)) - before, 16);
        engine.remove(&sites, Patching::Quiet).expect("removed");
        (0..16).for_each(|i| assert_eq!(village.call(i, 1), 2));
        assert_eq!(calls(cell(3)) - before, 16);
    }
}

/// Two probes whose patches would overlap: the second is refused.
#[test]
fn patches_do_not_overlap() {
    let (engine, _alone) = engine();
    let village = Village::new(1);
    let entry = village.targets(Action::Count { cell: cell(3) }).next().expect("one");
    let mut batch = engine.batch();
    batch.add(entry);
    batch.add(Target { offset: 1, action: Action::Count { cell: cell(3) }, ..entry });
    let armed = batch.commit(Patching::Quiet);
    assert!(armed[0].is_ok());
    assert_eq!(armed[1].err(), Some(Refusal::AlreadyProbed));
    assert_eq!(village.call(0, 1), 2);
    engine.remove(&[armed[0].expect("armed").id], Patching::Quiet).expect("removed");
}

#[test]
fn five_thousand_in_one_batch() {
    let (engine, _alone) = engine();
    let village = Village::new(5000);
    let mut sites = Vec::new();
    village.under_load(2, || {
        sites = village.arm(engine, Action::Count { cell: cell(1) }, Patching::Live)
    });
    assert_eq!(sites.len(), 5000);
    let before = calls(cell(1));
    for i in 0..5000 {
        assert_eq!(village.call(i, 1), 2);
    }
    assert_eq!(calls(cell(1)) - before, 5000);
    engine.remove(&sites, Patching::Live).expect("removed");
    assert_eq!(village.call(17, 1), 2);
    assert_eq!(calls(cell(1)) - before, 5000);
}

#[test]
fn breakpoints_are_exact_on_eight_threads_with_every_policy() {
    let (engine, _alone) = engine();
    for policy in [
        SlotPolicy::Permanent,
        SlotPolicy::StickyPerThread,
        SlotPolicy::CachePerThread,
        SlotPolicy::PerHit,
    ] {
        for emulate in [true, false] {
            let village = Village::new(8);
            let before = (calls(cell(2)), returns(cell(2)));
            let mut batch = engine.batch();
            batch.breakpoints(Config { policy, emulate });
            village
                .targets(Action::Time { cell: cell(2) })
                .for_each(|t| batch.add(Target { breakpoint: true, ..t }));
            let armed: Vec<_> =
                batch.commit(Patching::Quiet).into_iter().map(|a| a.expect("armed")).collect();
            assert!(armed.iter().all(|a| matches!(a.method, Method::Breakpoint(_))));
            let made =
                village.under_load(8, || thread::sleep(std::time::Duration::from_millis(30)));
            assert_eq!(
                (calls(cell(2)) - before.0, returns(cell(2)) - before.1),
                (made, made),
                "{policy:?}, emulation {emulate}"
            );
            let sites: Vec<_> = armed.iter().map(|a| a.id).collect();
            engine.remove(&sites, Patching::Quiet).expect("removed");
        }
    }
}

#[test]
fn restartable_sequences_are_left_alone() {
    let (engine, _alone) = engine();
    let village = Village::new(2);
    let mut batch = engine.batch();
    batch.add_rseq(village.address(0)..village.address(0) + 6);
    village.targets(Action::Count { cell: cell(3) }).for_each(|t| batch.add(t));
    let results = batch.commit(Patching::Quiet);
    assert!(matches!(results[0], Err(Refusal::Code(_))), "{:?}", results[0]);
    engine.remove(&[results[1].expect("armed").id], Patching::Quiet).expect("removed");
}

/// In a process of its own, thirty times.
#[test]
fn a_process_ends_right_after_disarming() {
    const NAME: &str = "a_process_ends_right_after_disarming";
    const MARK: &str = "TRAPLINE_TEST_ENDS";
    if std::env::var_os(MARK).is_some() {
        let (engine, _alone) = engine();
        let village = Village::new(16);
        village.under_load(2, || {
            let sites = village.arm(engine, Action::Time { cell: cell(4) }, Patching::Live);
            while calls(cell(4)) == 0 {
                thread::yield_now();
            }
            engine.remove(&sites, Patching::Live).expect("removed");
            std::process::exit(7);
        });
    }
    let program = std::env::current_exe().expect("this program");
    for _ in 0..30 {
        let output = std::process::Command::new(&program)
            .args(["--exact", NAME])
            .env(MARK, "1")
            .output()
            .expect("started");
        assert_eq!(output.status.code(), Some(7), "{output:?}");
    }
}
