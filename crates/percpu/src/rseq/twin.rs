//! The broken twin of [`Gate::close`](super::Gate::close): without the membarrier, a visitor and a
//! sequence in progress take the same entry.
#![allow(unsafe_code)]

use super::lifo::{Lifo, LifoSlot};
use super::{Closed, Gate, Ordering, VISITOR, available};
use crate::CachePadded;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::hint::spin_loop;
use std::thread;
use std::time::{Duration, Instant};
use std::vec::Vec;

fn close_without_fence(gate: &Gate) -> Closed<'_> {
    gate.update(Ordering::SeqCst, |state| (state & !(VISITOR - 1)) + VISITOR);
    Closed { gate }
}

/// Keeps this thread on the `n`-th CPU that it may use: on one CPU the switch between the threads
/// would abort the sequence, as the fence does.
fn pin(n: usize) {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let (mut allowed, mut one): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { core::mem::zeroed() };
    // SAFETY: `allowed` is writable for its size.
    let r = unsafe { libc::sched_getaffinity(0, size_of_val(&allowed), &mut allowed) };
    assert_eq!(r, 0, "which CPUs may be used");
    // SAFETY: every number is below CPU_SETSIZE.
    let cpu = (0..libc::CPU_SETSIZE as usize)
        .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &allowed) })
        .nth(n);
    let Some(cpu) = cpu else { return };
    // SAFETY: `cpu` is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut one) };
    // SAFETY: `one` is readable for its size.
    let r = unsafe { libc::sched_setaffinity(0, size_of_val(&one), &one) };
    assert_eq!(r, 0, "pin to cpu {cpu}");
}

/// Far enough from each other that a walk along their links waits for the caches at each step.
const DISTANCE: u32 = 512;
const ENTRIES: u32 = 250;

/// Whether an entry ever was in two hands, in as many attempts as `go_on` allows.
///
/// One thread splits its whole list, one visits and takes the top entry. Splitting follows every
/// link inside of the sequence, some microseconds in which nothing but the fence disturbs it (a
/// stop in the middle, by whatever means, would abort it, as the fence does); and the two wait for
/// each other before each attempt, so that the visit falls into the sequence whenever both of them
/// have a processor.
fn conflict(close: fn(&Gate) -> Closed<'_>, mut go_on: impl FnMut() -> bool + Send) -> bool {
    let slots: Vec<_> =
        (0..crate::cpu::count()).map(|_| CachePadded::new(LifoSlot::default())).collect();
    let links: Vec<_> = (0..=ENTRIES * DISTANCE).map(|_| AtomicU64::new(0)).collect();
    let gate = Gate::new();
    // SAFETY: all three are new and used by this view alone. (The twin breaks `Gate::close`, on
    // purpose.)
    let lifo = unsafe { Lifo::new(&slots, &links, &gate, 255) };
    // The attempt for which the visitor waits, that the owner has begun, and that is over.
    let (ready, begun, over) = (&AtomicU32::new(0), &AtomicU32::new(0), &AtomicU32::new(0));
    let visitors = &AtomicU32::new(0);
    let stop = &AtomicBool::new(false);
    let until = |counter: &AtomicU32, attempt: u32| {
        let mut looks = 0u32;
        while counter.load(Ordering::Acquire) < attempt && !stop.load(Ordering::Relaxed) {
            looks += 1;
            // Hot, or the moment is over; but not for ever, where processors are few.
            if looks.is_multiple_of(1 << 14) { thread::yield_now() } else { spin_loop() }
        }
        !stop.load(Ordering::Relaxed)
    };
    thread::scope(|s| {
        let owner = s.spawn(move || {
            pin(1);
            let mut mine: Vec<u32> = (1..=ENTRIES).map(|i| i * DISTANCE).collect();
            for attempt in 1.. {
                if !go_on() {
                    break;
                }
                let mut chain = None;
                for entry in mine.drain(..) {
                    // SAFETY: `mine` lists what belongs to this thread; the chain is made of it.
                    chain = Some(unsafe { lifo.prepend(entry, chain) });
                }
                // SAFETY: as above. The list is empty and the gate open, or becomes so.
                while unsafe { lifo.install(chain.expect("all are here")) }.is_err() {}
                if !until(ready, attempt) {
                    break;
                }
                begun.store(attempt, Ordering::Release);
                let split = lifo.split(ENTRIES);
                if !until(over, attempt) {
                    break;
                }
                if let Ok((chain, _)) = split {
                    let mut entry = chain.head;
                    for _ in 0..chain.len {
                        mine.push(entry);
                        entry = lifo.next(entry);
                    }
                }
                let visitors = visitors.load(Ordering::Relaxed);
                if mine.contains(&visitors) {
                    stop.store(true, Ordering::Relaxed);
                    return true;
                }
                mine.extend((visitors != 0).then_some(visitors));
                // What neither took.
                mine.extend(std::iter::from_fn(|| lifo.pop().ok().map(|(entry, _)| entry)));
                assert_eq!(mine.len(), ENTRIES as usize, "all are somewhere");
            }
            stop.store(true, Ordering::Relaxed);
            false
        });
        pin(0);
        for attempt in 1.. {
            ready.store(attempt, Ordering::Release);
            if !until(begun, attempt) {
                break;
            }
            let closed = close(&gate);
            let chain = (0..slots.len()).find_map(|slot| lifo.steal(&closed, slot, 1));
            drop(closed);
            visitors.store(chain.map_or(0, |chain| chain.head), Ordering::Relaxed);
            over.store(attempt, Ordering::Release);
        }
        owner.join().expect("no panic")
    })
}

#[test]
fn a_closed_gate_keeps_owners_out() {
    if available() {
        let end = Instant::now() + Duration::from_millis(500);
        assert!(!conflict(Gate::close, || Instant::now() < end));
    }
}

#[test]
fn twin_without_the_fence_lets_two_take_one_entry() {
    // On one CPU the switch between the threads aborts the sequence, as the fence would.
    if available() && thread::available_parallelism().is_ok_and(|n| n.get() > 1) {
        let mut attempts = 0;
        let found = conflict(close_without_fence, || {
            attempts += 1;
            attempts <= 20_000
        });
        assert!(found, "no entry was taken twice");
    }
}
