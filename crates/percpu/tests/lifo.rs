//! The restartable-sequence list under threads, visitors and signals.
//!
//! Without restartable sequences every operation is refused; that is what these tests then check.
#![cfg(not(loom))]

use percpu::rseq::lifo::{Chain, Lifo, LifoSlot, Miss};
use percpu::rseq::{self, Gate, Refused};
use percpu::{CachePadded, cpu};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;

struct Lists {
    slots: Vec<CachePadded<LifoSlot>>,
    links: Vec<AtomicU64>,
    depths: Vec<AtomicU8>,
    gate: Gate,
    limit: u32,
}

impl Lists {
    fn new(entries: usize, limit: u32) -> Self {
        Self {
            slots: (0..cpu::count()).map(|_| CachePadded::new(LifoSlot::default())).collect(),
            links: (0..=entries).map(|_| AtomicU64::new(0)).collect(),
            depths: (0..=entries).map(|_| AtomicU8::new(0)).collect(),
            gate: Gate::new(),
            limit,
        }
    }

    fn lifo(&self) -> Lifo<'_> {
        Lifo::new(&self.slots, &self.links, &self.depths, &self.gate, self.limit)
    }

    fn len(&self) -> u32 {
        (0..self.slots.len()).map(|s| self.lifo().len(s)).sum()
    }
}

/// Keeps this thread where it is, so that a test of one list sees one list.
fn pin() {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let cpu = cpu::current();
    // SAFETY: `cpu` is below CPU_SETSIZE on every machine with fewer than 1024 CPUs; the macro checks it.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is readable for its size.
    let r = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    assert_eq!(r, 0, "pin to cpu {cpu}");
}

#[test]
fn refused_without_rseq() {
    if rseq::available() {
        return;
    }
    let lists = Lists::new(2, 2);
    assert_eq!(lists.lifo().push(1), Err(Miss::Refused(Refused::Unregistered)));
    assert_eq!(lists.lifo().pop(), Err(Miss::Refused(Refused::Unregistered)));
}

#[test]
fn one_list_is_last_in_first_out() {
    if !rseq::available() {
        return;
    }
    pin();
    let lists = Lists::new(8, 4);
    let lifo = lists.lifo();
    let cpu = lifo.push(1).expect("room");
    for e in 2..=4 {
        assert_eq!(lifo.push(e), Ok(cpu));
    }
    assert_eq!(lifo.push(5), Err(Miss::Full { cpu }));
    assert_eq!(lifo.word(cpu as usize).head(), 4);
    assert_eq!(lifo.pop(), Ok((4, cpu)));
    assert_eq!(lifo.split(4), Err(Miss::Empty { cpu }));
    let chain = Chain { head: 3, tail: 2, len: 2 };
    assert_eq!(lifo.split(2), Ok((chain, cpu)));
    assert_eq!(lifo.next(3), 2);
    assert_eq!(lifo.install(chain), Err(Miss::Full { cpu }));
    assert_eq!(lifo.len(cpu as usize), 1);
    let word = lifo.word(cpu as usize);
    assert_eq!(lifo.pop(), Ok((1, cpu)));
    assert_eq!(lifo.pop(), Err(Miss::Empty { cpu }));
    let empty = lifo.word(cpu as usize);
    assert!(empty.is_empty() && !word.is_empty());
    assert_eq!(lifo.install(chain), Ok(cpu));
    assert_eq!(lifo.len(cpu as usize), 2);
    assert_eq!(lifo.push(4), Ok(cpu));
    assert_eq!(lifo.len(cpu as usize), 3);
    assert_eq!(lifo.pop(), Ok((4, cpu)));
    assert_eq!(lifo.pop(), Ok((3, cpu)));
    assert_eq!(lifo.pop(), Ok((2, cpu)));
    assert_eq!(lifo.pop(), Err(Miss::Empty { cpu }));
    assert_ne!(lifo.word(cpu as usize), empty, "emptied again: another version");
    assert_eq!(lifo.split(1), Err(Miss::Empty { cpu }));
    let chain = lifo.prepend(7, Some(lifo.prepend(8, None)));
    assert_eq!(lifo.install(chain), Ok(cpu));
    assert_eq!(lifo.split(2), Ok((chain, cpu)));
    assert!(lifo.word(cpu as usize).is_empty());
}

#[test]
fn closed_gate_refuses_and_visitors_take() {
    if !rseq::available() {
        return;
    }
    pin();
    let lists = Lists::new(8, 8);
    let lifo = lists.lifo();
    let mut cpu = 0;
    for e in 1..=5 {
        cpu = lifo.push(e).expect("room");
    }
    lists.gate.close();
    assert_eq!(lifo.push(6), Err(Miss::Refused(Refused::Closed)));
    assert_eq!(lifo.pop(), Err(Miss::Refused(Refused::Closed)));
    assert_eq!(lifo.steal(cpu as usize, 2), Some(Chain { head: 5, tail: 4, len: 2 }));
    assert_eq!(lifo.steal(cpu as usize, 99), Some(Chain { head: 3, tail: 1, len: 3 }));
    assert_eq!(lifo.steal(cpu as usize, 1), None);
    lists.gate.open();
    assert_eq!(lifo.pop(), Err(Miss::Empty { cpu }));
}

#[test]
#[should_panic(expected = "keeps the gate closed")]
fn stealing_through_an_open_gate_is_refused() {
    let lists = Lists::new(1, 1);
    lists.lifo().steal(0, 1);
}

/// Owners: no entry is in two hands. Threads push, pop, split and install; visitors steal; timer signals do both in between.
#[test]
fn every_entry_has_one_owner() {
    if !rseq::available() {
        return;
    }
    const ENTRIES: u32 = 64;
    let lists = Lists::new(ENTRIES as usize, 16);
    let owners: Vec<AtomicU64> = (0..=ENTRIES).map(|_| AtomicU64::new(0)).collect();
    let take = |e: u32, who: u64| {
        owners[e as usize]
            .compare_exchange(0, who, Ordering::Acquire, Ordering::Relaxed)
            .unwrap_or_else(|other| panic!("entry {e}: owned by {other}, taken by {who}"));
    };
    let give = |e: u32, who: u64| {
        owners[e as usize]
            .compare_exchange(who, 0, Ordering::Release, Ordering::Relaxed)
            .unwrap_or_else(|other| panic!("entry {e}: {who} gives what {other} has"));
    };
    let stop = AtomicBool::new(false);
    let mut left: Vec<u32> = thread::scope(|s| {
        let threads: Vec<_> = (1..=12u64)
            .map(|who| {
                let (lists, stop) = (&lists, &stop);
                let mut mine: Vec<u32> = (1..=ENTRIES).filter(|e| u64::from(*e) % 12 + 1 == who).collect();
                mine.iter().for_each(|e| take(*e, who));
                s.spawn(move || {
                    let lifo = lists.lifo();
                    let keep = |chain: Chain, mine: &mut Vec<u32>| {
                        let mut e = chain.head;
                        for left in (0..chain.len).rev() {
                            let next = lifo.next(e);
                            assert!(left != 0 || e == chain.tail, "a chain ends at its tail");
                            take(e, who);
                            mine.push(e);
                            e = next;
                        }
                    };
                    let mut n = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        n += 1;
                        if n % 4096 == 0 && who % 4 == 0 {
                            lists.gate.close();
                            let slot = (n / 4096) as usize % lists.slots.len();
                            if let Some(chain) = lifo.steal(slot, 5) {
                                keep(chain, &mut mine);
                            }
                            lists.gate.open();
                        }
                        if n % 63 == 0
                            && let Ok((chain, _)) = lifo.split(3)
                        {
                            keep(chain, &mut mine);
                        }
                        if n % 127 == 0 && mine.len() >= 2 {
                            let entries = [mine.pop().expect("two"), mine.pop().expect("two")];
                            entries.iter().for_each(|e| give(*e, who));
                            let chain = lifo.prepend(entries[0], Some(lifo.prepend(entries[1], None)));
                            if lifo.install(chain).is_err() {
                                keep(chain, &mut mine);
                            }
                        }
                        if n % 2 == 0 {
                            if let Ok((e, _)) = lifo.pop() {
                                take(e, who);
                                mine.push(e);
                            }
                        } else if let Some(e) = mine.pop() {
                            give(e, who);
                            if lifo.push(e).is_err() {
                                take(e, who);
                                mine.push(e);
                            }
                        }
                    }
                    mine
                })
            })
            .collect();
        thread::sleep(std::time::Duration::from_millis(1500));
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|t| t.join().expect("no panic in a worker")).collect()
    });
    assert_eq!(left.len() as u32 + lists.len(), ENTRIES, "no entry is lost");
    lists.gate.close();
    for slot in 0..lists.slots.len() {
        while let Some(chain) = lists.lifo().steal(slot, 1) {
            left.push(chain.head);
        }
    }
    left.sort_unstable();
    assert!(left.iter().copied().eq(1..=ENTRIES), "each entry is there once");
}
