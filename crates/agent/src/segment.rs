//! The mapped segment, and the blocks that threads of this process count in.
#![allow(unsafe_code)]

use crate::{control_block, fetch};
use resident::blocks::{Owned, lose, thread_name};
use resident::region;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use wire::{Files, Loss, Owner, Segment};

static SEGMENT: OnceLock<Segment> = OnceLock::new();
static OWNED: OnceLock<Owned> = OnceLock::new();
/// This process, without a system call: its space and its number.
static OWNER: AtomicU64 = AtomicU64::new(0);
/// The last thread that got no block got none for want of memory.
static NO_MEMORY: AtomicBool = AtomicBool::new(false);

/// The segment, once it is open.
pub(crate) fn get() -> Option<&'static Segment> {
    SEGMENT.get()
}

/// Opens the segment whose files are handed out at `path`.
pub(crate) fn open(path: &[u8]) -> Option<&'static Segment> {
    let files = fetch::files(path).ok()?;
    let [tables, counters] = &files;
    let files = Files { tables: tables.into(), counters: counters.into(), behind: false };
    let segment = Segment::attach(files, region::find).ok()?;
    set_owner(Owner::current());
    OWNED.get_or_init(|| Owned::new(segment.shape().blocks));
    Some(SEGMENT.get_or_init(|| segment))
}

fn set_owner(owner: Owner) {
    OWNER.store(u64::from(owner.space) << 32 | u64::from(owner.pid), Ordering::Relaxed);
}

pub(crate) fn owner() -> Owner {
    let word = OWNER.load(Ordering::Relaxed);
    Owner { pid: word as u32, space: (word >> 32) as u32 }
}

/// In a fork child, before its thread takes a block: the other threads are not there.
pub(crate) fn forget_blocks() {
    if let Some(mine) = OWNED.get() {
        mine.forget();
    }
}

/// In a fork child: whatever is said to be this process's was left by one that had its number.
pub(crate) fn forked() {
    let parent = owner();
    set_owner(if uprobe::is_sealed() {
        Owner { pid: control_block::own_number().unwrap_or_default(), ..parent }
    } else {
        Owner::child_of(parent)
    });
    if let Some(segment) = get() {
        segment.reclaim_blocks(owner());
    }
}

/// In a fork child whose thread has its own block: the parent's are its own business.
pub(crate) fn settled() {
    if let Some(segment) = get() {
        segment.leave_blocks(is_mine);
    }
}

/// Lets the blocks of this process's threads have cells for all functions that there are now.
/// False: one of them cannot.
pub(crate) fn extend_blocks(segment: &Segment) -> bool {
    segment.extend_blocks(is_mine)
}

pub(crate) fn pid() -> u32 {
    owner().pid
}

/// A block for the calling thread.
pub(crate) fn thread_start() -> *mut u8 {
    let Some(segment) = get() else { return ptr::null_mut() };
    if uprobe::is_sealed() {
        return sealed_thread_start(segment).unwrap_or(ptr::null_mut());
    }
    keeping_errno(|| {
        let tid = sys::thread::gettid().cast_unsigned();
        let mine = OWNED.get().ok_or(Loss::Threads);
        match mine.and_then(|mine| mine.take_block(segment, owner(), tid)) {
            Ok(block) => {
                segment.name_block(block, tid, &thread_name());
                segment.cells(block).map_or(ptr::null_mut(), |(cells, _)| cells.as_ptr())
            }
            Err(why) => {
                NO_MEMORY.store(why == Loss::Memory, Ordering::Relaxed);
                ptr::null_mut()
            }
        }
    })
}

/// A block that was kept for threads of a process without system calls, whose names cannot be
/// asked for.
fn sealed_thread_start(segment: &Segment) -> Option<*mut u8> {
    let (mine, tid) = (OWNED.get()?, control_block::own_number()?);
    let block = segment.take_mapped_block(owner(), tid, |block| mine.take(block))?;
    segment.name_block(block, tid, &[]);
    segment.cells(block).map(|(cells, _)| cells.as_ptr())
}

/// Writes down what the calling thread is called now, if it counts: programs name their threads
/// after they have started them.
///
/// # Context
/// No system call, no allocation. A child of `vfork` names its parent's thread.
pub(crate) fn name_thread(name: &[u8]) {
    if let (Some(segment), Some(block)) = (get(), own_block())
        && let Some(tid) = segment.tid(block)
    {
        segment.name_block(block, tid, name);
    }
}

/// [`name_thread`] for another thread of this process.
///
/// # Context
/// No system call, no allocation. Looks at every block.
pub(crate) fn name_other(tid: u32, name: &[u8]) {
    let Some(segment) = get().filter(|_| tid != 0) else { return };
    let is_its = |block: &usize| is_mine(*block) && segment.tid(*block) == Some(tid);
    if let Some(block) = (0..segment.blocks_len()).find(is_its) {
        segment.name_block(block, tid, name);
    }
}

/// The number of the calling thread, if it counts.
pub(crate) fn own_tid() -> Option<u32> {
    get()?.tid(own_block()?)
}

/// The block of the calling thread.
fn own_block() -> Option<usize> {
    let (_, cells) = uprobe::thread_word()?;
    get()?.block_at(cells).filter(|block| is_mine(*block))
}

fn is_mine(block: usize) -> bool {
    OWNED.get().is_some_and(|mine| mine.has(block))
}

/// Whether the caller runs in the process that this memory belongs to: a child of `vfork` does not.
///
/// # Context
/// One system call.
pub(crate) fn is_own() -> bool {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_getpid) as u32 == pid() }
}

/// The calling thread counts no more.
pub(crate) fn thread_exit(cells: *mut u8) {
    if let Some((segment, block)) = get().and_then(|s| Some((s, s.block_at(cells.addr())?))) {
        if let Some(mine) = OWNED.get() {
            mine.give(block);
        }
        keeping_errno(|| segment.release_block(block));
    }
}

/// A hit was lost.
pub(crate) fn lost(loss: uprobe::Loss) {
    if let Some(segment) = get() {
        lose(segment, loss, NO_MEMORY.load(Ordering::Relaxed));
    }
}

/// Runs `f`, whose system calls the program is not to notice: it may be about to look at `errno`.
fn keeping_errno<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: every thread has one.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: the thread's own.
    let errno = unsafe { place.read() };
    let result = f();
    // SAFETY: as above.
    unsafe { place.write(errno) };
    result
}
