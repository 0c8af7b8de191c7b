//! Processes that count, fork and are killed: each block has one owner, no count is lost or
//! doubled, and blocks are as many as processes that lived at one time.
#![allow(unsafe_code)]

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use wire::{Files, Function, Kind, Owner, Segment, Shape, cell};

const SHAPE: Shape = Shape {
    objects: 1,
    functions: 4,
    blocks: 64,
    cell_bytes: 1 << 20,
    budget: 64 << 20,
    per_thread: false,
    scarce: true,
    stacks: None,
};

fn file() -> File {
    // SAFETY: a name that ends in a zero byte.
    let fd = unsafe { libc::memfd_create(c"wire-test".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: just opened.
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }
}

/// Words that parent and children share.
fn shared(words: usize) -> &'static [AtomicU64] {
    let (rw, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), words * 8, rw, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    // SAFETY: zeroed words of a mapping that stays.
    unsafe { std::slice::from_raw_parts(at.cast(), words) }
}

/// A child that does `f` and ends without a word to anybody, as if by a signal.
fn child(f: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child uses no lock of another thread's: it allocates nothing that this test's
    // other threads could hold, for it makes its system calls itself.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        f();
        // SAFETY: ends here.
        unsafe { libc::_exit(0) };
    }
    pid
}

fn wait(pid: libc::pid_t) {
    // SAFETY: no status is wanted.
    assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
}

/// A place for blocks that differs from one segment of this process to the next.
fn region(bytes: usize) -> usize {
    static NEXT: AtomicU64 = AtomicU64::new(0x2000_0000_0000);
    NEXT.fetch_add((bytes as u64).next_multiple_of(1 << 30), Ordering::Relaxed) as usize
}

struct Both {
    ours: Segment,
    theirs: Segment,
    file: File,
    cell: u32,
}

fn both(shape: Shape) -> Both {
    let file = file();
    let ours = Segment::create_in(Files::one(&file), shape).unwrap();
    let cell = ours.add_cell(cell::COUNT_BYTES).unwrap();
    let function = Function {
        address: 1,
        size: 1,
        after: 0,
        offset: 0,
        kind: Kind::Count,
        returns: false,
        cell,
    };
    ours.add_function(0, &function).unwrap();
    let theirs = Segment::attach(Files::one(&file), region).unwrap();
    Both { ours, theirs, file, cell }
}

/// The word that a probe counts in.
fn word(segment: &Segment, block: usize, cell: u32) -> &'static AtomicU64 {
    let (cells, bytes) = segment.cells(block).unwrap();
    assert!(bytes > cell as usize);
    // SAFETY: mapped, as was just compared; the segments of these tests are never dropped before.
    unsafe { &*cells.as_ptr().wrapping_add(cell as usize).cast() }
}

fn calls(both: &Both) -> u64 {
    let function = both.ours.function(0).unwrap();
    let of = |block| {
        let range = both.ours.block_range(block).unwrap();
        both.ours
            .view(&both.file, block, &(range.start..range.start + 4096))
            .unwrap()
            .counts(&function)
            .calls
    };
    (0..both.ours.blocks_len()).map(of).sum()
}

/// One after the other: the second and all later ones have the first one's block.
#[test]
fn a_thousand_processes_need_one_block() {
    let both = both(SHAPE);
    for n in 0..1000 {
        wait(child(|| {
            let block = both.theirs.take_block(Owner::current(), n).unwrap();
            word(&both.theirs, block, both.cell).fetch_add(1, Ordering::Relaxed);
        }));
    }
    assert_eq!((calls(&both), both.ours.blocks_len()), (1000, 1));
}

/// Killed at any instruction, also while they take a block.
#[test]
fn kills_lose_and_double_nothing() {
    const AT_ONCE: usize = 6;
    const ROUNDS: usize = 20;
    let both = both(SHAPE);
    let done = shared(AT_ONCE * ROUNDS);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut started = 0;
    let mut start = || {
        let own = &done[started];
        started += 1;
        child(|| {
            // Takes and gives back all the time, so that most are killed in there.
            loop {
                let block = both.theirs.take_block(Owner::current(), 0).unwrap();
                let count = word(&both.theirs, block, both.cell);
                for _ in 0..20 {
                    // As probes count: not atomic. Two owners at once would lose some.
                    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    own.store(own.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                }
                both.theirs.release_block(block);
            }
        })
    };
    let mut running: Vec<libc::pid_t> = (0..AT_ONCE).map(|_| start()).collect();
    for round in AT_ONCE..ROUNDS * AT_ONCE {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let victim = (seed >> 33) as usize % AT_ONCE;
        // Some way into its work, wherever that is.
        let before = done[round - 1].load(Ordering::Relaxed);
        let enough = before + (seed >> 40) % 200;
        while done[round - 1].load(Ordering::Relaxed) < enough {
            std::thread::yield_now();
            if running[AT_ONCE - 1] == 0 {
                break;
            }
        }
        let pid = running.remove(victim);
        // SAFETY: a child of this test that nobody has waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        wait(pid);
        running.push(start());
    }
    for pid in running {
        // SAFETY: as above.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        wait(pid);
    }
    let told: u64 = done.iter().map(|n| n.load(Ordering::Relaxed)).sum();
    let counted = calls(&both);
    let most = told + done.len() as u64;
    assert!((told..=most).contains(&counted), "{counted} counted, {told} to {most} done");
    // A process that is killed between two steps may leave a block that is found later.
    assert!(both.ours.blocks_len() <= 4 * AT_ONCE, "{} blocks", both.ours.blocks_len());
}

/// Blocks of processes that live are theirs, whatever their number is elsewhere.
#[test]
fn nothing_is_taken_from_the_living() {
    let both = both(SHAPE);
    let own = Owner::current();
    let first = both.theirs.take_block(own, 0).unwrap();
    let elsewhere = Owner { space: own.space ^ 1, pid: 0x3f_ffff };
    let theirs = both.theirs.take_block(elsewhere, 0).unwrap();
    for _ in 0..100 {
        let block = both.theirs.take_block(Owner { pid: 1, ..own }, 0).unwrap();
        assert!(block != first && block != theirs);
        both.theirs.release_block(block);
    }
    // The same number in this space, where nobody has it: gone.
    let gone = Owner { pid: 0x3f_ffff, ..own };
    let block = both.theirs.take_block(gone, 0).unwrap();
    let found = (0..4).map(|_| both.theirs.take_block(own, 0).unwrap()).any(|taken| taken == block);
    assert!(found, "block {block} of a process that is gone");
}

/// A block grows where it is when functions are added; far blocks are reached without large
/// mappings.
#[test]
fn blocks_grow_and_are_reached_within_limits() {
    let both =
        both(Shape { cell_bytes: 64 << 20, blocks: 1024, budget: 1 << 40, scarce: false, ..SHAPE });
    let own = Owner::current();
    let block = both.theirs.take_block(own, 0).unwrap();
    assert_eq!(both.theirs.cells(block).unwrap().1, 4096);
    word(&both.theirs, block, both.cell).store(7, Ordering::Relaxed);
    let late = both.ours.add_cell(3 << 20).unwrap();
    let far = both.ours.add_cell(cell::COUNT_BYTES).unwrap();
    assert!(late < far && both.theirs.extend_blocks(|_| true));
    word(&both.theirs, block, far).store(8, Ordering::Relaxed);
    assert_eq!(word(&both.theirs, block, both.cell).load(Ordering::Relaxed), 7);
    for _ in 0..40 {
        both.theirs.take_block(own, 0).unwrap();
    }
    // In a child, for the limit stays.
    let ok = shared(1);
    wait(child(|| {
        let limit = libc::rlimit { rlim_cur: 1 << 31, rlim_max: 1 << 31 };
        // SAFETY: a limit that lives through the call.
        unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
        both.theirs.leave_blocks(|_| false);
        let block = both.theirs.take_block(Owner::current(), 0).unwrap();
        word(&both.theirs, block, far).store(9, Ordering::Relaxed);
        ok[0].store(block as u64, Ordering::Relaxed);
    }));
    assert_eq!(ok[0].load(Ordering::Relaxed), 41, "2.6 GiB into the file with 2 GiB of addresses");
}

/// A file that has no room: no block, and nobody dies. (`/dev/shm` of 64 KiB, where this test may
/// mount one, is in the command line's tests.)
#[test]
fn the_tables_cannot_be_written_by_who_counts() {
    let both = both(SHAPE);
    both.theirs.stop();
    assert!(!both.ours.stopped(), "a store to read-only memory is left out");
    assert!(both.theirs.add_cell(64).is_err() || both.ours.cells_len() == 64);
}

/// The depot's region is mapped as it is used, where it is, as far as the program's limits allow.
#[test]
fn the_depot_grows_in_its_place() {
    const BYTES: usize = 16 << 20;
    let stacks = wire::Stacks {
        depot_bytes: BYTES,
        counts_bytes: 16 << 20,
        depth: 64,
        frame_pointers: false,
        timed: false,
        evict: false,
    };
    let both = both(Shape { stacks: Some(stacks), scarce: false, ..SHAPE });
    let (all, _) = both.ours.depot().expect("the command line has all");
    let (at, most) = both.theirs.depot_region().unwrap();
    assert!(both.theirs.depot().is_none() && most == BYTES, "not all is mapped at first");
    let mapped = |end: usize| {
        // SAFETY: only asks; an address need not be mapped.
        unsafe {
            libc::msync(at.as_ptr().wrapping_add(end - 4096).cast(), 4096, libc::MS_ASYNC) == 0
        }
    };
    assert!(!mapped(1 << 20));
    for end in [1 << 20, 3 << 20, 3 << 20, 5_000_001, BYTES / 2] {
        assert!(both.theirs.reach_depot(end) && mapped(end / 4096 * 4096));
        assert_eq!(both.theirs.depot_region(), Some((at, most)));
        // SAFETY: just mapped.
        unsafe { at.as_ptr().wrapping_add(end / 2).write(7) };
        // SAFETY: all of it is mapped there.
        assert_eq!(unsafe { all.as_ptr().wrapping_add(end / 2).read() }, 7);
    }
    assert!(!mapped(BYTES) && !both.theirs.reach_depot(BYTES + 1));
    let refused = shared(1);
    let limited = child(|| {
        // SAFETY: plain numbers.
        let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
        (limit.rlim_cur, limit.rlim_max) = (1 << 20, 1 << 20);
        // SAFETY: of the child alone.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
        refused[0].store(u64::from(!both.theirs.reach_depot(BYTES)), Ordering::Relaxed);
    });
    wait(limited);
    assert_eq!(refused[0].load(Ordering::Relaxed), 1);
    assert!(both.theirs.reach_depot(BYTES) && mapped(BYTES));
}

/// One segment after the other, of blocks of different sizes, with a thread that goes on writing to
/// where its block was in the last one: it finds memory, and nothing grows.
#[test]
fn segments_one_after_the_other_take_each_others_places() {
    let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap();
    let in_region = |at: usize| {
        let inside = |line: &&str| {
            let start = line.split('-').next().and_then(|s| usize::from_str_radix(s, 16).ok());
            start.is_some_and(|start| (at..at + (64 << 30)).contains(&start))
        };
        let size = |line: &str| {
            let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            number(end) - number(start)
        };
        mapped().lines().filter(inside).map(size).sum::<usize>()
    };
    let base = region(256 << 30);
    let (mut places, mut sizes) = (wire::Places::default(), Vec::new());
    let mut before: Option<&AtomicU64> = None;
    for round in 0..12_u64 {
        let file = file();
        let cell_bytes = [1 << 20, 64 << 10, 4 << 20][round as usize % 3];
        let ours = Segment::create_in(Files::one(&file), Shape { cell_bytes, ..SHAPE }).unwrap();
        let name = format!("round {round}");
        let cell = ours.add_cell(cell::COUNT_BYTES).unwrap();
        let theirs = Segment::attach_in(Files::one(&file), places, |_| base).unwrap();
        let blocks: Vec<usize> =
            (0..8).map(|n| theirs.take_block(Owner::current(), 100 + n).unwrap()).collect();
        let word = |block: usize| {
            let (cells, _) = theirs.cells(block).unwrap();
            assert!((base..base + (64 << 30)).contains(&cells.as_ptr().addr()), "{name}");
            // SAFETY: inside the block, aligned, and accessed by atomics only.
            unsafe { &*cells.as_ptr().wrapping_add(cell as usize).cast::<AtomicU64>() }
        };
        for block in &blocks {
            assert_eq!(word(*block).load(Ordering::Relaxed), 0, "{name}: a new block");
            word(*block).fetch_add(round + 1, Ordering::Relaxed);
        }
        // As many functions as a block has pages for, and more: it grows where it is, though what
        // is behind may be an earlier segment's place.
        while ours.cells_len() < 3 * 4096 {
            ours.add_cell(cell::COUNT_BYTES).unwrap();
        }
        assert!(theirs.extend_blocks(|block| blocks.contains(&block)), "{name}");
        assert_eq!(word(blocks[7]).load(Ordering::Relaxed), round + 1, "{name}: after growing");
        if let Some(before) = before {
            before.fetch_add(0, Ordering::Relaxed);
        }
        before = Some(word(blocks[7]));
        let counted = theirs.vacate();
        before.unwrap().fetch_add(1, Ordering::Relaxed);
        assert!(theirs.take_block(Owner::current(), 1).is_err(), "it was left");
        drop(theirs);
        places = counted;
        sizes.push(in_region(base));
    }
    let last = &sizes[sizes.len() - 3..];
    assert_eq!(&sizes[3..6], last, "{sizes:?}");
}
