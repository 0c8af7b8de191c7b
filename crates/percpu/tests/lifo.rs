//! The restartable-sequence list under threads, visitors and signals; with glibc's registration, with our own, and refused without any.
#![cfg(not(loom))]

use percpu::rseq::lifo::{Chain, Lifo, LifoSlot, Miss};
use percpu::rseq::{self, Gate, Refused};
use percpu::{CachePadded, cpu};
use std::ffi::c_int;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread;

struct Lists {
    slots: Vec<CachePadded<LifoSlot>>,
    links: Vec<AtomicU64>,
    gate: Gate,
    limit: u32,
}

impl Lists {
    fn new(entries: usize, limit: u32) -> Self {
        Self {
            slots: (0..cpu::count()).map(|_| CachePadded::new(LifoSlot::default())).collect(),
            links: (0..=entries).map(|_| AtomicU64::new(0)).collect(),
            gate: Gate::new(),
            limit,
        }
    }

    /// A view, for a thread that is registered.
    fn registered(&self) -> Lifo<'_> {
        assert!(rseq::register_thread());
        self.lifo()
    }

    fn lifo(&self) -> Lifo<'_> {
        Lifo::new(&self.slots, &self.links, &self.gate, self.limit)
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
    let lifo = lists.registered();
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
    let lifo = lists.registered();
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

/// What the signal handler works on, and how often it did.
static HANDLER_LISTS: AtomicPtr<Lists> = AtomicPtr::new(ptr::null_mut());
static HANDLER_RUNS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_timer(_signal: c_int) {
    // SAFETY: `HandlerTimer::start` stored a reference that lives for ever before it started the timer.
    let Some(lists) = (unsafe { HANDLER_LISTS.load(Ordering::Acquire).as_ref() }) else { return };
    HANDLER_RUNS.fetch_add(1, Ordering::Relaxed);
    let stashed = STASH.iter().map(|cell| cell.swap(0, Ordering::AcqRel)).find(|entry| *entry != 0);
    let Some(entry) = stashed.or_else(|| lists.lifo().pop().ok().map(|(entry, _)| entry)) else { return };
    // The list may be full, or closed by the very thread that this handler interrupts: the entry waits for a later signal.
    if lists.lifo().push(entry).is_err() {
        let kept = STASH.iter().any(|cell| cell.compare_exchange(0, entry, Ordering::AcqRel, Ordering::Relaxed).is_ok());
        assert!(kept, "there are as many cells as entries");
    }
}

/// Entries that a handler could not push.
static STASH: [AtomicU32; ENTRIES as usize] = [const { AtomicU32::new(0) }; ENTRIES as usize];
const ENTRIES: u32 = 64;

/// A signal every millisecond to whichever thread runs.
struct HandlerTimer;

impl HandlerTimer {
    fn start(lists: &'static Lists) -> Self {
        HANDLER_LISTS.store(ptr::from_ref(lists).cast_mut(), Ordering::Release);
        // SAFETY: an all-zero sigaction is a valid one without flags and with an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_timer as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `action` is a valid handler that keeps to atomics and restartable sequences.
        assert_eq!(unsafe { libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()) }, 0);
        Self::set(1000);
        Self
    }

    fn set(microseconds: i64) {
        let tick = libc::timeval { tv_sec: 0, tv_usec: microseconds };
        let timer = libc::itimerval { it_interval: tick, it_value: tick };
        // SAFETY: `timer` is readable.
        assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) }, 0);
    }

    fn stop(self) -> u64 {
        Self::set(0);
        HANDLER_RUNS.load(Ordering::Relaxed)
    }
}

/// No entry is in two hands: threads push, pop, split and install, visitors steal, and timer signals pop and push over whatever they interrupt.
#[test]
fn every_entry_has_one_owner() {
    if !rseq::available() {
        return;
    }
    let lists: &'static Lists = Box::leak(Box::new(Lists::new(ENTRIES as usize, 16)));
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
    let timer = HandlerTimer::start(lists);
    let mut left: Vec<u32> = thread::scope(|s| {
        let threads: Vec<_> = (1..=12u64)
            .map(|who| {
                let stop = &stop;
                let mut mine: Vec<u32> = (1..=ENTRIES).filter(|e| u64::from(*e) % 12 + 1 == who).collect();
                mine.iter().for_each(|e| take(*e, who));
                s.spawn(move || {
                    let lifo = lists.registered();
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
                        if n.is_multiple_of(4096) && who.is_multiple_of(4) {
                            lists.gate.close();
                            let slot = (n / 4096) as usize % lists.slots.len();
                            if let Some(chain) = lifo.steal(slot, 5) {
                                keep(chain, &mut mine);
                            }
                            lists.gate.open();
                        }
                        if n.is_multiple_of(63)
                            && let Ok((chain, _)) = lifo.split(3)
                        {
                            keep(chain, &mut mine);
                        }
                        if n.is_multiple_of(127) && mine.len() >= 2 {
                            let entries = [mine.pop().expect("two"), mine.pop().expect("two")];
                            entries.iter().for_each(|e| give(*e, who));
                            let chain = lifo.prepend(entries[0], Some(lifo.prepend(entries[1], None)));
                            if lifo.install(chain).is_err() {
                                keep(chain, &mut mine);
                            }
                        }
                        if n.is_multiple_of(2) {
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
    assert!(timer.stop() > 0, "the handler ran");
    left.extend(STASH.iter().map(|cell| cell.swap(0, Ordering::AcqRel)).filter(|entry| *entry != 0));
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

/// The same tests in a process whose C library registers nothing: the crate does it itself, and gives the area back when a thread ends.
#[test]
fn the_same_with_our_own_registration() {
    if std::env::var_os(OWN).is_some() || !rseq::available() {
        return;
    }
    let exe = std::env::current_exe().expect("path of this test");
    let out = Command::new(exe)
        .args(["--test-threads=2", "--nocapture"])
        .env("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
        .env(OWN, "1")
        .output()
        .expect("run this test again");
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}

const OWN: &str = "PERCPU_TEST_OWN_REGISTRATION";

#[test]
fn threads_register_at_their_first_sequence() {
    if !rseq::available() || std::env::var_os(OWN).is_none() {
        return;
    }
    for _ in 0..100 {
        thread::spawn(|| {
            assert_eq!(rseq::cpu_id(), None, "nobody registered this thread");
            let lists = Lists::new(1, 1);
            assert_eq!(lists.lifo().push(1), Err(Miss::Refused(Refused::Unregistered)));
            assert!(rseq::register_thread());
            assert!(rseq::cpu_id().is_some());
            assert!(lists.lifo().push(1).is_ok());
        })
        .join()
        .expect("no panic");
    }
}
