//! Broken twins: each leaves out what makes a list right, and loom has to see it.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

/// A list of three entries (1, 2, 3) under one head, with what the twins may leave out.
struct Stack {
    head: AtomicU64,
    below: [AtomicU32; 4],
    objects: [UnsafeCell<u32>; 4],
    tag: u64,
    push_order: Ordering,
}

impl Stack {
    fn new(tag: u64, push_order: Ordering) -> Self {
        let below = [0, 2, 3, 0].map(AtomicU32::new);
        Self {
            head: AtomicU64::new(1),
            below,
            objects: [0; 4].map(UnsafeCell::new),
            tag,
            push_order,
        }
    }

    fn pop(&self) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let entry = head as u32;
            if entry == 0 {
                return None;
            }
            let below = self.below[entry as usize].load(Ordering::Relaxed);
            let next = (head >> 32 << 32) | u64::from(below);
            match self.head.compare_exchange(head, next, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        self.objects[head as u32 as usize].with_mut(|object| {
            // SAFETY: owned, as far as the list says; loom checks it.
            unsafe { *object += 1 };
        });
        Some(head as u32)
    }

    fn push(&self, entry: u32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.below[entry as usize].store(head as u32, Ordering::Relaxed);
            let next = ((head >> 32).wrapping_add(self.tag) << 32) | u64::from(entry);
            match self.head.compare_exchange(head, next, self.push_order, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

fn take_two_give_one(tag: u64, push_order: Ordering) {
    model(move || {
        let stack = Arc::new(Stack::new(tag, push_order));
        let other = {
            let stack = Arc::clone(&stack);
            thread::spawn(move || stack.pop())
        };
        let (a, b) = (stack.pop().expect("three entries"), stack.pop().expect("three entries"));
        stack.push(a);
        let held = other.join().expect("no panic").expect("three entries, two elsewhere");
        let mut all: Vec<u32> = std::iter::from_fn(|| stack.pop()).chain([b, held]).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3], "each entry once");
    });
}

#[test]
fn tag_and_release_are_enough() {
    take_two_give_one(1, Ordering::Release);
}

/// The per-CPU list without its tag, which is also the CAS LIFO without its reference counts.
#[test]
#[should_panic]
fn twin_without_tag() {
    take_two_give_one(0, Ordering::Release);
}

#[test]
#[should_panic]
fn twin_without_release() {
    take_two_give_one(1, Ordering::Relaxed);
}

/// The posted ring: claim, fill, announce. Two pushers interleave.
#[test]
#[should_panic]
fn twin_posted_ring() {
    struct Ring {
        head: AtomicU32,
        tail: AtomicU32,
        last: AtomicU32,
        entries: [AtomicU32; 4],
    }
    impl Ring {
        fn push(&self, entry: u32) {
            let tail = self.tail.fetch_add(1, Ordering::AcqRel);
            self.entries[tail as usize % 4].store(entry, Ordering::Release);
            self.last.store(tail + 1, Ordering::Release);
        }

        fn pop(&self) -> Option<u32> {
            let mut head = self.head.load(Ordering::Acquire);
            while head != self.last.load(Ordering::Acquire) {
                let entry = self.entries[head as usize % 4].load(Ordering::Acquire);
                match self.head.compare_exchange(
                    head,
                    head + 1,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                ) {
                    Ok(_) => return Some(entry),
                    Err(now) => head = now,
                }
            }
            None
        }
    }
    model(|| {
        let zero = || AtomicU32::new(0);
        let ring = Arc::new(Ring {
            head: zero(),
            tail: zero(),
            last: zero(),
            entries: std::array::from_fn(|_| zero()),
        });
        let other = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || ring.push(1))
        };
        ring.push(2);
        other.join().expect("no panic");
        let (a, b) = (ring.pop(), ring.pop());
        assert!(
            matches!((a, b), (Some(1), Some(2)) | (Some(2), Some(1))),
            "both pushed, both there: {a:?} {b:?}"
        );
    });
}

/// `None` after one look at two stacks, instead of two equal looks: the free object moves behind
/// the look.
#[test]
#[should_panic]
fn twin_that_looks_once() {
    model(|| {
        let bits = Arc::new([AtomicU32::new(0), AtomicU32::new(1)]);
        let other = {
            let bits = Arc::clone(&bits);
            thread::spawn(move || {
                // Holds one, gives it to the first word, takes the one of the second: one is free
                // all the time.
                bits[0].fetch_or(1, Ordering::SeqCst);
                bits[1].swap(0, Ordering::SeqCst)
            })
        };
        let found = bits.iter().any(|word| word.swap(0, Ordering::SeqCst) != 0);
        let theirs = other.join().expect("no panic");
        assert!(found || theirs == 0, "None, with an object free at every moment");
    });
}

/// The gate between an owner's sequences and a visitor. A sequence is modelled as what the kernel
/// makes of it: it runs on its CPU alone, and the visitor's fence returns when none that began
/// before is in progress. That is a lock which the fence takes once; everything else is as in the
/// code.
struct Gate {
    closed: AtomicU32,
    cpu: loom::sync::Mutex<()>,
    word: AtomicU32,
    object: UnsafeCell<u32>,
}

fn owner_and_visitor(with_fence: bool) {
    model(move || {
        let gate = Arc::new(Gate {
            closed: AtomicU32::new(0),
            cpu: loom::sync::Mutex::new(()),
            word: AtomicU32::new(1),
            object: UnsafeCell::new(0),
        });
        let taken = |gate: &Gate| {
            gate.object.with_mut(|object| {
                // SAFETY: owned, as far as the protocol says; loom checks it.
                unsafe { *object += 1 };
            });
        };
        let owner = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                let popped = {
                    let _sequence = gate.cpu.lock().expect("no panic");
                    // The load of the gate at the start of the sequence, and its plain load and
                    // store of the word.
                    let open = gate.closed.load(Ordering::Acquire) == 0;
                    let entry = if open { gate.word.load(Ordering::Acquire) } else { 0 };
                    thread::yield_now();
                    if entry != 0 {
                        gate.word.store(0, Ordering::Release);
                    }
                    entry
                };
                if popped != 0 {
                    taken(&gate);
                }
            })
        };
        gate.closed.fetch_add(1, Ordering::SeqCst);
        if with_fence {
            drop(gate.cpu.lock().expect("no panic"));
            fence(Ordering::SeqCst);
        }
        let entry = gate.word.load(Ordering::Acquire);
        if entry != 0
            && gate.word.compare_exchange(entry, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            taken(&gate);
        }
        gate.closed.fetch_sub(1, Ordering::AcqRel);
        owner.join().expect("no panic");
    });
}

#[test]
fn closed_and_fenced_gate_keeps_owners_out() {
    owner_and_visitor(true);
}

#[test]
#[should_panic]
fn twin_gate_without_fence() {
    owner_and_visitor(false);
}

/// Closing: a push looks at the flag after it has pushed, the closer drains after it has set it.
fn close_and_late_push(order: Ordering) {
    model(move || {
        let (closed, free) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let pusher = {
            let (closed, free) = (Arc::clone(&closed), Arc::clone(&free));
            thread::spawn(move || {
                free.store(1, order);
                if order == Ordering::SeqCst {
                    fence(Ordering::SeqCst);
                }
                closed.load(order_of_load(order)) != 0 && free.swap(0, Ordering::AcqRel) != 0
            })
        };
        closed.store(1, order);
        if order == Ordering::SeqCst {
            fence(Ordering::SeqCst);
        }
        let drained = free.load(order_of_load(order)) != 0 && free.swap(0, Ordering::AcqRel) != 0;
        let by_pusher = pusher.join().expect("no panic");
        assert!(
            drained ^ by_pusher,
            "dropped once: by the drain {drained}, by the push {by_pusher}"
        );
    });
}

fn order_of_load(order: Ordering) -> Ordering {
    if order == Ordering::SeqCst { order } else { Ordering::Acquire }
}

#[test]
fn late_push_is_dropped_once() {
    close_and_late_push(Ordering::SeqCst);
}

#[test]
#[should_panic]
fn twin_late_push_without_total_order() {
    close_and_late_push(Ordering::Release);
}
