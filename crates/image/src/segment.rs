//! The segment that this process counts in, and blocks of it for the process's threads.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use resident::blocks::Owned;
use resident::region;
use sys::{process, thread};
use uprobe::Lock;
use wire::image::Failure;
use wire::{Descriptor, Files, Loss, Owner, Process, Segment};

/// A segment and what belongs to it in this process. Never given back: a thread may have been
/// interrupted while it counts.
pub(crate) struct Attached {
    pub(crate) segment: Segment,
    mine: Owned,
}

/// Null: none is in use.
static ATTACHED: AtomicPtr<Attached> = AtomicPtr::new(ptr::null_mut());
/// This process: its space and its number.
static OWNER: AtomicU64 = AtomicU64::new(0);
/// [`percpu::fork::generation`] of the process that [`OWNER`] is.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// The last thread that got no block got none for want of memory.
static NO_MEMORY: AtomicBool = AtomicBool::new(false);
/// Held while a fork child finds out who it is. Behind those of the engine and the allocator.
const BEGINNING: Lock = Lock::new(101);

/// The segment in use.
pub(crate) fn get() -> Option<&'static Attached> {
    // Acquire pairs with the Release in `open`.
    // SAFETY: null, or leaked by `open`.
    unsafe { ATTACHED.load(Ordering::Acquire).as_ref() }
}

/// Maps the segment in these files, which the caller closes.
///
/// # Errors
/// It is none, or cannot be mapped.
pub(crate) fn open(tables: i32, counters: i32) -> Result<(), Failure> {
    // SAFETY: descriptors that whoever called the image has opened, and keeps open meanwhile.
    let [tables, counters] = [tables, counters].map(|file| unsafe { Descriptor::borrow(file) });
    let files = Files { tables, counters, behind: false };
    let segment = Segment::attach(files, region::find).map_err(|_| Failure::Segment)?;
    let mine = Owned::new(segment.shape().blocks);
    begin(Owner::current());
    segment.reclaim_blocks(owner());
    let attached = Box::into_raw(Box::new(Attached { segment, mine }));
    ATTACHED.store(attached, Ordering::Release);
    Ok(())
}

/// Nothing is counted in it any more.
pub(crate) fn leave() {
    ATTACHED.store(ptr::null_mut(), Ordering::Release);
}

fn begin(owner: Owner) {
    OWNER.store(u64::from(owner.space) << 32 | u64::from(owner.pid), Ordering::Relaxed);
    // Release pairs with the Acquire in `settle`.
    GENERATION.store(percpu::fork::generation(), Ordering::Release);
}

fn owner() -> Owner {
    let word = OWNER.load(Ordering::Relaxed);
    Owner { pid: word as u32, space: (word >> 32) as u32 }
}

/// In a fork child, before its first thread takes a block: the blocks are its parent's, and
/// whatever is said to be this process's was left by one that had its number.
fn settle(attached: &Attached) {
    if GENERATION.load(Ordering::Acquire) == percpu::fork::generation() {
        return;
    }
    BEGINNING.with(|| {
        if GENERATION.load(Ordering::Acquire) == percpu::fork::generation() {
            return;
        }
        attached.mine.forget();
        begin(Owner::child_of(owner()));
        attached.segment.reclaim_blocks(owner());
        announce(attached, 0, 0);
    });
}

/// Says that this process counts.
pub(crate) fn announce(attached: &Attached, detours: u32, arming_ns: u64) {
    attached.segment.add_process(&Process {
        pid: owner().pid,
        parent: process::getppid().cast_unsigned(),
        detours,
        breakpoints: 0,
        arming_ns,
        name: Vec::new(),
    });
}

/// Lets the blocks of this process's threads have cells for all functions that there are now.
/// False: one of them cannot.
pub(crate) fn extend_blocks(attached: &Attached) -> bool {
    attached.segment.extend_blocks(|block| attached.mine.has(block))
}

/// The engine asks for a block for the calling thread.
pub(crate) fn thread_start() -> *mut u8 {
    let Some(attached) = get() else { return ptr::null_mut() };
    settle(attached);
    let tid = thread::gettid().cast_unsigned();
    let segment = &attached.segment;
    match attached.mine.take_block(segment, owner(), tid) {
        Ok(block) => {
            segment.name_block(block, tid, &name());
            segment.cells(block).map_or(ptr::null_mut(), |(cells, _)| cells.as_ptr())
        }
        Err(why) => {
            NO_MEMORY.store(why == Loss::Memory, Ordering::Relaxed);
            ptr::null_mut()
        }
    }
}

/// The calling thread's name without the terminating zeros.
fn name() -> [u8; 16] {
    const PR_GET_NAME: i32 = 16;
    let mut name = [0; 16];
    let place = name.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes at most 16 bytes.
    let _ = unsafe { process::prctl(PR_GET_NAME, [place, 0, 0, 0]) };
    name
}

/// A thread counts in this block no more.
pub(crate) fn thread_exit(cells: *mut u8) {
    let Some(attached) = get() else { return };
    if let Some(block) = attached.segment.block_at(cells.addr()) {
        attached.mine.give(block);
        attached.segment.release_block(block);
    }
}

/// A hit was lost.
pub(crate) fn lost(loss: uprobe::Loss) {
    let reason = match loss {
        uprobe::Loss::Recursion => Loss::Recursion,
        uprobe::Loss::Depth => Loss::Depth,
        uprobe::Loss::Capacity if NO_MEMORY.load(Ordering::Relaxed) => Loss::Memory,
        uprobe::Loss::Capacity => Loss::Threads,
        uprobe::Loss::Disabled => Loss::Disabled,
    };
    if let Some(attached) = get() {
        attached.segment.lose(reason, 1);
    }
}
