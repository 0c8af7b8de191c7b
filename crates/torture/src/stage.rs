//! Objects and the pipe they age in.

use std::sync::atomic::{AtomicU32, Ordering};

/// The stage after which an object is used again.
pub(crate) const LAST: u32 = 10;

/// How far an object has aged: 0 current, 1 unlinked, 2 and above: a reader that sees it looks at
/// freed memory.
///
/// Relaxed throughout: what orders a reader's look before the step to 2 is the flavour under
/// torture, and nothing else may.
#[derive(Debug, Default)]
pub(crate) struct Stage(AtomicU32);

impl Stage {
    /// What a reader sees.
    #[inline]
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// One stage further; returns the new one.
    pub(crate) fn advance(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// About to become current again.
    pub(crate) fn renew(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The writer's bookkeeping: indices of objects that can be used, and of those in the pipe, oldest
/// first.
#[derive(Debug)]
pub(crate) struct Pipe {
    free: Vec<usize>,
    aging: Vec<usize>,
}

impl Pipe {
    /// All of `0..objects` but 0, which is current.
    pub(crate) fn new(objects: usize) -> Self {
        Self { free: (1..objects).collect(), aging: Vec::new() }
    }

    /// An object to publish next.
    pub(crate) fn take(&mut self) -> Option<usize> {
        self.free.pop()
    }

    /// An unlinked object enters the pipe.
    pub(crate) fn enter(&mut self, object: usize) {
        self.aging.push(object);
    }

    /// After a grace period: everything in the pipe ages, and what has aged enough can be used
    /// again.
    pub(crate) fn age(&mut self, mut advance: impl FnMut(usize) -> u32) {
        let free = &mut self.free;
        self.aging.retain(|&object| {
            let done = advance(object) >= LAST;
            if done {
                free.push(object);
            }
            !done
        });
    }

    /// Objects in the pipe.
    pub(crate) fn aging(&self) -> usize {
        self.aging.len()
    }
}
