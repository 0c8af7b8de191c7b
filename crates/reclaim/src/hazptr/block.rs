//! A thread's share of the hazard slots, and what others may know of its rounds.
//!
//! # Who writes what
//! `slots[i]`: the holder of slot i. `claims`: see `claims.rs`. `moved` bit i: cleared by the owner
//! when it takes slot i, set by the holder when it detaches. `holders[i]`: by the holder at detach
//! (null) and attach (its own main block); meaningful while bit i of `moved` is set and slot i is
//! held. `next`, `reads`, `shard`, `batch_mask`, `round`: the owning thread, its signal handlers,
//! and in a fork child the adopter.
//!
//! # Fork
//! A slot counts in a fork child if its holder came along: the owner of the block unless the slot
//! was moved, then the thread that attached it. A detached slot that nobody has attached yet always
//! counts, because whoever finds the token may attach it.

use super::claims::{Claims, SLOTS};
use super::head::Head;
use super::owner::Shares;
use super::slot::{Seen, Slot};
use core::ptr;
use percpu::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
use percpu::{Record, Registry};

/// Slots 0..SCOPED of a thread's first block are a stack for `scope`; the others, and all of
/// further blocks, by kept holders.
pub(super) const SCOPED: usize = 4;

/// Objects that threads retire are spread over this many lists per domain.
pub(super) const SHARDS: usize = 16;

/// The list of what deleters retire: the shard of a thread while it is inside a round.
pub(super) const BY_DELETERS: usize = SHARDS;

/// The same for the rounds of a barrier, which goes on until this list is empty.
pub(super) const BY_BARRIERS: usize = SHARDS + 1;

pub(super) const LISTS: usize = SHARDS + 2;

pub(super) type BlockRef = &'static Record<Block>;

/// All blocks of the process. Slots belong to the process, not to a domain: a holder cannot be of
/// the wrong domain.
static BLOCKS: Registry<Block> = Registry::new();

/// See the module's text. The slots have a line of their own: reclaimers read it, and nothing else
/// in the block is of interest to them in the ordinary case.
#[derive(Debug)]
#[repr(C, align(128))]
pub(super) struct Block {
    pub(super) slots: [Slot; SLOTS],
    pub(super) claims: Claims,
    moved: AtomicU32,
    /// The thread's next block.
    pub(super) next: AtomicPtr<Record<Block>>,
    /// Whether slots of this block have been used: see [`Block::begin_to_read`].
    reads: AtomicBool,
    /// Which list of a domain this thread retires to: below [`LISTS`].
    pub(super) shard: AtomicUsize,
    /// See `Domain::add`; a power of two less one.
    pub(super) batch_mask: AtomicU64,
    holders: [AtomicPtr<Record<Block>>; SLOTS],
    pub(super) round: RoundFrame,
}

const _: () = assert!(size_of::<[Slot; SLOTS]>() == 64, "the slots fill one cache line");

/// What a thread's round has in hand, so that others can wait for it and a fork child can take it
/// over.
#[derive(Debug)]
pub(super) struct RoundFrame {
    /// 0: no round; else the domain's address, with a count of rounds in the low bits (see
    /// `FRAME_COUNT`).
    pub(super) domain: AtomicUsize,
    /// Rounds so far.
    pub(super) count: AtomicUsize,
    /// What was taken from each list of the domain, then from `kept`; advanced before a deleter
    /// runs.
    pub(super) lists: [AtomicPtr<Head>; LISTS + 1],
    /// What turned out to be protected.
    pub(super) kept: AtomicPtr<Head>,
    /// The owner of the object whose deleter is running, or null.
    pub(super) owner: AtomicPtr<Shares>,
}

/// Low bits of a domain's address, which are 0 there.
pub(super) const FRAME_COUNT: usize = 127;

impl Default for RoundFrame {
    fn default() -> Self {
        Self {
            domain: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            lists: [const { AtomicPtr::new(ptr::null_mut()) }; LISTS + 1],
            kept: AtomicPtr::new(ptr::null_mut()),
            owner: AtomicPtr::new(ptr::null_mut()),
        }
    }
}

impl Default for Block {
    fn default() -> Self {
        Self {
            slots: Default::default(),
            claims: Claims::default(),
            moved: AtomicU32::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
            reads: AtomicBool::new(false),
            shard: AtomicUsize::new(0),
            batch_mask: AtomicU64::new(0),
            holders: [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS],
            round: RoundFrame::default(),
        }
    }
}

/// Acquires a block and puts it into its starting state; `free` are the slots for kept holders.
pub(super) fn acquire(free: u32) -> Option<BlockRef> {
    let block = BLOCKS.acquire()?;
    block.claims.reset(free);
    // Relaxed: the block's owner writes these for itself; for `moved` and `holders` see `detach`.
    block.moved.store(0, Ordering::Relaxed);
    block.next.store(ptr::null_mut(), Ordering::Relaxed);
    block.reads.store(false, Ordering::Relaxed);
    Some(block)
}

/// All blocks ever made.
pub(super) fn all() -> impl Iterator<Item = BlockRef> {
    BLOCKS.iter()
}

/// Calls `f` with everything that a slot of this process protects; returns the number of slots in
/// existence.
pub(super) fn for_each_protected(mut f: impl FnMut(Seen)) -> usize {
    let mut slots = 0;
    for block in all() {
        slots += SLOTS;
        for (index, slot) in block.slots.iter().enumerate() {
            match slot.seen() {
                Seen::Nothing => {}
                seen if counts(block, index) => f(seen),
                _ => {}
            }
        }
    }
    slots
}

/// Whether the thread whose first block is `main`, and which owns `main` and what `is_own` says,
/// protects the object at this address itself.
pub(super) fn is_protected_by(
    main: BlockRef,
    is_own: impl Fn(BlockRef) -> bool,
    address: usize,
) -> bool {
    all().any(|block| {
        let announces = |slot: &Slot| slot.seen() == Seen::Object(address);
        let mut found = block.slots.iter().enumerate().filter(|(_, slot)| announces(slot));
        found.any(|(index, _)| {
            // Acquire as in `counts`.
            if block.moved.load(Ordering::Acquire) & (1 << index) == 0 {
                is_own(block)
            } else {
                ptr::eq(block.holders[index].load(Ordering::Acquire), main)
            }
        })
    })
}

/// Whether the holder of a slot exists in this process.
fn counts(block: BlockRef, index: usize) -> bool {
    // Acquire pairs with the Release in `detach`: who sees the slot moved sees its holder. Outside
    // of a fork child every answer is "yes" whatever the order.
    if block.moved.load(Ordering::Acquire) & (1 << index) == 0 {
        return block.is_alive();
    }
    holder_exists(block.holders[index].load(Ordering::Acquire))
}

#[allow(unsafe_code)]
fn holder_exists(holder: *mut Record<Block>) -> bool {
    // SAFETY: null, or a record of `BLOCKS`, which is a static and never frees its records.
    match unsafe { holder.as_ref() } {
        None => true,
        Some(holder) => holder.is_alive(),
    }
}

impl Block {
    /// Takes a slot for a kept holder; the calling thread owns the block.
    pub(super) fn take(&self) -> Option<usize> {
        let index = self.claims.take()?;
        // Relaxed: the slot is empty and this thread's; another thread hears of it through `detach`
        // only.
        if self.moved.load(Ordering::Relaxed) & (1 << index) != 0 {
            self.moved.fetch_and(!(1 << index), Ordering::Relaxed);
        }
        Some(index)
    }

    /// The slot leaves its thread together with its protection.
    pub(super) fn detach(&self, index: usize) {
        self.holders[index].store(ptr::null_mut(), Ordering::Release);
        // Release pairs with the Acquire in `counts`.
        self.moved.fetch_or(1 << index, Ordering::Release);
    }

    /// Before the first use of a slot. Threads that only retire do not come here, and make no round
    /// pay for them.
    pub(super) fn begin_to_read(&self) {
        if !self.reads.load(Ordering::Relaxed) {
            self.reads.store(true, Ordering::Relaxed);
            // Pairs with the fence in `make_readers_fence`.
            fence(Ordering::SeqCst);
        }
    }

    /// Whether slots of this block may be in use; asked after a fence.
    pub(super) fn reads(&self) -> bool {
        // Relaxed: ordered by the two fences.
        self.reads.load(Ordering::Relaxed)
    }

    /// Whether a slot was handed to another thread and not taken anew since.
    pub(super) fn has_moved_slots(&self) -> bool {
        // Relaxed: for the thread's own blocks, whose slots it alone hands out.
        self.moved.load(Ordering::Relaxed) != 0
    }

    /// The slot is held by the thread whose main block is `holder`.
    pub(super) fn attach(&self, index: usize, holder: BlockRef) {
        // Release pairs with the Acquire in `counts`.
        self.holders[index].store(ptr::from_ref(holder).cast_mut(), Ordering::Release);
    }
}

/// Gives a kept slot back, on any thread.
pub(super) fn give(block: BlockRef, index: usize) {
    block.slots[index].free();
    if block.claims.give(index).0 {
        block.release();
    }
}

/// The owner goes: empties what was on its stack of slots and leaves the block to the last holder.
pub(super) fn abandon(block: BlockRef, is_main: bool) {
    let mut gone = 0;
    if is_main {
        for (index, slot) in block.slots.iter().enumerate().take(SCOPED) {
            slot.free();
            gone |= 1 << index;
        }
    }
    if block.claims.orphan(gone).0 {
        block.release();
    }
}

/// In a fork child, for a block of a thread that came along: takes back the slots that it had
/// handed to threads that did not.
pub(super) fn take_back_from_dead(block: BlockRef) {
    let moved = block.moved.load(Ordering::Acquire) & block.claims.held();
    for index in (0..SLOTS).filter(|i| moved & (1 << i) != 0) {
        if !holder_exists(block.holders[index].load(Ordering::Acquire)) {
            give(block, index);
        }
    }
}

/// In a fork child, for a block that the caller has just adopted: forgets the slots whose holders
/// were left behind.
pub(super) fn forget_dead_holders(block: BlockRef) {
    let moved = block.moved.load(Ordering::Acquire);
    let mut gone = 0;
    for index in 0..SLOTS {
        let held_here = moved & (1 << index) != 0
            && holder_exists(block.holders[index].load(Ordering::Acquire));
        if !held_here {
            block.slots[index].free();
            gone |= 1 << index;
        }
    }
    if block.claims.orphan(gone).0 {
        block.release();
    }
}
