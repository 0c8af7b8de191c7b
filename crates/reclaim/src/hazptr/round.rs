//! One round: take what is retired, look at every slot, free what is not protected, put the rest
//! back.
//!
//! Several rounds of one domain can run at once, on different threads: each has in hand what it
//! took, and nobody waits. A thread runs one round at a time: what a deleter retires goes on the
//! lists and waits. No lock is held while deleters run, because there is none.
//!
//! What a round has in hand hangs in its thread's [`RoundFrame`], not on its stack: if a deleter
//! panics, the round goes on with the rest (or, where a panic cannot be caught, gives it back to
//! the domain); if another thread forks, the child takes it over.
#![allow(unsafe_code)]

use super::block::{self, BY_DELETERS, BlockRef, FRAME_COUNT, LISTS, RoundFrame};
use super::domain::Domain;
use super::head::Head;
use super::order::{Kind, Order};
use super::owner::OwnerRef;
use super::slot::Seen;
use super::snapshot::Snapshot;
use super::thread;
use crate::asymmetric::{Asymmetric, Fences};
use core::ptr;
use percpu::sync::atomic::{Ordering, fence};

/// A round in progress. Dropping it ends the round, by return or by panic.
struct Entered<'a> {
    domain: &'a Domain,
    block: BlockRef,
    frame: &'static RoundFrame,
    /// The list to which the thread retires otherwise.
    shard: usize,
    /// Deleters run since `pending` was last lowered, and before.
    uncounted: usize,
    counted: usize,
}

/// How many deleters run before others see that there is less garbage.
const COUNT_EVERY: usize = 64;

impl Domain {
    /// What `RoundFrame::domain` holds in the low bits is a count, so the address has to leave them
    /// alone.
    fn frame_word(&self, count: usize) -> usize {
        const {
            assert!(
                align_of::<Self>() > FRAME_COUNT,
                "the low bits of a domain's address are free for the count"
            )
        };
        ptr::from_ref(self).addr() | (count & FRAME_COUNT)
    }

    /// Whether a frame is in a round of this domain, given its `domain` word.
    pub(super) fn is_round_of_this(&self, word: usize) -> bool {
        word & !FRAME_COUNT == ptr::from_ref(self).addr()
    }

    /// Runs a round; returns how many objects it freed. 0 when this thread is inside a round
    /// already, or has no memory for its first block. The first panic of a deleter goes on.
    pub(super) fn round(&self) -> usize {
        let mut order = Order::of(Kind::Ordinary);
        let reclaimed = self.run_round(&mut order);
        order.panics.resume();
        reclaimed
    }

    /// As [`round`](Self::round), with the panics for the caller.
    pub(super) fn run_round(&self, order: &mut Order) -> usize {
        let Some(block) = thread::main_block() else { return 0 };
        if thread::is_new_fork_child() {
            self.adopt(block);
        }
        let Some(mut round) = Entered::enter(self, block, order.kind) else { return 0 };
        round.take(order.kind);
        make_readers_fence(block);
        let mut snapshot = Snapshot::default();
        let slots = round.look(&mut snapshot);
        self.looked(slots, snapshot.everything());
        if snapshot.everything() {
            // The reader behind the wildcard may be stalled there: not waited for. All that was
            // taken goes back when `round` is dropped.
            self.counts.wildcard_rounds.fetch_add(1, Ordering::Relaxed);
        } else {
            let Order { watched, is_self_protected, panics, .. } = order;
            let before = panics.count();
            // After a panic the frame's lists are what is left.
            while !panics.catch(|| *is_self_protected |= round.free(&snapshot, *watched)) {
                round.frame.end_share();
            }
            let panicked = panics.count() - before;
            self.counts.panicked.fetch_add(panicked, Ordering::Relaxed);
        }
        round.counted + round.uncounted
    }

    /// In a fork child: forgets the slots of the threads that did not come along and takes over
    /// what their rounds had in hand.
    ///
    /// An object whose deleter was running in such a thread, or that it had taken and not yet hung
    /// in its frame (two instructions), is leaked.
    #[cold]
    fn adopt(&self, own: BlockRef) {
        block::all().filter(|b| b.is_alive()).for_each(block::take_back_from_dead);
        for dead in block::all() {
            if ptr::eq(dead, own) || !dead.try_adopt() {
                continue;
            }
            let frame = &dead.round;
            let word = frame.domain.load(Ordering::Relaxed);
            if word != 0 {
                // Another domain may have died with its thread's stack: what was in hand there goes
                // to the global one, which `barrier` and `reclaim_owner` of a fork child include.
                // Its count there starts from nothing; that of the other domain stays too high,
                // which makes its rounds smaller.
                if self.is_round_of_this(word) {
                    frame.give_back_to(self);
                } else {
                    let count = frame.give_back_to(Domain::global());
                    Domain::global().counts.pending.fetch_add(count, Ordering::Relaxed);
                }
                frame.domain.store(0, Ordering::Relaxed);
            }
            block::forget_dead_holders(dead);
        }
    }
}

impl RoundFrame {
    /// Everything in hand goes to `domain`; returns how much that was.
    fn give_back_to(&self, domain: &Domain) -> usize {
        let mut count = 0;
        for list in self.lists.iter().chain([&self.kept]) {
            let first = list.load(Ordering::Relaxed);
            list.store(ptr::null_mut(), Ordering::Relaxed);
            // SAFETY: what hangs in a frame is its round's alone; the caller is that round, or
            // adopted it.
            count += unsafe { domain.kept.push_all(first) };
        }
        self.end_share();
        count
    }

    /// Gives up the share in its owner of the object whose deleter did not return.
    fn end_share(&self) {
        if let Some(owner) = ptr::NonNull::new(self.owner.load(Ordering::Relaxed)) {
            self.owner.store(ptr::null_mut(), Ordering::Relaxed);
            // SAFETY: `delete` stored what `as_ptr` gave it.
            let share = unsafe { OwnerRef::from_raw(owner) };
            // SAFETY: `owner` is non-null while the share of the object in hand was not given up.
            unsafe { share.done() };
        }
    }
}

impl<'a> Entered<'a> {
    fn enter(domain: &'a Domain, block: BlockRef, kind: Kind) -> Option<Self> {
        let frame = &block.round;
        if frame.domain.load(Ordering::Relaxed) != 0 {
            return None;
        }
        // Only this thread and its signal handlers write the word, and a handler's round is over
        // when we go on.
        let count = frame.count.load(Ordering::Relaxed).wrapping_add(1);
        frame.count.store(count, Ordering::Relaxed);
        // Relaxed: published to `wait_for_rounds` by the Release in `take` of the lists.
        frame.domain.store(domain.frame_word(count), Ordering::Relaxed);
        domain.counts.rounds.fetch_add(1, Ordering::Relaxed);
        // Relaxed: the thread's own.
        let shard = block.shard.load(Ordering::Relaxed);
        block.shard.store(kind.shard(), Ordering::Relaxed);
        Some(Self { domain, block, frame, shard, uncounted: 0, counted: 0 })
    }

    /// Takes the lists of the domain.
    fn take(&mut self, kind: Kind) {
        let batch = thread::batch() as u64;
        let lists = self.frame.lists.iter().zip(&self.domain.lists).enumerate();
        for (index, (list, shared)) in lists.filter(|(index, _)| kind.takes(*index)) {
            if index >= BY_DELETERS {
                if shared.is_empty() {
                    continue;
                }
                // Before the list is taken: see `wait.rs`. Relaxed, released by the taking.
                self.domain.counts.followed[index - BY_DELETERS].fetch_add(1, Ordering::Relaxed);
            }
            let (first, len) = shared.take();
            list.store(first, Ordering::Relaxed);
            if len % batch != 0 {
                self.domain.counts.pending.fetch_add((len % batch) as usize, Ordering::Relaxed);
            }
        }
        if kind != Kind::Follow {
            self.frame.lists[LISTS].store(self.domain.kept.take(), Ordering::Relaxed);
        }
    }

    /// Reads every slot; returns how many there are.
    fn look(&self, snapshot: &mut Snapshot) -> usize {
        let slots = block::for_each_protected(|seen| snapshot.add(seen));
        snapshot.seal();
        slots
    }

    /// Frees what `snapshot` does not protect. Whether it met an object of the `watched` owner that
    /// this thread protects.
    fn free(&mut self, snapshot: &Snapshot, watched: Option<OwnerRef>) -> bool {
        let mut is_self_protected = false;
        for list in &self.frame.lists {
            let mut head = list.load(Ordering::Relaxed);
            // SAFETY: the list was taken, so it is ours; the head is not null.
            let mut next = if head.is_null() { head } else { unsafe { Head::next(head) } };
            while !head.is_null() {
                // Loaded one object ahead: the line of the next head is on its way while the
                // deleter of this one runs. SAFETY: as above.
                let after = if next.is_null() { next } else { unsafe { Head::next(next) } };
                // Off the list before the deleter runs: after a panic, and in a fork child, the
                // list is what is left. Release orders the two for the child.
                list.store(next, Ordering::Relaxed);
                fence(Ordering::Release);
                // SAFETY: as above.
                let address = unsafe { Head::object(head) }.addr();
                if snapshot.protects(address, || is_protected(address)) {
                    is_self_protected |= self.keep(head, address, watched);
                } else {
                    self.delete(head);
                }
                head = next;
                next = after;
            }
        }
        is_self_protected
    }

    /// Puts aside an object that is protected. Whether it is of the `watched` owner and this thread
    /// protects it.
    #[cold]
    #[inline(never)]
    fn keep(&self, head: *mut Head, address: usize, watched: Option<OwnerRef>) -> bool {
        // SAFETY: the head is off its list and ours.
        let owner = unsafe { Head::owner(head) };
        // SAFETY: likewise.
        unsafe { Head::set_next(head, self.frame.kept.load(Ordering::Relaxed)) };
        self.frame.kept.store(head, Ordering::Relaxed);
        watched.is_some() && watched == owner && thread::protects(address)
    }

    /// Runs one deleter.
    #[inline]
    fn delete(&mut self, head: *mut Head) {
        self.uncounted += 1;
        // SAFETY: the head is off its list and ours.
        let owner = unsafe { Head::owner(head) };
        if let Some(owner) = owner {
            self.frame.owner.store(owner.as_ptr(), Ordering::Relaxed);
        }
        // SAFETY: it was retired, which is the promise that it may be reclaimed when nobody
        // protects it; the snapshot, taken after `heavy()`, says so.
        unsafe { Head::reclaim(head) };
        if let Some(owner) = owner {
            self.frame.owner.store(ptr::null_mut(), Ordering::Relaxed);
            // SAFETY: the share of the object that is gone, given up here or, if the deleter
            // panics, in `end_share`.
            unsafe { owner.done() };
        }
        if self.uncounted == COUNT_EVERY {
            self.count();
        }
    }

    /// Lowers `pending`. Out of line: [`free`](Self::free) keeps its registers without it.
    #[cold]
    #[inline(never)]
    fn count(&mut self) {
        self.domain.counts.pending.fetch_sub(self.uncounted, Ordering::Relaxed);
        self.domain.counts.reclaimed.fetch_add(self.uncounted as u64, Ordering::Relaxed);
        self.counted += self.uncounted;
        self.uncounted = 0;
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.count();
        // Relaxed: the thread's own.
        self.block.shard.store(self.shard, Ordering::Relaxed);
        self.frame.give_back_to(self.domain);
        // Release pairs with the Acquire in `wait_for_rounds`: who sees the round over sees what
        // its deleters did and what it gave back.
        self.frame.domain.store(0, Ordering::Release);
    }
}

/// Between taking the objects and looking at the slots. Pairs with `light()` in the readers: see
/// `slot.rs`.
///
/// That takes a system call, unless no other thread has ever used a slot: a thread fences after it
/// has said that it is going to (`Block::begin_to_read`), so either we find that below, or whatever
/// it loads afterwards is not one of the objects that we have taken. Slots of our own blocks are
/// ours unless we have handed one on.
fn make_readers_fence(own: BlockRef) {
    fence(Ordering::SeqCst);
    if block::all()
        .any(|b| b.reads() && b.is_alive() && (b.has_moved_slots() || !thread::is_in_chain(own, b)))
    {
        Asymmetric::new().heavy();
    }
}

/// Reads every slot for one address.
pub(super) fn is_protected(address: usize) -> bool {
    let mut found = false;
    block::for_each_protected(|seen| found |= seen == Seen::Object(address));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hazptr::HazardPointer;
    use std::boxed::Box;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    /// The trap: a scan that spins until the wildcard is gone, or that re-queues itself at once.
    #[test]
    fn a_stalled_wildcard_costs_rounds_their_result_and_nothing_else() {
        let domain = Domain::new();
        let hp = HazardPointer::new();
        let (block, index) = hp.into_parts();
        block.slots[index].announce_anything();
        for _ in 0..20_000 {
            // SAFETY: from a box, never published, retired once.
            unsafe { domain.retire_box(Box::into_raw(Box::new(1_u64))) };
        }
        assert_eq!(domain.reclaim(), 0);
        let stats = domain.stats();
        assert_eq!((stats.unreclaimed, stats.reclaimed), (20_000, 0));
        assert_eq!(stats.rounds, stats.wildcard_rounds);
        // The step between rounds grows with what is there: 13/16 of the limit, then each time 1/16
        // more.
        assert!((10..100).contains(&stats.rounds), "{} rounds for 20,000 objects", stats.rounds);

        // A barrier cannot tell what the reader is about to get: it waits.
        let passed = AtomicBool::new(false);
        thread::scope(|s| {
            s.spawn(|| {
                domain.barrier();
                passed.store(true, Ordering::SeqCst);
            });
            thread::sleep(core::time::Duration::from_millis(20));
            assert!(!passed.load(Ordering::SeqCst));
            drop(HazardPointer::from_parts(block, index));
        });
        assert_eq!(domain.stats().unreclaimed, 0);
    }
}
