//! The three designs of the kernel's pool of return instances, as they were posted: what the posted
//! tables are of. The crate objpool has lists of the same kinds, which detect misuse, never
//! miss, and touch more lines for it.
//!
//! The list is that of C. Desrochers, "Solving the ABA problem for lock-free free lists"
//! (moodycamel.com, 2014).

use crate::load::Load;
use coresim::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use coresim::{Throughput, cell, thread, time};
use percpu::CachePadded;

/// Objects for each CPU: what a return probe has unless it asks for more.
const PER_CPU: usize = 2;

/// A free list over numbers from 1.
trait FreeList: Send + Sync + 'static {
    fn new(threads: usize) -> Self;
    fn pop(&self) -> Option<usize>;
    fn push(&self, object: usize);
    /// The object's own first word, where the posted lists keep nothing of theirs.
    fn touch(&self, object: usize);
}

/// References to an object's place in the list, and the next object.
#[derive(Default)]
#[repr(align(64))]
struct Node {
    refs: AtomicU32,
    next: AtomicUsize,
}

/// The object has to go onto the list, and the last who looks at it does that.
const SHOULD_BE_ON_LIST: u32 = 1 << 31;

struct List {
    head: CachePadded<AtomicUsize>,
    nodes: Box<[Node]>,
}

impl List {
    fn node(&self, object: usize) -> &Node {
        &self.nodes[object - 1]
    }

    /// Nobody refers to the object, which has to go onto the list.
    fn put(&self, object: usize) {
        let node = self.node(object);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            node.next.store(head, Ordering::Relaxed);
            node.refs.store(1, Ordering::Release);
            match self.head.compare_exchange(head, object, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
            // Who has looked at it meanwhile puts it there.
            if node.refs.fetch_add(SHOULD_BE_ON_LIST - 1, Ordering::Release) != 1 {
                return;
            }
        }
    }
}

impl FreeList for List {
    fn new(threads: usize) -> Self {
        let nodes: Box<[Node]> = (0..PER_CPU * threads).map(|_| Node::default()).collect();
        let list = Self { head: CachePadded::default(), nodes };
        (1..=list.nodes.len()).rev().for_each(|object| list.put(object));
        list
    }

    fn pop(&self) -> Option<usize> {
        let mut object = self.head.load(Ordering::Acquire);
        while object != 0 {
            let node = self.node(object);
            let refs = node.refs.load(Ordering::Relaxed);
            let looked = refs & !SHOULD_BE_ON_LIST != 0
                && node
                    .refs
                    .compare_exchange(refs, refs + 1, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok();
            if !looked {
                object = self.head.load(Ordering::Acquire);
                continue;
            }
            let next = node.next.load(Ordering::Relaxed);
            match self.head.compare_exchange(object, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {
                    node.refs.fetch_sub(2, Ordering::Relaxed);
                    return Some(object);
                }
                Err(now) => {
                    if node.refs.fetch_sub(1, Ordering::AcqRel) == SHOULD_BE_ON_LIST + 1 {
                        self.put(object);
                    }
                    object = now;
                }
            }
        }
        None
    }

    fn push(&self, object: usize) {
        let node = self.node(object);
        if node.refs.fetch_add(SHOULD_BE_ON_LIST, Ordering::AcqRel) == 0 {
            self.put(object);
        }
    }

    fn touch(&self, object: usize) {
        cell::write(self.node(object));
    }
}

/// Eight entries of the array for each CPU, which begins at its own.
const ENTRIES: usize = 8;

#[derive(Default)]
#[repr(align(64))]
struct Entries([AtomicUsize; ENTRIES]);

struct Array {
    entries: Box<[Entries]>,
    objects: Box<[CachePadded<u64>]>,
}

impl Array {
    /// The first entry, from this CPU's on, for which `f` gives something.
    fn search<T>(&self, f: impl Fn(&AtomicUsize) -> Option<T>) -> Option<T> {
        let (lines, here) = (self.entries.len(), thread::cpu());
        (0..lines).find_map(|line| self.entries[(here + line) % lines].0.iter().find_map(&f))
    }
}

impl FreeList for Array {
    fn new(threads: usize) -> Self {
        let entries: Box<[Entries]> = (0..threads).map(|_| Entries::default()).collect();
        let objects = (0..PER_CPU * threads).map(|_| CachePadded::new(0)).collect();
        for object in 1..=PER_CPU * threads {
            let place = (object - 1) % threads;
            entries[place].0[(object - 1) / threads].store(object, Ordering::Relaxed);
        }
        Self { entries, objects }
    }

    fn pop(&self) -> Option<usize> {
        self.search(|entry| {
            let object = entry.load(Ordering::Relaxed);
            let taken = object != 0
                && entry.compare_exchange(object, 0, Ordering::Acquire, Ordering::Relaxed).is_ok();
            taken.then_some(object)
        })
    }

    fn push(&self, object: usize) {
        let put = self.search(|entry| {
            entry.compare_exchange(0, object, Ordering::Release, Ordering::Relaxed).ok()
        });
        assert!(put.is_some(), "there are more entries than objects");
    }

    fn touch(&self, object: usize) {
        cell::write(&*self.objects[object - 1]);
    }
}

/// One CPU's ring. A push takes a place, fills it, and says that it is filled; that two do so at
/// once on one ring, where the first would be lost, the kernel's disabled interrupts forbid, and
/// here a CPU for each thread.
#[repr(align(128))]
struct Slot {
    head: AtomicU32,
    tail: AtomicU32,
    last: AtomicU32,
    entries: Box<[AtomicUsize]>,
}

struct Ring {
    slots: Box<[Slot]>,
    objects: Box<[CachePadded<u64>]>,
}

impl Slot {
    /// For as many entries as there are objects in all, rounded up: no ring overflows.
    fn new(objects: usize) -> Self {
        let places = 0..objects.next_power_of_two();
        Self {
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
            last: AtomicU32::new(0),
            entries: places.map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    fn entry(&self, number: u32) -> &AtomicUsize {
        &self.entries[number as usize & (self.entries.len() - 1)]
    }

    fn pop(&self) -> Option<usize> {
        let mut head = self.head.load(Ordering::Acquire);
        while head != self.last.load(Ordering::Acquire) {
            let object = self.entry(head).load(Ordering::Relaxed);
            let next = head.wrapping_add(1);
            match self.head.compare_exchange(head, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Some(object),
                Err(now) => head = now,
            }
        }
        None
    }

    fn push(&self, object: usize) {
        let mut tail = self.tail.load(Ordering::Relaxed);
        while let Err(now) = self.tail.compare_exchange(
            tail,
            tail.wrapping_add(1),
            Ordering::Acquire,
            Ordering::Relaxed,
        ) {
            tail = now;
        }
        self.entry(tail).store(object, Ordering::Relaxed);
        self.last.store(tail.wrapping_add(1), Ordering::Release);
    }
}

impl FreeList for Ring {
    fn new(threads: usize) -> Self {
        let objects = PER_CPU * threads;
        let slots: Box<[Slot]> = (0..threads).map(|_| Slot::new(objects)).collect();
        (1..=objects).for_each(|object| slots[(object - 1) / PER_CPU].push(object));
        Self { slots, objects: (0..objects).map(|_| CachePadded::new(0)).collect() }
    }

    fn pop(&self) -> Option<usize> {
        let (slots, here) = (self.slots.len(), thread::cpu());
        (0..slots).find_map(|distance| self.slots[(here + distance) % slots].pop())
    }

    fn push(&self, object: usize) {
        self.slots[thread::cpu()].push(object);
    }

    fn touch(&self, object: usize) {
        cell::write(&*self.objects[object - 1]);
    }
}

fn run<L: FreeList>(load: &Load<'_>) -> Throughput {
    let Load { threads, work, .. } = *load;
    load.shared(
        move || L::new(threads.max(thread::cpus())),
        move |list: &L| {
            if let Some(object) = list.pop() {
                list.touch(object);
                time::work(work / 2);
                list.push(object);
            }
            time::work(work / 2);
        },
    )
}

pub(super) fn list(load: &Load<'_>) -> Throughput {
    run::<List>(load)
}

pub(super) fn array(load: &Load<'_>) -> Throughput {
    run::<Array>(load)
}

pub(super) fn ring(load: &Load<'_>) -> Throughput {
    run::<Ring>(load)
}
