//! The probe engine on functions of the program itself, as an image uses it: decided from the file,
//! written by somebody else (here: by this program, while it has one thread), counted in a segment.
#![allow(unsafe_code)]

use crate::exercise::Shared;
use crate::probes::{PROBED, all};
use crate::program::Program;
use crate::recording::STACKS;
use crate::threads;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use patch::Decisions;
use percpu::OnceLock;
use recorder::{Loaded, Probe, Recorder};
use sys::file::{self, AT_FDCWD, MFD_CLOEXEC, O_RDONLY, O_WRONLY};
use sys::futex::{self, Scope};
use sys::process;
use sys::thread::gettid;
use unwind::Module;
use uprobe::{
    Action, Armed, Change, Config, Engine, Hooks, Loss, Outside, Prepared, Refusal, SiteId, Target,
};
use wire::{Descriptor, Files, Function, Identity, Kind, Owner, Segment, Shape, cell};

const SHAPE: Shape = Shape {
    objects: 1,
    functions: PROBED,
    blocks: 64,
    cell_bytes: 4096,
    budget: 64 << 20,
    per_thread: false,
    scarce: false,
    stacks: Some(STACKS),
};

/// Which of them is counted by its stack.
const STACKED: usize = 1;
/// Calls of each function by each thread at a time.
const CALLS: u64 = 1000;
/// Threads of a round.
const THREADS: u64 = 4;

static SEGMENT: OnceLock<&'static Segment> = OnceLock::new();
static RECORDER: OnceLock<&'static Recorder> = OnceLock::new();
/// Blocks that were given out and taken back, and children that were found, in this process and
/// its parents.
static BLOCKS: AtomicU32 = AtomicU32::new(0);
static EXITS: AtomicU32 = AtomicU32::new(0);
static FORKS: AtomicU32 = AtomicU32::new(0);

fn thread_start() -> *mut u8 {
    BLOCKS.fetch_add(1, Ordering::Relaxed);
    let segment = SEGMENT.get().expect("the engine was started behind it");
    let block = segment.take_block(Owner::current(), gettid().cast_unsigned());
    let cells = block.ok().and_then(|block| segment.cells(block));
    cells.map_or(ptr::null_mut(), |(cells, _)| cells.as_ptr())
}

fn thread_exit(cells: *mut u8) {
    EXITS.fetch_add(1, Ordering::Relaxed);
    let segment = SEGMENT.get().expect("its block is there");
    if let Some(block) = segment.block_at(cells.addr()) {
        segment.release_block(block);
    }
}

fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    if let Some(recorder) = RECORDER.get() {
        recorder.forked();
    }
}

fn lost(loss: Loss) {
    panic!("lost: {loss:?}");
}

/// Calls each function that can be probed.
fn call_all(_: &Shared) {
    for _ in 0..CALLS {
        for probed in &all()[..PROBED] {
            assert_eq!((probed.call)(3), 4);
        }
    }
}

/// [`call_all`] in a thread that can tell that it has the words of another one.
fn call_all_after_another(shared: &Shared) {
    // SAFETY: the thread that had this control block has been waited for.
    unsafe { percpu::tls::thread_has_ended() };
    call_all(shared);
}

/// What was asked for, and the segment as the command line has it.
struct Probing {
    program: u64,
    catalogue: Vec<u8>,
    file: Descriptor<'static>,
    segment: Segment,
    engine: &'static Engine,
    recorder: &'static Recorder,
    cells: [u32; PROBED],
}

pub(crate) fn run(program: &Program, catalogue: &CStr, shared: &Shared) {
    let probing = Probing::start(program, catalogue);
    let mut expected = 0;
    let mut check = |calls: u64, why: &str| {
        expected += calls;
        probing.check(expected, why);
    };
    call_all(shared);
    check(0, "nothing is written yet");

    let (ids, changes) = probing.arm();
    let blocks = || u64::from(BLOCKS.load(Ordering::Relaxed));
    assert_eq!(blocks(), 0, "nobody had a hit");
    write(&changes);
    call_all(shared);
    check(CALLS, "this thread");
    for _ in 0..2 {
        threads::run(shared, call_all);
        check(THREADS * CALLS, "threads");
    }
    assert_eq!(blocks(), 1 + THREADS, "one for a control block");
    fork(shared);
    // This thread, which has forked, and the one beside it; in the child the former twice, and
    // threads.
    check((1 + 1 + 2 + THREADS) * CALLS, "a fork");
    assert_eq!(blocks(), 1 + THREADS, "the child's are its own");
    threads::run(shared, call_all_after_another);
    check(THREADS * CALLS, "threads that are known to be others");
    assert_eq!((blocks(), u64::from(EXITS.load(Ordering::Relaxed))), (1 + 2 * THREADS, THREADS));

    let back = probing.engine.remove_outside(&ids);
    write(&back);
    for (change, back) in sorted(&changes).iter().zip(sorted(&back)) {
        assert_eq!(
            (change.address, &change.old, &change.new),
            (back.address, &back.new, &back.old)
        );
        assert!(back.moved.is_empty());
    }
    call_all(shared);
    check(0, "it was taken out");
    let (again, same) = probing.arm();
    assert_eq!((ids, sorted(&changes)), (again, sorted(&same)));
    write(&same);
    call_all(shared);
    check(CALLS, "armed again");
    assert_eq!(uprobe::losses(), [0; uprobe::LOSSES]);
}

/// A child beside a thread that counts.
fn fork(shared: &Shared) {
    static STEP: AtomicU32 = AtomicU32::new(0);
    fn step_from(step: u32) {
        while STEP.load(Ordering::Acquire) == step {
            let _ = futex::wait(&STEP, step, None, Scope::Private);
        }
    }
    fn go_on() {
        STEP.fetch_add(1, Ordering::Release);
        futex::wake(&STEP, 1, Scope::Private);
    }
    let beside = |shared: &Shared| {
        go_on();
        call_all(shared);
        step_from(1);
    };
    threads::beside(shared, beside, |shared| {
        step_from(0);
        let status = threads::in_child(|| {
            assert_eq!(FORKS.load(Ordering::Relaxed), 0);
            // Threads on control blocks that its parent's had, one of them in the middle of a hit
            // perhaps; then its first one.
            let before = BLOCKS.load(Ordering::Relaxed);
            threads::run(shared, call_all);
            call_all(shared);
            call_all(shared);
            let taken = BLOCKS.load(Ordering::Relaxed) - before;
            assert_eq!((u64::from(taken), FORKS.load(Ordering::Relaxed)), (1 + THREADS, 1));
            process::exit_group(7);
        });
        assert_eq!(status, 7 << 8);
        call_all(shared);
        go_on();
    });
}

impl Probing {
    fn start(program: &Program, catalogue: &CStr) -> Self {
        let file = file::memfd_create(c"segment", MFD_CLOEXEC).expect("a memory file");
        // SAFETY: never closed.
        let descriptor = unsafe { Descriptor::borrow(file) };
        let command_line = Segment::create_in(Files::one(descriptor), SHAPE).expect("a segment");
        let cells = core::array::from_fn(|n| {
            let cell = command_line.add_cell(cell::COUNT_BYTES).expect("room");
            let (kind, returns, address) = (Kind::Count, false, n as u64);
            let function = Function { address, size: 1, after: 0, offset: 0, kind, returns, cell };
            command_line.add_function(0, &function).expect("room");
            cell
        });
        let identity = Identity { ino: 7, ..Identity::default() };
        command_line.add_object(&identity, 0..PROBED, b"").expect("room");
        let agent = Segment::attach(Files::one(descriptor), |_| 0x2100_0000_0000).expect("there");
        let agent = &**SEGMENT.get_or_init(|| Box::leak(Box::new(agent)));

        static HOST: OnceLock<uprobe::host::Host> = OnceLock::new();
        let first_stack_end = program.stack_end();
        uprobe::host::supply(HOST.get_or_init(|| uprobe::host::Host { first_stack_end, forked }));
        let hooks = Hooks { thread_start, thread_exit, lost };
        let engine = Engine::start(hooks, Config::default()).expect("memory");
        let recorder = *RECORDER.get_or_init(|| Recorder::start(agent, || ()).expect("memory"));
        let loaded = |module| Loaded { module, file: identity.clone() };
        recorder.loaded(Module::all(&mut |_| 0).into_iter().map(loaded).collect());
        let catalogue = read(catalogue);
        let (program, file, segment) = (program.base, descriptor, command_line);
        Self { program, catalogue, file, segment, engine, recorder, cells }
    }

    fn arm(&self) -> (Vec<SiteId>, Vec<Change>) {
        let decisions = Decisions::read(&self.catalogue);
        let mut batch = self.engine.batch();
        for (n, probed) in all().iter().enumerate() {
            let (address, cell) = (probed.address, self.cells.get(n).copied().unwrap_or(0));
            let action = if n == STACKED {
                let probe = Probe { address, entry: true, cell, timed: false };
                Action::Call(self.recorder.consumer(probe))
            } else {
                Action::Count { cell }
            };
            // As many bytes as any has, with what is nobody's behind it.
            let (size, returns, traps) = (64, false, true);
            let target = Target { size, returns, traps, ..Target::entry(address, size, action) };
            match decisions.find(address - self.program, 0, self.program) {
                Some(decision) => batch.add_decided(target, decision),
                None => batch.add(target),
            }
        }
        let Prepared { armed, changes } = batch.commit_outside(Outside::default());
        let (done, refused) = armed.split_at(PROBED);
        let refused: Vec<_> = refused.iter().map(|r| r.as_ref().err().copied()).collect();
        let expected = [Refusal::NeedsTrap, Refusal::OtherCode, Refusal::OtherCode].map(Some);
        assert_eq!(refused, expected);
        let done: Vec<Armed> = done.iter().map(|r| r.expect("room for a jump")).collect();
        assert!(done.iter().all(|armed| !armed.counts_branches));
        // The one branch that is led past its probe.
        assert_eq!(changes.len(), PROBED + 1);
        for change in &changes {
            assert_eq!((change.old.len(), change.new.len(), change.new[0]), (5, 5, 0xe9));
            assert_eq!(change.moved[0].0, change.address);
            assert!(
                change.moved.is_sorted()
                    && change.moved.iter().all(|m| change.range.contains(&m.0))
            );
        }
        (done.iter().map(|armed| armed.id).collect(), changes)
    }

    /// Each function has as many calls, the one by its stack with stacks.
    fn check(&self, expected: u64, why: &str) {
        let mut calls = [0; PROBED];
        for block in 0..self.segment.blocks_len() {
            let Some(place) = self.segment.block_range(block) else { continue };
            let view = self.segment.view(self.file, block, &place).expect("mapped");
            for (n, calls) in calls.iter_mut().enumerate() {
                let function = self.segment.function(n).expect("added");
                *calls += view.counts(&function).calls;
            }
        }
        assert_eq!(calls, [expected; PROBED], "{why}");
        let mut stacked = 0;
        self.segment.stack_counts(|count| stacked += count.calls);
        assert_eq!(stacked, expected, "{why}");
    }
}

fn sorted(changes: &[Change]) -> Vec<Change> {
    let mut sorted = changes.to_vec();
    sorted.sort_unstable_by_key(|change| change.address);
    sorted
}

fn read(path: &CStr) -> Vec<u8> {
    let fd = file::openat(AT_FDCWD, path, O_RDONLY, 0).expect("the file with decisions");
    let mut bytes = alloc::vec![0; 1 << 16];
    let read = file::read(fd, &mut bytes).expect("a file");
    assert!(0 < read && read < bytes.len());
    bytes.truncate(read);
    bytes
}

/// Writes as a tracer would: by the file of the memory, through its protections.
fn write(changes: &[Change]) {
    let memory = file::openat(AT_FDCWD, c"/proc/self/mem", O_WRONLY, 0).expect("memory");
    for change in changes {
        for (n, old) in change.old.iter().enumerate() {
            let at = ptr::with_exposed_provenance::<u8>(change.address as usize + n);
            // SAFETY: code of this program.
            assert_eq!(unsafe { at.read_volatile() }, *old);
        }
        assert_eq!(file::pwrite(memory, &change.new, change.address), Ok(change.new.len()));
    }
    // SAFETY: opened above.
    unsafe { file::close(memory) }.expect("ours");
}
