//! A thread's blocks: found through one thread-local pointer, made at first use, given up at exit,
//! adopted after a fork.

use super::block::{self, Block, BlockRef, SCOPED, SHARDS};
use super::claims::SLOTS;
use crate::asymmetric::Asymmetric;
use core::ptr;
use percpu::Record;
use percpu::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use percpu::tls::{self, Key};

const KEPT_IN_MAIN: u32 = ((1 << SLOTS) - 1) & !((1 << SCOPED) - 1);
/// At most so many retired objects of a domain are not in its counters.
pub(super) const UNCOUNTED: usize = 32;
const _: () = assert!(
    UNCOUNTED >= SHARDS && UNCOUNTED.is_power_of_two() && SHARDS.is_power_of_two(),
    "a batch is at least 1, and a power of two"
);

const KEPT_IN_OTHERS: u32 = (1 << SLOTS) - 1;

/// Set in the thread-local pointer while the thread has not used a slot yet, and for ever where
/// `light()` has to be a full fence. Addresses of user space have the top bit clear, so one signed
/// comparison with zero tells a block that can be used as it is, with a compiler fence, from no
/// block and from one that needs more.
const MARK: usize = 1 << (usize::BITS - 1);

/// This thread's first block, if it has used slots of it before and a compiler fence is enough
/// here.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn fast_block() -> Option<BlockRef> {
    let block = tls::get(Key::Hazptr).cast::<Record<Block>>();
    if (block.addr() as isize) <= 0 {
        return None;
    }
    // SAFETY: not null and not marked, so set by `reading_block` to a record of a static registry.
    Some(unsafe { &*block })
}

/// This thread's first block; `None` when the kernel has no memory for one.
#[inline(always)]
pub(super) fn main_block() -> Option<BlockRef> {
    match own() {
        None => make_main_block(),
        some => some,
    }
}

/// This thread's first block if it has one.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn own() -> Option<BlockRef> {
    let block = tls::get(Key::Hazptr).map_addr(|a| a & !MARK).cast::<Record<Block>>();
    // SAFETY: null, or set by `make_main_block` to a record of a static registry.
    unsafe { block.as_ref() }
}

/// Whether this thread is inside a round, that is, in a deleter (or in a signal handler that
/// interrupted one).
pub(super) fn in_round() -> bool {
    own().is_some_and(|block| block.round.domain.load(Ordering::Relaxed) != 0)
}

#[allow(unsafe_code)]
#[cold]
#[inline(never)]
fn make_main_block() -> Option<BlockRef> {
    // Without the exit function the thread's blocks would never serve another thread.
    if !tls::on_thread_exit(exit) || !tls::arm_exit() {
        return None;
    }
    let block = block::acquire(KEPT_IN_MAIN)?;
    block.shard.store(next_shard(), Ordering::Relaxed);
    block.batch_mask.store(batch() as u64 - 1, Ordering::Relaxed);
    // A signal handler may have made one meanwhile. In the one instruction between this look and
    // `set` it can still do so; its block is then only found by reclaimers, which is right for the
    // holders in it, and is not given back.
    if let Some(there) = own() {
        block::abandon(block, true);
        return Some(there);
    }
    // SAFETY: the key is this module's, whose readers expect null or a block, with a mark or
    // without.
    unsafe { tls::set(Key::Hazptr, ptr::from_ref(block).cast_mut().map_addr(|a| a | MARK).cast()) };
    Some(block)
}

/// Threads take the lists of a domain in turn.
fn next_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) % shards()
}

/// How many of the lists of a domain are used: as many as threads can run at once.
pub(super) fn shards() -> usize {
    percpu::cpu::count().next_power_of_two().min(SHARDS)
}

/// How many retired objects a list may hold before they are counted for the domain; a power of two.
pub(super) fn batch() -> usize {
    UNCOUNTED / shards()
}

/// This thread's first block, for using its slots.
#[allow(unsafe_code)]
pub(super) fn reading_block() -> Option<BlockRef> {
    let block = main_block()?;
    block.begin_to_read();
    if !Asymmetric::new().is_symmetric() {
        // SAFETY: as in `make_main_block`.
        unsafe { tls::set(Key::Hazptr, ptr::from_ref(block).cast_mut().cast()) };
    }
    Some(block)
}

/// Takes a slot for a kept holder from this thread's blocks, making one more if all are in use.
pub(super) fn take_slot() -> Option<(BlockRef, usize)> {
    let main = reading_block()?;
    let mut next = Some(main);
    while let Some(block) = next {
        if let Some(index) = block.take() {
            return Some((block, index));
        }
        next = following(block);
    }
    let more = block::acquire(KEPT_IN_OTHERS)?;
    more.begin_to_read();
    let index = more.take()?;
    let more_ptr = ptr::from_ref(more).cast_mut();
    // Relaxed throughout: the chain is this thread's; the compare-and-swap is for signal handlers
    // that add a block between our load and store.
    let mut first = main.next.load(Ordering::Relaxed);
    loop {
        more.next.store(first, Ordering::Relaxed);
        match main.next.compare_exchange(first, more_ptr, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some((more, index)),
            Err(now) => first = now,
        }
    }
}

/// Whether `block` is one of this thread's, whose first is `main`.
pub(super) fn is_in_chain(main: BlockRef, block: BlockRef) -> bool {
    core::iter::successors(Some(main), |b| following(b)).any(|b| ptr::eq(b, block))
}

/// Whether this thread protects the object at this address, as far as it knows: a token on its way
/// between threads is nobody's.
pub(super) fn protects(address: usize) -> bool {
    own().is_some_and(|main| block::is_protected_by(main, |b| is_in_chain(main, b), address))
}

#[allow(unsafe_code)]
fn following(block: BlockRef) -> Option<BlockRef> {
    // SAFETY: null, or a record of a static registry.
    unsafe { block.next.load(Ordering::Relaxed).as_ref() }
}

/// Runs when the thread ends. Holders that outlive it (detached, leaked, in a later destructor)
/// keep their protection and their block.
#[allow(unsafe_code)]
extern "C" fn exit() {
    let Some(main) = own() else { return };
    // SAFETY: the key is this module's; null is a thread without a block.
    unsafe { tls::set(Key::Hazptr, ptr::null_mut()) };
    let mut next = following(main);
    block::abandon(main, true);
    while let Some(block) = next {
        next = following(block);
        block::abandon(block, false);
    }
}

/// Whether the fork generation has changed since the last call that said so: true once per fork
/// child, for one caller.
pub(super) fn is_new_fork_child() -> bool {
    static SEEN: AtomicU64 = AtomicU64::new(1);
    let now = percpu::fork::generation();
    let seen = SEEN.load(Ordering::Relaxed);
    // Relaxed: the caller that wins adopts records one by one, each by a compare-and-swap of its
    // own.
    now != seen && SEEN.compare_exchange(seen, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}
