//! The public half: what lies here can be taken by every CPU at any time.

use super::lanes::FIRST;
use crate::plan::Plan;
use crate::tagged::TaggedStack;
use crate::{BuildError, memory};
use alloc::boxed::Box;
use percpu::CachePadded;
use percpu::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The most bags a slot has.
const MAX_PER_SLOT: u32 = 4;
/// The most objects after which a slot fills its next bag.
const MAX_BATCH: u32 = 64;

/// A few tagged stacks per slot, filled one after the other and emptied by slots that stay with the
/// bag they found.
///
/// Objects move one at a time, between a bag and an owner, by one compare-and-swap; never from bag
/// to bag or list. So nobody who stops anywhere hides a free object. And yet a line moves between
/// two CPUs about once per batch: while one fills a bag, the other empties another.
#[derive(Debug)]
pub(super) struct Bags {
    stacks: Box<[CachePadded<TaggedStack>]>,
    slots: Box<[CachePadded<Slot>]>,
    per_slot: u32,
    batch: u64,
}

/// Where a slot reads and writes: hints, hence Relaxed.
#[derive(Debug)]
struct Slot {
    read: AtomicU32,
    write: AtomicU32,
}

impl Bags {
    /// All objects of the plan, those of each slot spread over its bags.
    pub(super) fn new(plan: &Plan, links: &[AtomicU64]) -> Result<Self, BuildError> {
        let share = plan.capacity.div_ceil(plan.slots);
        let batch = (share / 4).clamp(1, MAX_BATCH);
        let per_slot = share.div_ceil(batch).clamp(1, MAX_PER_SLOT);
        let stacks = memory::slice((plan.slots * per_slot) as usize, |_| {
            CachePadded::new(TaggedStack::new())
        })?;
        let slots = memory::slice(plan.slots as usize, |slot| {
            let first = slot as u32 * per_slot;
            CachePadded::new(Slot { read: AtomicU32::new(first), write: AtomicU32::new(first) })
        })?;
        for slot in 0..plan.slots {
            let region = plan.region(slot);
            let per_bag = (region.len() as u32).div_ceil(per_slot).max(1);
            for (bag, first) in region.clone().step_by(per_bag as usize).enumerate() {
                let stack = &stacks[slot as usize * per_slot as usize + bag];
                for index in far_apart(first..(first + per_bag).min(region.end)).rev() {
                    stack.push(links, index + FIRST);
                }
            }
        }
        Ok(Self { stacks, slots, per_slot, batch: u64::from(batch) })
    }

    /// An entry and whether it lay in another slot's bag; or, if every bag was empty, the sum of
    /// their versions.
    #[inline]
    pub(super) fn pop(&self, slot: u32, links: &[AtomicU64]) -> Result<(u32, bool), u64> {
        let hint = &self.slots[slot as usize].read;
        let own = slot * self.per_slot;
        let stolen = |bag: u32| !(own..own + self.per_slot).contains(&bag);
        let bag = hint.load(Ordering::Relaxed);
        if let Ok(entry) = self.stacks[bag as usize].pop(links) {
            return Ok((entry, stolen(bag)));
        }
        let mut versions = 0u64;
        for bag in (own..self.stacks.len() as u32).chain(0..own) {
            match self.stacks[bag as usize].pop(links) {
                Ok(entry) => {
                    hint.store(bag, Ordering::Relaxed);
                    return Ok((entry, stolen(bag)));
                }
                Err(version) => versions = versions.wrapping_add(version),
            }
        }
        Err(versions)
    }

    /// Puts an entry that the caller owns into a bag of the slot.
    #[inline]
    pub(super) fn push(&self, slot: u32, links: &[AtomicU64], entry: u32) {
        let hint = &self.slots[slot as usize].write;
        let bag = hint.load(Ordering::Relaxed);
        let pushes = self.stacks[bag as usize].push(links, entry);
        if pushes.is_multiple_of(self.batch) {
            let next = bag + 1 - slot * self.per_slot;
            hint.store(slot * self.per_slot + next % self.per_slot, Ordering::Relaxed);
        }
    }
}

/// The numbers of a range in the order in which they are to be handed out: neighbours in time are
/// no neighbours in memory. Two threads that start on one CPU and go on on two would otherwise
/// share the lines in which their objects' links and counts lie, for as long as each keeps popping
/// the object that it pushed.
fn far_apart(range: core::ops::Range<u32>) -> impl DoubleEndedIterator<Item = u32> {
    /// Links and counts on two lines, because lines are fetched in pairs.
    const PER_LINE: u32 = 16;
    (0..PER_LINE).flat_map(move |first| {
        (range.start.saturating_add(first)..range.end).step_by(PER_LINE as usize)
    })
}
