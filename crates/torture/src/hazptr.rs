//! Hazard pointers: an object ages by scans, each of which has to find it unprotected.
#![allow(unsafe_code)]

use crate::chance::Chance;
use crate::flavour::{Flavour, Held, Visit};
use crate::stage::{LAST, Stage};
use reclaim::hazptr::{self, Detached, Domain, HazardPointer, Head};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

const OBJECTS: usize = 256;

/// An object, and whether a scan has given it back.
struct Node {
    head: Head,
    stage: Stage,
    back: AtomicBool,
}

reclaim::retirable!(Node, head);

/// The deleter: instead of freeing the object, ages it.
fn scanned(node: *mut Node) {
    // SAFETY: the domain calls this with what was retired: a node of the flavour, which lives as
    // long as the process.
    let node = unsafe { &*node };
    node.stage.advance();
    // pairs with the Acquire in `update`: the scan is done with the node
    node.back.store(true, Ordering::Release);
}

/// The writer's bookkeeping, by addresses of nodes.
struct Writer {
    free: VecDeque<AtomicPtr<Node>>,
    retired: Vec<AtomicPtr<Node>>,
}

/// The flavour; readers acquire by `protect`, or by the wildcard.
pub(crate) struct Hazptr {
    wildcard: bool,
    domain: Domain,
    current: AtomicPtr<Node>,
    writer: Mutex<Writer>,
}

impl Hazptr {
    pub(crate) fn new(wildcard: bool) -> Self {
        let mut nodes = (0..OBJECTS).map(|_| {
            let node =
                Node { head: Head::new(), stage: Stage::default(), back: AtomicBool::new(false) };
            // As long as the process, like the flavour.
            AtomicPtr::new(std::ptr::from_mut(Box::leak(Box::new(node))))
        });
        let current = nodes.next().expect("more than one");
        Self {
            wildcard,
            domain: Domain::new(),
            current,
            writer: Mutex::new(Writer { free: nodes.collect(), retired: Vec::new() }),
        }
    }

    fn visit_by(&self, holder: &mut hazptr::Hazard<'_>, visit: Visit<'_>) {
        let node = if self.wildcard {
            // SAFETY: `current` always points to a node, and nodes are unlinked before they are
            // retired.
            unsafe { holder.protect_wait_free(&self.current) }
        } else {
            // SAFETY: likewise.
            unsafe { holder.protect(&self.current) }
        };
        visit(&node.expect("never null").stage);
    }
}

impl Flavour for Hazptr {
    fn name(&self) -> &'static str {
        if self.wildcard { "hazptr-wildcard" } else { "hazptr" }
    }

    fn readers_may_sleep(&self) -> bool {
        true
    }

    fn read(&self, chance: &mut Chance, visit: Visit<'_>) {
        match chance.below(3) {
            0 => {
                let mut holder = HazardPointer::new();
                self.visit_by(&mut holder, visit);
            }
            1 => hazptr::scope(|hazard| self.visit_by(hazard, visit)),
            // SAFETY: `current` always points to a node, and nodes are unlinked before they are
            // retired.
            _ => unsafe {
                hazptr::read(&self.current, |node| visit(&node.expect("never null").stage))
            },
        }
    }

    fn read_in_handler(&self, visit: Visit<'_>) -> bool {
        hazptr::scope(|hazard| self.visit_by(hazard, visit));
        true
    }

    fn take_away(&self) -> Option<Box<dyn Held + '_>> {
        // SAFETY: `current` always points to a node, and nodes are unlinked before they are
        // retired.
        let protected = unsafe { HazardPointer::new().protect_owned(&self.current) }.ok()?;
        Some(Box::new(HandedOff(protected.detach())))
    }

    fn update(&self, chance: &mut Chance) {
        let mut writer = self.writer.lock().expect("one writer, which does not panic");
        let Writer { free, retired } = &mut *writer;
        if let Some(next) = free.pop_front() {
            let next = next.into_inner();
            // SAFETY: a free node; nobody else has it, and it lives as long as the process.
            unsafe { &*next }.stage.renew();
            // Release pairs with the readers' Acquire in `protect`
            let old = self.current.swap(next, Ordering::AcqRel);
            // SAFETY: nodes live as long as the process.
            let node = unsafe { &*old };
            node.stage.advance();
            if chance.once_in(64) {
                hazptr::synchronize(old);
                node.stage.advance();
            }
            self.retire(old);
            retired.push(AtomicPtr::new(old));
        }
        match chance.below(64) {
            0 => self.domain.barrier(),
            1..8 => drop(self.domain.reclaim()),
            _ => {}
        }
        if free.len() < OBJECTS / 4 {
            self.domain.reclaim();
        }
        retired.retain_mut(|node| {
            let address = *node.get_mut();
            // SAFETY: nodes live as long as the process.
            let object = unsafe { &*address };
            // Acquire pairs with the Release in `scanned`.
            if !object.back.load(Ordering::Acquire) {
                return true;
            }
            if object.stage.get() < LAST {
                self.retire(address);
                return true;
            }
            free.push_back(AtomicPtr::new(address));
            false
        });
    }

    fn finish(&self) -> Result<(), String> {
        self.domain.barrier();
        let mut writer = self.writer.lock().expect("one writer, which does not panic");
        let lost = writer.retired.iter_mut().filter_map(|node| {
            // SAFETY: nodes live as long as the process.
            let node = unsafe { &**node.get_mut() };
            // pairs with the Release in `scanned`
            (!node.back.load(Ordering::Acquire)).then_some(())
        });
        match lost.count() {
            0 => Ok(()),
            n => {
                Err(format!("{n} retired objects were not reclaimed by a barrier without readers"))
            }
        }
    }
}

impl Hazptr {
    fn retire(&self, node: *mut Node) {
        // SAFETY: nodes live as long as the process.
        unsafe { &*node }.back.store(false, Ordering::Relaxed); // ordered by the retirement
        // SAFETY: unlinked, in no list (it was never retired, or a scan has given it back), and the
        // deleter only needs it to live.
        unsafe { self.domain.retire_with(node, scanned) };
    }
}

struct HandedOff(Detached<Node>);

impl Held for HandedOff {
    fn finish(self: Box<Self>, visit: Visit<'_>) {
        let protected = self.0.attach();
        visit(&protected.stage);
    }
}
