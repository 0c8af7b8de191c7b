//! The segment that this process counts in, and blocks of it for the process's threads.
#![allow(unsafe_code)]

use crate::{memory, stacks};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use percpu::Mutex;
use recorder::Recorder;
use resident::blocks::{Owned, lose, thread_name};
use resident::region;
use sys::{process, thread};
use uprobe::GracePeriod;
use wire::image::Failure;
use wire::{Descriptor, Files, Loss, Owner, Places, Process, Segment};

/// A segment and what belongs to it in this process.
pub(crate) struct Attached {
    pub(crate) segment: Segment,
    mine: Owned,
    /// Null: no stacks are recorded.
    recorder: AtomicPtr<Recorder>,
}

impl Attached {
    /// What records stacks, if the segment wants that.
    pub(crate) fn recorder(&self) -> Option<&'static Recorder> {
        // SAFETY: null, or the segment's, which is there as long as this is.
        unsafe { self.recorder.load(Ordering::Acquire).as_ref() }
    }
}

/// What was in use before, while somebody may still look at it.
struct Left {
    attached: NonNull<Attached>,
    /// Consumers may look at it until this is over.
    grace: GracePeriod,
}

// SAFETY: an address of something that is made and freed by whoever has the lock of all.
unsafe impl Send for Left {}

/// Null: none is in use.
static ATTACHED: AtomicPtr<Attached> = AtomicPtr::new(ptr::null_mut());
static LEFT: Mutex<Vec<Left>> = Mutex::new(Vec::new());
/// Most of those. A thread that was stopped in the middle of a hit keeps all that come behind.
const MOST_LEFT: usize = 4;
/// How long threads that are in the middle of hits are waited for, in milliseconds.
const PATIENCE: u32 = 1000;
/// Where the blocks of earlier segments were.
static PLACES: Mutex<Option<Places>> = Mutex::new(None);
/// How many threads are on the engine's slow path, in here.
static INSIDE: AtomicUsize = AtomicUsize::new(0);
/// This process: its space and its number.
static OWNER: AtomicU64 = AtomicU64::new(0);
/// Whether this process has said to the segment in use that it counts.
static ANNOUNCED: AtomicBool = AtomicBool::new(false);
/// The last thread that got no block got none for want of memory.
static NO_MEMORY: AtomicBool = AtomicBool::new(false);

/// Runs `f` with the segment in use, on the way of a hit.
pub(crate) fn with<R>(f: impl FnOnce(&'static Attached) -> R) -> Option<R> {
    // In the single order of this, the look at what is in use, and their opposites in `leave`: one
    // of the two sees the other.
    INSIDE.fetch_add(1, Ordering::SeqCst);
    let result = get().map(f);
    INSIDE.fetch_sub(1, Ordering::SeqCst);
    result
}

/// The segment in use.
pub(crate) fn get() -> Option<&'static Attached> {
    // SAFETY: null, or made by `open`, and there as long as somebody is inside.
    unsafe { ATTACHED.load(Ordering::SeqCst).as_ref() }
}

/// Maps the segment in these files, which the caller closes.
///
/// # Errors
/// It is none, or cannot be mapped; threads are still in the middle of hits for others.
pub(crate) fn open(tables: i32, counters: i32) -> Result<(), Failure> {
    // SAFETY: descriptors that whoever called the image has opened, and keeps open meanwhile.
    let [tables, counters] = [tables, counters].map(|file| unsafe { Descriptor::borrow(file) });
    let files = Files { tables, counters, behind: false };
    if !forget_left() {
        return Err(Failure::Stopped);
    }
    // They stay if this fails: threads may have been stopped where they count there.
    let places = PLACES.lock().clone().unwrap_or_default();
    let segment = Segment::attach_in(files, places, region::find).map_err(|_| Failure::Segment)?;
    *PLACES.lock() = None;
    let mine = Owned::new(segment.shape().blocks);
    begin(Owner::current());
    segment.reclaim_blocks(owner());
    let recorder = AtomicPtr::new(ptr::null_mut());
    let attached = Box::leak(Box::new(Attached { segment, mine, recorder }));
    let attached: &'static Attached = attached;
    ANNOUNCED.store(false, Ordering::Relaxed);
    let recorder = stacks::start(&attached.segment, grown);
    let made = recorder.as_ref().ok().copied().flatten().map_or(ptr::null(), ptr::from_ref);
    attached.recorder.store(made.cast_mut(), Ordering::Release);
    ATTACHED.store(ptr::from_ref(attached).cast_mut(), Ordering::SeqCst);
    recorder.map(drop).inspect_err(|_| leave())
}

/// A thread has more memory now.
fn grown() {
    with(|attached| attached.segment.note_agent_bytes(memory::bytes()));
}

/// Nothing leads to where it is counted any more: all sites are disarmed, and have no consumers.
/// Its blocks go now, when nobody counts in them; the rest when nobody looks at it. Threads are
/// told so by `renew` ([`uprobe::Engine::renew_blocks`]).
pub(crate) fn leave_with(renew: impl FnOnce()) {
    // What is in the middle of a hit is counted, if it comes to its end soon.
    let hits = GracePeriod::begin();
    wait_for(|| hits.is_over());
    let attached = ATTACHED.swap(ptr::null_mut(), Ordering::SeqCst);
    let Some(attached) = NonNull::new(attached) else { return };
    // SAFETY: made by `open`, and freed below.
    *PLACES.lock() = Some(unsafe { attached.as_ref() }.segment.vacate());
    renew();
    // From here on nobody finds it, but for those who have.
    LEFT.lock().push(Left { attached, grace: GracePeriod::begin() });
    wait_for(|| forget_left() && LEFT.lock().is_empty());
}

/// [`leave_with`] where no thread has had a hit.
pub(crate) fn leave() {
    leave_with(|| ());
}

fn wait_for(mut over: impl FnMut() -> bool) {
    for _ in 0..PATIENCE {
        if over() {
            return;
        }
        let _ = sys::time::nanosleep(Duration::from_millis(1));
    }
}

/// Takes away what was in use before, unless a thread is inside, and may have been when it was:
/// then that is tried again later. False: of that there is too much.
fn forget_left() -> bool {
    let mut left = LEFT.lock();
    left.retain(|Left { attached, grace }| {
        if INSIDE.load(Ordering::SeqCst) != 0 || !grace.is_over() {
            return true;
        }
        // SAFETY: made by `open`, and nobody was inside after it went out of use.
        let attached = unsafe { Box::from_raw(attached.as_ptr()) };
        if let Some(recorder) = attached.recorder() {
            // SAFETY: as above, in a consumer of it; and threads' words are 0 before they use
            // another, for they begin anew.
            unsafe { recorder.end() };
        }
        false
    });
    left.len() < MOST_LEFT
}

fn begin(owner: Owner) {
    OWNER.store(u64::from(owner.space) << 32 | u64::from(owner.pid), Ordering::Relaxed);
}

/// The pid namespace of this process.
pub(crate) fn space() -> u32 {
    owner().space
}

fn owner() -> Owner {
    let word = OWNER.load(Ordering::Relaxed);
    Owner { pid: word as u32, space: (word >> 32) as u32 }
}

/// In a fork child, before its first thread takes a block: the blocks are its parent's, whose other
/// threads are not here, and whatever is said to be this process's was left by one that had its
/// number.
pub(crate) fn forked() {
    INSIDE.store(0, Ordering::SeqCst);
    stacks::forked();
    with(|attached| {
        attached.mine.forget();
        begin(Owner::child_of(owner()));
        attached.segment.reclaim_blocks(owner());
        ANNOUNCED.store(false, Ordering::Relaxed);
        announce(attached, 0, 0);
    });
}

/// Says that this process counts, once: libraries that come later change nothing about that.
pub(crate) fn announce(attached: &Attached, detours: u32, arming_ns: u64) {
    // Relaxed: in a process one call at a time says so.
    if ANNOUNCED.swap(true, Ordering::Relaxed) {
        return;
    }
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
    with(block).unwrap_or(ptr::null_mut())
}

/// A block for the calling thread.
fn block(attached: &Attached) -> *mut u8 {
    let tid = thread::gettid().cast_unsigned();
    let segment = &attached.segment;
    match attached.mine.take_block(segment, owner(), tid) {
        Ok(block) => {
            segment.name_block(block, tid, &thread_name());
            segment.cells(block).map_or(ptr::null_mut(), |(cells, _)| cells.as_ptr())
        }
        Err(why) => {
            NO_MEMORY.store(why == Loss::Memory, Ordering::Relaxed);
            ptr::null_mut()
        }
    }
}

/// A thread counts in this block no more.
pub(crate) fn thread_exit(cells: *mut u8) {
    with(|attached| {
        if let Some(block) = attached.segment.block_at(cells.addr()) {
            attached.mine.give(block);
            attached.segment.release_block(block);
        }
    });
}

/// A hit was lost.
pub(crate) fn lost(loss: uprobe::Loss) {
    with(|attached| lose(&attached.segment, loss, NO_MEMORY.load(Ordering::Relaxed)));
}
