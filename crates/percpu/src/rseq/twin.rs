//! The broken twin of [`Gate::close`](super::Gate::close): without the membarrier, a visitor and a sequence in progress take the same entry.
#![allow(unsafe_code)]

use super::lifo::{Lifo, LifoSlot};
use super::{Gate, Ordering, VISITOR, available};
use crate::CachePadded;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};
use std::vec::Vec;

fn close_without_fence(gate: &Gate) {
    gate.update(Ordering::SeqCst, |state| (state & !(VISITOR - 1)) + VISITOR);
}

/// Keeps this thread on the `n`-th CPU that it may use: on one CPU the switch between the threads would abort the sequence, as the fence does.
fn pin(n: usize) {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let (mut allowed, mut one): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { core::mem::zeroed() };
    // SAFETY: `allowed` is writable for its size.
    let r = unsafe { libc::sched_getaffinity(0, size_of_val(&allowed), &mut allowed) };
    assert_eq!(r, 0, "which CPUs may be used");
    // SAFETY: every number is below CPU_SETSIZE.
    let cpu = (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &allowed) }).nth(n);
    let Some(cpu) = cpu else { return };
    // SAFETY: `cpu` is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut one) };
    // SAFETY: `one` is readable for its size.
    let r = unsafe { libc::sched_setaffinity(0, size_of_val(&one), &one) };
    assert_eq!(r, 0, "pin to cpu {cpu}");
}

/// How often an entry was in two hands, until the first conflict or the time is up: one thread installs and splits a long list, one visits.
///
/// Splitting follows every link inside of the sequence, which takes longer than a line needs from CPU to CPU. A pop is over before the visitor's compare-and-swap
/// can arrive, and shows the missing fence only when an interrupt hits it.
fn conflicts(close: fn(&Gate), limit: Duration) -> u32 {
    const ENTRIES: u32 = 250;
    let slots: Vec<_> = (0..crate::cpu::count()).map(|_| CachePadded::new(LifoSlot::default())).collect();
    let links: Vec<_> = (0..=ENTRIES).map(|_| AtomicU64::new(0)).collect();
    let owned: Vec<_> = (0..=ENTRIES).map(|_| AtomicBool::new(true)).collect();
    let gate = Gate::new();
    let lifo = Lifo::new(&slots, &links, &gate, 255);
    let conflicts = AtomicU32::new(0);
    let stop = AtomicBool::new(false);
    let take = |entry: u32| {
        if owned[entry as usize].swap(true, Ordering::AcqRel) {
            conflicts.fetch_add(1, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
        }
    };
    // What the visitor took goes back through the owner, or everything would soon lie in the visitor's own list.
    let returned = AtomicU32::new(0);
    let goes_on = || !stop.load(Ordering::Relaxed);
    thread::scope(|s| {
        s.spawn(|| {
            pin(1);
            let mut mine: Vec<u32> = (1..=ENTRIES).collect();
            while goes_on() {
                let mut chain = None;
                for entry in mine.drain(..) {
                    chain = Some(lifo.prepend(entry, chain));
                    owned[entry as usize].store(false, Ordering::Release);
                }
                if let Some(chain) = chain {
                    while lifo.install(chain).is_err() && goes_on() {}
                }
                // The visitor makes the list shorter, and refuses sequences now and then: split what is there.
                let split = loop {
                    let len = lifo.len(crate::cpu::current());
                    match lifo.split(len.max(1)) {
                        Ok((chain, _)) => break Some(chain),
                        Err(_) if len > 0 && goes_on() => {}
                        Err(_) => break None,
                    }
                };
                if let Some(chain) = split {
                    let mut entry = chain.head;
                    for _ in 0..chain.len {
                        take(entry);
                        mine.push(entry);
                        entry = lifo.next(entry);
                    }
                }
                match returned.swap(0, Ordering::Acquire) {
                    0 => {}
                    entry => mine.push(entry),
                }
            }
        });
        pin(0);
        let end = Instant::now() + limit;
        let mut jitter = 1u32;
        while goes_on() {
            // Otherwise the two can fall into step, with every visit between two sequences.
            jitter = jitter.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (0..jitter >> 22).for_each(|_| std::hint::spin_loop());
            close(&gate);
            let chain = (0..slots.len()).find_map(|slot| lifo.steal(slot, 1));
            if let Some(chain) = chain {
                take(chain.head);
            }
            gate.open();
            if let Some(chain) = chain {
                returned.store(chain.head, Ordering::Release);
            }
            while returned.load(Ordering::Relaxed) != 0 && goes_on() && Instant::now() < end {
                std::hint::spin_loop();
            }
            if Instant::now() >= end {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
    conflicts.load(Ordering::Relaxed)
}

#[test]
fn a_closed_gate_keeps_owners_out() {
    if available() {
        assert_eq!(conflicts(Gate::close, Duration::from_millis(500)), 0);
    }
}

#[test]
fn twin_without_the_fence_lets_two_take_one_entry() {
    // On one CPU the switch between the threads aborts the sequence, as the fence would.
    if available() && thread::available_parallelism().is_ok_and(|n| n.get() > 1) {
        // From the beginning again and again: about one time in a hundred no conflict ever comes, and mostly one comes in milliseconds.
        let found = (0..20).any(|_| conflicts(close_without_fence, Duration::from_secs(1)) != 0);
        assert!(found, "no entry was taken twice");
    }
}
