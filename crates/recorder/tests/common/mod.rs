//! A segment, an engine with blocks in it, a recorder, and functions to probe that call each other
//! by the bits of a number: as many stacks as wanted.
#![allow(dead_code)]

use recorder::{Loaded, Probe, Recorder};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use unwind::Module;
use uprobe::{Action, Config, Engine, Hooks, Patching, Target};
use wire::{Identity, Segment, Shape, Stacks, cell};

// Twelve levels, each with two calls of the next, and the leaf, which is probed: push, lea, pop,
// ret.
std::arch::global_asm!(
    ".globl recorder_level_0",
    ".altmacro",
    ".macro __recorder_level n, next",
    ".p2align 4",
    "recorder_level_\\n:",
    ".cfi_startproc",
    "sub rsp, 24",
    ".cfi_def_cfa_offset 32",
    "test edi, 1 << \\n",
    "jz 1f",
    "call recorder_level_\\next",
    "jmp 2f",
    "1:",
    "call recorder_level_\\next",
    "2:",
    "add rsp, 24",
    ".cfi_def_cfa_offset 8",
    "ret",
    ".cfi_endproc",
    ".endm",
    "__recorder_level 0, 1",
    "__recorder_level 1, 2",
    "__recorder_level 2, 3",
    "__recorder_level 3, 4",
    "__recorder_level 4, 5",
    "__recorder_level 5, 6",
    "__recorder_level 6, 7",
    "__recorder_level 7, 8",
    "__recorder_level 8, 9",
    "__recorder_level 9, 10",
    "__recorder_level 10, 11",
    "__recorder_level 11, 12",
    ".purgem __recorder_level",
    ".noaltmacro",
    ".p2align 4, 0xcc",
    "recorder_level_12:",
    ".globl recorder_leaf",
    "recorder_leaf:",
    ".cfi_startproc",
    "push rbx",
    ".cfi_def_cfa_offset 16",
    "lea rax, [rdi + 7]",
    "pop rbx",
    ".cfi_def_cfa_offset 8",
    "ret",
    ".cfi_endproc",
    ".p2align 4, 0xcc",
);

unsafe extern "C" {
    #[link_name = "recorder_level_0"]
    safe fn levels(bits: u64) -> u64;
    safe fn recorder_leaf(bits: u64) -> u64;
}

/// Stacks that there are.
pub(crate) const STACKS: u64 = 1 << 12;

/// One hit on the stack with this number.
pub(crate) fn hit(stack: u64) {
    assert_eq!(levels(stack % STACKS), stack % STACKS + 7);
}

static SEGMENT: OnceLock<Segment> = OnceLock::new();

pub(crate) fn segment() -> &'static Segment {
    SEGMENT.get().expect("set up")
}

fn thread_start() -> *mut u8 {
    let cells = || segment().cells(segment().take_block(wire::Owner::current(), 0).ok()?);
    cells().map_or(std::ptr::null_mut(), |(cells, _)| cells.as_ptr())
}

fn thread_exit(cells: *mut u8) {
    if let Some(block) = segment().block_at(cells.addr()) {
        segment().release_block(block);
    }
}

/// Sets everything up, and arms the leaf.
pub(crate) fn start(stacks: Stacks) -> &'static Recorder {
    static RECORDER: OnceLock<&'static Recorder> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let shape = Shape {
            objects: 1,
            functions: 1,
            blocks: 128,
            cell_bytes: cell::TIMED_BYTES,
            budget: 1 << 30,
            per_thread: false,
            scarce: false,
            stacks: Some(stacks),
        };
        let path = std::env::temp_dir().join(format!("recorder-test-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .expect("a temporary file");
        std::fs::remove_file(path).expect("just made");
        let _ = SEGMENT.set(Segment::create(&file, shape).expect("a segment"));
        let engine = Engine::start(
            Hooks { thread_start, thread_exit, lost: |loss| panic!("lost: {loss:?}") },
            Config::default(),
        )
        .expect("an engine");
        let recorder = Recorder::start(segment(), || ()).expect("a recorder");
        let file = |n: usize| Identity { ino: n as u64 + 1, ..Identity::default() };
        recorder.loaded(
            Module::all(&mut |_| 0)
                .into_iter()
                .enumerate()
                .map(|(n, module)| Loaded { module, file: file(n) })
                .collect(),
        );
        let address = recorder_leaf as *const () as u64;
        let probe = Probe { address, entry: true, cell: 0, timed: stacks.timed };
        let mut batch = engine.batch();
        batch.add(Target {
            after: 4,
            ..Target::entry(address, 7, Action::Call(recorder.consumer(probe)))
        });
        batch.commit(Patching::Quiet).remove(0).expect("armed");
        recorder
    })
}

/// Stacks of which everything fits.
pub(crate) const ROOMY: Stacks = Stacks {
    depot_bytes: 16 << 20,
    counts_bytes: 16 << 20,
    depth: 64,
    frame_pointers: false,
    timed: false,
    evict: false,
};

/// A field of the leaf's cell, over all threads.
pub(crate) fn cell(field: usize) -> u64 {
    let blocks = (0..segment().blocks_len()).filter_map(|block| segment().cells(block));
    blocks
        .map(|(cells, _)| {
            let at = cells.as_ptr().wrapping_add(field).cast::<AtomicU64>();
            // SAFETY: the leaf's cell is the first of each block.
            unsafe { &*at }.load(Ordering::Relaxed)
        })
        .sum()
}

/// Hits by handle; 0: evicted.
pub(crate) fn counts() -> BTreeMap<u32, u64> {
    let mut sums = BTreeMap::new();
    segment().stack_counts(|count| *sums.entry(count.handle).or_insert(0) += count.calls);
    sums
}

/// The frames of a handle.
pub(crate) fn frames(handle: u32) -> Vec<u64> {
    let (base, bytes) = segment().depot().expect("there are stacks");
    // SAFETY: the segment stays mapped.
    let reader = unsafe { stackdepot::Reader::new(base, bytes) }.expect("a depot");
    let mut buffer = [0; 256];
    reader.fetch(stackdepot::Handle::from_bits(handle), &mut buffer).expect("a stack").to_vec()
}
