//! Writers: each replaces an object of its own, and the old one is reclaimed when nobody can be
//! looking at it.
#![allow(unsafe_code)]

use crate::load::Load;
use coresim::{Throughput, cell};
use percpu::CachePadded;
use percpu::sync::atomic::{AtomicPtr, Ordering};
use reclaim::hazptr::{Domain, Head, Retirable};

/// An object with a hazard-pointer head inside, on a line of its own: which others share its line,
/// an allocator decides, which is not modelled.
#[repr(align(64))]
struct Node {
    head: Head,
    value: u64,
}

reclaim::retirable!(Node, head);

fn node(value: u64) -> *mut Node {
    let node = Box::new(Node { head: Head::new(), value });
    cell::write(&node.value);
    Box::into_raw(node)
}

struct Places {
    domain: Domain,
    current: Vec<CachePadded<AtomicPtr<Node>>>,
}

impl Drop for Places {
    fn drop(&mut self) {
        for place in &mut self.current {
            // SAFETY: from a box, and nobody reads it any more.
            unsafe { Node::reclaim(place.load(Ordering::Relaxed)) };
        }
    }
}

pub(super) fn hazptr(load: &Load<'_>) -> Throughput {
    let threads = load.threads;
    let setup = move || Places {
        domain: Domain::new(),
        current: (0..threads).map(|_| CachePadded::new(AtomicPtr::new(node(0)))).collect(),
    };
    let start = |_: &Places, thread| thread;
    load.each(setup, start, |places, thread| {
        let old = places.current[*thread].swap(node(1), Ordering::AcqRel);
        // SAFETY: from a box, unlinked just now from its only place, and retired once.
        unsafe { places.domain.retire(old) };
    })
}
