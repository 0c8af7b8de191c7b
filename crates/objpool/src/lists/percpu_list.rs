//! A free list per CPU, pushed and popped by compare-and-swap.

use crate::list::{FreeList, Taken, sealed::Sealed, until_empty_twice};
use crate::plan::{Plan, Spread};
use crate::tagged::TaggedStack;
use crate::{BuildError, memory};
use alloc::boxed::Box;
use percpu::CachePadded;
use percpu::sync::atomic::AtomicU64;

/// One tagged LIFO list per CPU: what a reviewer of the kernel's ring array asked for ("why not a
/// per-CPU freelist?").
///
/// Push goes to the list of the CPU it runs on, pop takes from there first and then from the
/// others. One compare-and-swap each, normally on a line that no other CPU touches. A 39-bit tag
/// excludes ABA, so there are no reference counts.
#[derive(Debug)]
pub struct PerCpuList {
    stacks: Box<[CachePadded<TaggedStack>]>,
    links: Box<[AtomicU64]>,
    spread: Spread,
}

impl Sealed for PerCpuList {}

impl FreeList for PerCpuList {
    const NAME: &'static str = "per-CPU CAS list";

    fn new(plan: &Plan) -> Result<Self, BuildError> {
        let stacks = memory::slice(plan.slots as usize, |_| CachePadded::new(TaggedStack::new()))?;
        let links = memory::slice(plan.capacity as usize + 1, |_| AtomicU64::new(0))?;
        for slot in 0..plan.slots {
            // Downwards, so that a slot's first object is on top.
            plan.region(slot).rev().for_each(|index| {
                stacks[slot as usize].push(&links, index + 1);
            });
        }
        Ok(Self { stacks, links, spread: Spread::new(plan) })
    }

    #[inline]
    fn pop(&self) -> Option<Taken> {
        let slot = self.spread.here();
        match self.stacks[slot as usize].pop(&self.links) {
            Ok(entry) => Some(Taken { index: entry - 1, slot, stolen: false }),
            Err(_) => self.steal(slot),
        }
    }

    #[inline]
    fn push(&self, index: u32) -> u32 {
        let slot = self.spread.here();
        self.stacks[slot as usize].push(&self.links, index + 1);
        slot
    }
}

impl PerCpuList {
    #[cold]
    #[inline(never)]
    fn steal(&self, slot: u32) -> Option<Taken> {
        self.spread.rehint();
        until_empty_twice(|| {
            let mut versions = 0u64;
            let (before, from) = self.stacks.split_at(slot as usize);
            for (distance, stack) in from.iter().chain(before).enumerate() {
                match stack.pop(&self.links) {
                    Ok(entry) => {
                        return Ok(Taken { index: entry - 1, slot, stolen: distance != 0 });
                    }
                    Err(version) => versions = versions.wrapping_add(version),
                }
            }
            Err(versions)
        })
    }
}
