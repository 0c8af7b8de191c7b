//! One list for everybody, with a reference count per node.

use crate::list::{FreeList, Taken, sealed::Sealed, until_empty_twice};
use crate::plan::{Plan, Spread};
use crate::{BuildError, memory};
use alloc::boxed::Box;
use percpu::CachePadded;
use percpu::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use percpu::sync::hint;

/// References to a node: its place on the list is one, each popper that looks at it another.
const REFS: u64 = (1 << 24) - 1;
/// The node is free and beside the list: a popper looked at it when it was pushed.
const BESIDE: u64 = 1 << 24;
const VERSION: u64 = 1 << 25;

/// A node's reference count and link.
#[derive(Debug)]
struct Node {
    /// `[version:39 | beside:1 | references:24]`. Each push makes a new version.
    ///
    /// - 0 references: owned by whoever popped it. Nobody may start to look at it.
    /// - references, not beside: on the list, or owned and still looked at by poppers that came too
    ///   late.
    /// - beside: free; whoever clears the bit owns the node.
    state: AtomicU64,
    /// Entry below. Written by the owner while there is no reference, so that a popper that holds
    /// one reads a value that stays.
    below: AtomicU32,
}

/// One LIFO list with one head, compare-and-swap on it, and reference counts that exclude ABA: a
/// node cannot be put on the list again while a popper still looks at it. The kernel used it for
/// kretprobe instances in 2022 (`include/linux/freelist.h`, after C. Desrochers, "Solving the ABA
/// problem for lock-free free lists", 2014).
///
/// Five atomic instructions per pop and push, all on lines that every CPU wants: the more CPUs, the
/// slower each.
///
/// Differs from these in one point. There, a node that is pushed while somebody looks at it is put
/// on the list later, by the last one who looks; if that thread is preempted, the node is
/// invisible, and a pop misses an object that is free. Here such a node rests beside the list, and
/// who finds it there takes it: the late popper itself, which wanted a node anyway, or any other
/// that found the list empty.
#[derive(Debug)]
pub struct CasLifo {
    head: CachePadded<AtomicU32>,
    nodes: Box<[Node]>,
    spread: Spread,
}

impl Sealed for CasLifo {}

impl FreeList for CasLifo {
    const NAME: &'static str = "CAS LIFO, reference counts";

    fn new(plan: &Plan) -> Result<Self, BuildError> {
        // Node i links to node i + 1 (entry i + 2), the last to none.
        let below =
            |index: usize| if index + 1 < plan.capacity as usize { index as u32 + 2 } else { 0 };
        let nodes = memory::slice(plan.capacity as usize, |i| Node {
            state: AtomicU64::new(1),
            below: AtomicU32::new(below(i)),
        })?;
        Ok(Self { head: CachePadded::new(AtomicU32::new(1)), nodes, spread: Spread::new(plan) })
    }

    #[inline]
    fn pop(&self) -> Option<Taken> {
        let taken =
            |entry: u32| Taken { index: entry - 1, slot: self.spread.here(), stolen: false };
        match self.pop_listed() {
            Some(entry) => Some(taken(entry)),
            None => self.pop_beside().map(taken),
        }
    }

    #[inline]
    fn push(&self, index: u32) -> u32 {
        let (node, entry) = (&self.nodes[index as usize], index + 1);
        // SeqCst for all changes of head and states: `None` needs one order of them
        // (`until_empty_twice`). Acquire among them: late poppers read `below` before they gave up
        // their reference (Release).
        let mut state = node.state.load(Ordering::SeqCst);
        loop {
            if state & REFS != 0 {
                // Somebody looks at it: leave it beside the list.
                match node.state.compare_exchange_weak(
                    state,
                    (state | BESIDE).wrapping_add(VERSION),
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                ) {
                    Ok(_) => break,
                    Err(now) => state = now,
                }
                continue;
            }
            let head = self.head.load(Ordering::Relaxed);
            node.below.store(head, Ordering::Relaxed);
            // The list's reference. No popper could take one before it, and those that do
            // afterwards see `below` (Release).
            state = state.wrapping_add(VERSION) | 1;
            node.state.store(state, Ordering::SeqCst);
            if self.head.compare_exchange(head, entry, Ordering::SeqCst, Ordering::Relaxed).is_ok()
            {
                break;
            }
            // A popper with an old view may look at the node by now; then `below` has to stay, and
            // the node goes beside the list.
            state = node.state.fetch_sub(1, Ordering::SeqCst) - 1;
        }
        self.spread.here()
    }
}

impl CasLifo {
    #[inline]
    fn pop_listed(&self) -> Option<u32> {
        let mut entry = self.head.load(Ordering::SeqCst);
        while entry != 0 {
            let node = &self.nodes[entry as usize - 1];
            if !Self::look_at(node) {
                // Off the list, so the head has changed.
                hint::spin_loop();
                entry = self.head.load(Ordering::SeqCst);
                continue;
            }
            // Relaxed: ordered by the acquire in `look_at`; stays while this reference is held.
            let below = node.below.load(Ordering::Relaxed);
            match self.head.compare_exchange(entry, below, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => {
                    // The list's reference and ours.
                    node.state.fetch_sub(2, Ordering::SeqCst);
                    return Some(entry);
                }
                Err(now) => {
                    if Self::look_away(node) {
                        return Some(entry);
                    }
                    entry = now;
                }
            }
        }
        None
    }

    /// Takes a reference, unless there is none: then the node is owned by somebody, who may write
    /// `below`.
    #[inline]
    fn look_at(node: &Node) -> bool {
        let mut state = node.state.load(Ordering::Relaxed);
        while state & REFS != 0 {
            match node.state.compare_exchange_weak(
                state,
                state + 1,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Gives up a reference. True: the node lay beside the list and is the caller's now.
    #[inline]
    fn look_away(node: &Node) -> bool {
        let mut state = node.state.load(Ordering::Relaxed);
        loop {
            match node.state.compare_exchange_weak(
                state,
                (state & !BESIDE) - 1,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return state & BESIDE != 0,
                Err(now) => state = now,
            }
        }
    }

    /// The list is empty: a node beside it, or `None` if there was none at a moment when the list
    /// was empty.
    #[cold]
    #[inline(never)]
    fn pop_beside(&self) -> Option<u32> {
        until_empty_twice(|| {
            if let Some(entry) = self.pop_listed() {
                return Ok(entry);
            }
            let mut versions = 0u64;
            for (entry, node) in (1..).zip(&self.nodes) {
                let mut state = node.state.load(Ordering::SeqCst);
                while state & BESIDE != 0 {
                    match node.state.compare_exchange_weak(
                        state,
                        state & !BESIDE,
                        Ordering::SeqCst,
                        Ordering::SeqCst,
                    ) {
                        Ok(_) => return Ok(entry),
                        Err(now) => state = now,
                    }
                }
                versions = versions.wrapping_add(state / VERSION);
            }
            Err(versions)
        })
    }
}
