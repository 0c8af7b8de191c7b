//! A shared region that each process maps as it uses it. Two mappings of one memory file stand for
//! two processes: neither knows what the other has mapped.
#![cfg(not(loom))]

mod common;

use common::stack;
use stackdepot::{Depot, Eviction, Flags, Handle, NoEviction, Region};
use std::ptr::NonNull;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const BYTES: usize = 8 << 20;
const DEPTH: u64 = 40;
const GROW: Flags = Flags::CAN_GROW;

fn file() -> i32 {
    // SAFETY: a name and no flags.
    let fd = unsafe { libc::memfd_create(c"stackdepot".as_ptr(), 0) };
    assert!(fd >= 0);
    // SAFETY: an own descriptor.
    assert_eq!(unsafe { libc::ftruncate(fd, BYTES as libc::off_t) }, 0);
    fd
}

/// Addresses of which the first `mapped` bytes show the file; touching others is a fault.
struct View {
    fd: i32,
    base: usize,
    mapped: AtomicUsize,
    limit: usize,
}

impl View {
    fn new(fd: i32, limit: usize) -> &'static Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), BYTES, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        Box::leak(Box::new(Self {
            fd,
            base: base.expose_provenance(),
            mapped: AtomicUsize::new(0),
            limit,
        }))
    }

    fn reach(&self, end: usize) -> bool {
        assert!(end <= BYTES);
        if end > self.limit {
            return false;
        }
        let end = end.next_multiple_of(4096);
        let at = std::ptr::with_exposed_provenance_mut(self.base);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: in the own reservation; what was mapped there is the same part of the same file.
        let got = unsafe {
            libc::mmap(at, end, protection, libc::MAP_SHARED | libc::MAP_FIXED, self.fd, 0)
        };
        assert_ne!(got, libc::MAP_FAILED);
        self.mapped.fetch_max(end, Ordering::Relaxed);
        true
    }

    fn region(&'static self) -> Region {
        let base =
            NonNull::new(std::ptr::with_exposed_provenance_mut(self.base)).expect("an address");
        // SAFETY: never unmapped; `reach` tells the truth.
        unsafe { Region::growing(base, BYTES, Box::leak(Box::new(|end| self.reach(end)))) }
    }

    fn depot(&'static self) -> Depot<NoEviction> {
        Depot::builder().buckets_log2(4).no_eviction().build_in(self.region()).expect("a depot")
    }

    fn mapped(&self) -> usize {
        self.mapped.load(Ordering::Relaxed)
    }
}

fn save<E: Eviction>(depot: &Depot<E>, n: u64) -> Handle {
    depot.save(&stack(n, DEPTH), GROW)
}

/// What one process has saved, in pools and overflow buckets that the other has not mapped, the
/// other finds: each stack has one handle.
#[test]
fn what_another_has_mapped_is_found() {
    let fd = file();
    let (first, second) = (View::new(fd, BYTES), View::new(fd, BYTES));
    let (here, there) = (first.depot(), second.depot());
    let begun = second.mapped();
    assert!(begun < BYTES / 8, "{begun} bytes are mapped for an empty depot");
    let handles: Vec<_> = (0..5000).map(|n| save(&here, n)).collect();
    assert!(handles.iter().all(|handle| !handle.is_none()));
    assert_eq!(second.mapped(), begun, "nothing is mapped before it is used");
    let mut buf = [0; 64];
    let last = handles[4999];
    assert_eq!(there.fetch(last, &mut buf).expect("it is there"), stack(4999, DEPTH));
    let again: Vec<_> = (0..5000).map(|n| save(&there, n)).collect();
    assert_eq!(again, handles);
    assert_eq!((here.stats().persistent, there.stats().corrupt), (5000, 0));
}

/// Both at once: still one handle each, and no more is mapped than is used.
#[test]
fn both_grow_at_once() {
    let fd = file();
    let views = [View::new(fd, BYTES), View::new(fd, BYTES)];
    let depots = views.map(View::depot);
    let begin = Barrier::new(4);
    let all: Vec<Vec<Handle>> = thread::scope(|s| {
        let begin = &begin;
        let run = |depot: &Depot<NoEviction>| {
            begin.wait();
            (0..6000).map(|n| save(depot, n)).collect()
        };
        let threads: Vec<_> =
            (0..4).map(|t| &depots[t % 2]).map(|depot| s.spawn(move || run(depot))).collect();
        threads.into_iter().map(|t| t.join().expect("no panic")).collect()
    });
    // A contended bucket may refuse, which is counted.
    for n in 0..6000 {
        let mut found = all.iter().map(|handles| handles[n]).filter(|handle| !handle.is_none());
        let first = found.next();
        assert!(found.all(|handle| Some(handle) == first), "stack {n} has two handles");
    }
    assert_eq!(depots[0].stats().corrupt, 0);
    assert!(views.iter().all(|view| view.mapped() < BYTES));
}

/// A process that cannot map more goes on with what it has, and does no harm to the others.
#[test]
fn one_that_cannot_map_more() {
    let fd = file();
    let (first, second) = (View::new(fd, BYTES), View::new(fd, BYTES / 16));
    let (here, there) = (first.depot(), second.depot());
    let before: Vec<_> = (0..100).map(|n| save(&there, n)).collect();
    for n in 0..5000 {
        assert!(!save(&here, n).is_none());
    }
    let used = here.stats().persistent;
    for n in 4000..6000 {
        save(&there, n);
    }
    assert_eq!((0..100).map(|n| save(&there, n)).collect::<Vec<_>>(), before);
    assert!(save(&there, 5999).is_none());
    assert_eq!((here.stats().persistent, here.stats().corrupt), (used, 0));
    assert!(!save(&here, 7000).is_none());
}
