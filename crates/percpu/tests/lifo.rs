//! The restartable-sequence list under threads, visitors and signals; with glibc's registration,
//! with our own, and refused without any.
#![cfg(not(loom))]

mod interrupts;

use interrupts::{Interrupts, operation};
use percpu::rseq::lifo::{Chain, Lifo, LifoSlot, Miss};
use percpu::rseq::{self, Gate, Refused};
use percpu::{CachePadded, cpu};
use std::ffi::c_int;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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
        // SAFETY: made together in `new`, and used by such views alone.
        unsafe { Lifo::new(&self.slots, &self.links, &self.gate, self.limit) }
    }

    fn len(&self) -> u32 {
        (0..self.slots.len()).map(|s| self.lifo().len(s)).sum()
    }
}

/// Entries and chains in these tests belong to the thread that gives them:
/// `every_entry_has_one_owner` checks it, the others have one thread.
fn push(lifo: Lifo<'_>, entry: u32) -> Result<u32, Miss> {
    // SAFETY: see above; numbers are those of `Lists::new`.
    unsafe { lifo.push(entry) }
}

fn install(lifo: Lifo<'_>, chain: Chain) -> Result<u32, Miss> {
    // SAFETY: as in `push`.
    unsafe { lifo.install(chain) }
}

fn prepend(lifo: Lifo<'_>, entry: u32, chain: Option<Chain>) -> Chain {
    // SAFETY: as in `push`.
    unsafe { lifo.prepend(entry, chain) }
}

/// Keeps this thread where it is, so that a test of one list sees one list.
fn pin() {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let cpu = cpu::current();
    // SAFETY: `cpu` is below CPU_SETSIZE on every machine with fewer than 1024 CPUs; the macro
    // checks it.
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
    assert_eq!(push(lists.lifo(), 1), Err(Miss::Refused(Refused::Unregistered)));
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
    let cpu = push(lifo, 1).expect("room");
    for e in 2..=4 {
        assert_eq!(push(lifo, e), Ok(cpu));
    }
    assert_eq!(push(lifo, 5), Err(Miss::Full { cpu }));
    assert_eq!(lifo.word(cpu as usize).head(), 4);
    assert_eq!(lifo.pop(), Ok((4, cpu)));
    assert_eq!(lifo.split(4), Err(Miss::Empty { cpu }));
    let chain = Chain { head: 3, tail: 2, len: 2 };
    assert_eq!(lifo.split(2), Ok((chain, cpu)));
    assert_eq!(lifo.next(3), 2);
    assert_eq!(install(lifo, chain), Err(Miss::Full { cpu }));
    assert_eq!(lifo.len(cpu as usize), 1);
    let word = lifo.word(cpu as usize);
    assert_eq!(lifo.pop(), Ok((1, cpu)));
    assert_eq!(lifo.pop(), Err(Miss::Empty { cpu }));
    let empty = lifo.word(cpu as usize);
    assert!(empty.is_empty() && !word.is_empty());
    assert_eq!(install(lifo, chain), Ok(cpu));
    assert_eq!(lifo.len(cpu as usize), 2);
    assert_eq!(push(lifo, 4), Ok(cpu));
    assert_eq!(lifo.len(cpu as usize), 3);
    assert_eq!(lifo.pop(), Ok((4, cpu)));
    assert_eq!(lifo.pop(), Ok((3, cpu)));
    assert_eq!(lifo.pop(), Ok((2, cpu)));
    assert_eq!(lifo.pop(), Err(Miss::Empty { cpu }));
    assert_ne!(lifo.word(cpu as usize), empty, "emptied again: another version");
    assert_eq!(lifo.split(1), Err(Miss::Empty { cpu }));
    let chain = prepend(lifo, 7, Some(prepend(lifo, 8, None)));
    assert_eq!(install(lifo, chain), Ok(cpu));
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
        cpu = push(lifo, e).expect("room");
    }
    let closed = lists.gate.close();
    assert_eq!(push(lifo, 6), Err(Miss::Refused(Refused::Closed)));
    assert_eq!(lifo.pop(), Err(Miss::Refused(Refused::Closed)));
    assert_eq!(lifo.steal(&closed, cpu as usize, 2), Some(Chain { head: 5, tail: 4, len: 2 }));
    assert_eq!(lifo.steal(&closed, cpu as usize, 99), Some(Chain { head: 3, tail: 1, len: 3 }));
    assert_eq!(lifo.steal(&closed, cpu as usize, 1), None);
    drop(closed);
    assert_eq!(lifo.pop(), Err(Miss::Empty { cpu }));
}

#[test]
#[should_panic(expected = "another gate is closed")]
fn stealing_behind_another_gate_is_refused() {
    let (lists, others) = (Lists::new(1, 1), Lists::new(1, 1));
    lists.lifo().steal(&others.gate.close(), 0, 1);
}

#[test]
fn a_gate_is_open_when_the_last_visitor_left() {
    let gate = Gate::new();
    let (first, second) = (gate.close(), gate.close());
    drop(first);
    assert!(!gate.is_open());
    drop(second);
    assert!(gate.is_open());
    std::mem::forget(gate.close());
    assert!(!gate.is_open());
    // SAFETY: the one forgotten above.
    unsafe { gate.open() };
    assert!(gate.is_open());
}

const ENTRIES: u32 = 64;
const THREADS: u64 = 12;

/// Who has each entry: 0 nobody, which is the list.
static OWNERS: [AtomicU64; ENTRIES as usize + 1] =
    [const { AtomicU64::new(0) }; ENTRIES as usize + 1];
/// Every handler, of whichever thread.
const HANDLER: u64 = THREADS + 1;

fn take(e: u32, who: u64) {
    OWNERS[e as usize]
        .compare_exchange(0, who, Ordering::Acquire, Ordering::Relaxed)
        .unwrap_or_else(|other| panic!("entry {e}: owned by {other}, taken by {who}"));
}

fn give(e: u32, who: u64) {
    OWNERS[e as usize]
        .compare_exchange(who, 0, Ordering::Release, Ordering::Relaxed)
        .unwrap_or_else(|other| panic!("entry {e}: {who} gives what {other} has"));
}

/// What the signal handler works on.
static HANDLER_LISTS: AtomicPtr<Lists> = AtomicPtr::new(ptr::null_mut());
/// Entries that a handler could not push. They belong to [`HANDLER`].
static STASH: [AtomicU32; ENTRIES as usize] = [const { AtomicU32::new(0) }; ENTRIES as usize];

/// Pops an entry and pushes it.
extern "C" fn on_signal(_signal: c_int) {
    // SAFETY: the test stored a reference that lives for ever before it started a timer.
    if let Some(lists) = unsafe { HANDLER_LISTS.load(Ordering::Acquire).as_ref() } {
        let stashed =
            STASH.iter().map(|cell| cell.swap(0, Ordering::AcqRel)).find(|entry| *entry != 0);
        let popped =
            || lists.lifo().pop().ok().map(|(entry, _)| entry).inspect(|e| take(*e, HANDLER));
        if let Some(entry) = stashed.or_else(popped) {
            give(entry, HANDLER);
            // The list may be full, or closed by the very thread that this handler interrupts: the
            // entry waits for a later signal.
            if push(lists.lifo(), entry).is_err() {
                take(entry, HANDLER);
                let kept = STASH.iter().any(|cell| {
                    cell.compare_exchange(0, entry, Ordering::AcqRel, Ordering::Relaxed).is_ok()
                });
                assert!(kept, "there are as many cells as entries");
            }
        }
    }
    interrupts::handled();
}

/// What handlers interrupt.
const POP: usize = 0;
const PUSH: usize = 1;
const SPLIT: usize = 2;
const INSTALL: usize = 3;
/// How often at least, each of them in each thread.
const INTERRUPTED: u64 = 1;

/// One of the threads of [`every_entry_has_one_owner`], and its entries.
struct Worker {
    who: u64,
    lists: &'static Lists,
    mine: Vec<u32>,
}

impl Worker {
    fn new(who: u64, lists: &'static Lists) -> Self {
        let mine: Vec<u32> = (1..=ENTRIES).filter(|e| u64::from(*e) % THREADS + 1 == who).collect();
        mine.iter().for_each(|e| take(*e, who));
        Self { who, lists, mine }
    }

    /// Works under fire until `end`, and until each operation of each worker has been interrupted:
    /// one that stops keeps entries that the others need.
    fn run(mut self, end: Instant, still_short: &AtomicU64) -> Vec<u32> {
        self.lists.registered();
        let timer = Interrupts::start(libc::SIGUSR1, Duration::from_micros(50));
        let mut n = 0;
        let mut short = true;
        let others = || still_short.load(Ordering::Relaxed) != 0;
        while timer.short_of::<4>(INTERRUPTED, others() || Instant::now() < end) {
            (0..64).for_each(|_| {
                n += 1;
                self.step(n);
            });
            if short && !timer.short_of::<4>(INTERRUPTED, false) {
                short = false;
                still_short.fetch_sub(1, Ordering::Relaxed);
            }
        }
        println!(
            "thread {}: {} handlers, over pop, push, split and install {:?}",
            self.who,
            timer.handlers(),
            timer.over::<4>()
        );
        self.mine
    }

    fn step(&mut self, n: u64) {
        let lifo = self.lists.lifo();
        if n.is_multiple_of(4096) && self.who.is_multiple_of(4) {
            let closed = self.lists.gate.close();
            let slot = (n / 4096) as usize % self.lists.slots.len();
            if let Some(chain) = lifo.steal(&closed, slot, 5) {
                self.keep(chain);
            }
        }
        if n.is_multiple_of(63)
            && let Ok((chain, _)) = operation(SPLIT, || lifo.split(3))
        {
            self.keep(chain);
        }
        if n.is_multiple_of(31) && self.mine.len() >= 2 {
            let entries = [self.mine.pop().expect("two"), self.mine.pop().expect("two")];
            entries.iter().for_each(|e| give(*e, self.who));
            let chain = prepend(lifo, entries[0], Some(prepend(lifo, entries[1], None)));
            if operation(INSTALL, || install(lifo, chain)).is_err() {
                self.keep(chain);
            }
        }
        if n.is_multiple_of(2) {
            if let Ok((e, _)) = operation(POP, || lifo.pop()) {
                self.keep_one(e);
            }
        } else if let Some(e) = self.mine.pop() {
            give(e, self.who);
            if operation(PUSH, || push(lifo, e)).is_err() {
                self.keep_one(e);
            }
        }
    }

    fn keep(&mut self, chain: Chain) {
        let mut e = chain.head;
        for left in (0..chain.len).rev() {
            let next = self.lists.lifo().next(e);
            assert!(left != 0 || e == chain.tail, "a chain ends at its tail");
            self.keep_one(e);
            e = next;
        }
    }

    fn keep_one(&mut self, e: u32) {
        take(e, self.who);
        self.mine.push(e);
    }
}

/// No entry is in two hands: threads push, pop, split and install, visitors steal, and handlers pop
/// and push over whatever they interrupt.
#[test]
fn every_entry_has_one_owner() {
    if !rseq::available() {
        return;
    }
    let lists: &'static Lists = Box::leak(Box::new(Lists::new(ENTRIES as usize, 16)));
    HANDLER_LISTS.store(ptr::from_ref(lists).cast_mut(), Ordering::Release);
    interrupts::install(libc::SIGUSR1, on_signal);
    let workers: Vec<_> = (1..=THREADS).map(|who| Worker::new(who, lists)).collect();
    let still_short = &AtomicU64::new(THREADS);
    let end = Instant::now() + Duration::from_millis(1500);
    let mut left: Vec<u32> = thread::scope(|s| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|worker| s.spawn(move || worker.run(end, still_short)))
            .collect();
        threads.into_iter().flat_map(|t| t.join().expect("no panic in a worker")).collect()
    });
    left.extend(
        STASH.iter().map(|cell| cell.swap(0, Ordering::AcqRel)).filter(|entry| *entry != 0),
    );
    assert_eq!(left.len() as u32 + lists.len(), ENTRIES, "no entry is lost");
    let closed = lists.gate.close();
    for slot in 0..lists.slots.len() {
        while let Some(chain) = lists.lifo().steal(&closed, slot, 1) {
            left.push(chain.head);
        }
    }
    left.sort_unstable();
    assert!(left.iter().copied().eq(1..=ENTRIES), "each entry is there once");
}

/// The same tests in a process whose C library registers nothing: the crate does it itself, and
/// gives the area back when a thread ends.
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
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
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
            assert_eq!(push(lists.lifo(), 1), Err(Miss::Refused(Refused::Unregistered)));
            assert!(rseq::register_thread());
            assert!(rseq::cpu_id().is_some());
            assert!(push(lists.lifo(), 1).is_ok());
        })
        .join()
        .expect("no panic");
    }
}
