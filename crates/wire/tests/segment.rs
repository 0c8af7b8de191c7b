//! Both sides of a segment, and files that are none.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::thread;
use std::time::Duration;
use wire::{
    Counts, Error, Function, Identity, Kind, Loss, Owner, Patience, Process, Request, Segment,
    Shape, StackOwner, Stacks, State, cell,
};

const SHAPE: Shape = Shape {
    objects: 4,
    functions: 16,
    blocks: 8,
    cell_bytes: 64 << 10,
    budget: 1 << 20,
    per_thread: false,
    scarce: false,
    stacks: None,
};

/// A process that lives as long as the test; and its thread's number is as good as any.
fn own() -> Owner {
    Owner::current()
}

fn file() -> File {
    let name = format!("wire-test-{}-{:?}", std::process::id(), thread::current().id());
    let path = std::env::temp_dir().join(name);
    let file =
        File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

fn add(segment: &Segment, kind: Kind) -> usize {
    let bytes = if kind == Kind::Time { cell::TIMED_BYTES } else { cell::COUNT_BYTES };
    let cell = segment.add_cell(bytes).unwrap();
    segment
        .add_function(
            0,
            &Function { address: 0x1000, size: 32, after: 4, offset: 0, kind, returns: true, cell },
        )
        .unwrap()
}

/// Writes a word of a cell as the probes do.
#[allow(unsafe_code)]
fn count(segment: &Segment, block: usize, function: usize, word: usize, value: u64) {
    let (cells, _) = segment.cells(block).unwrap();
    let at = segment.function(function).unwrap().cell as usize + word;
    // SAFETY: the cell lies inside the block's cells, as `function` checked.
    let at = unsafe { cells.add(at) };
    // SAFETY: eight aligned bytes of the mapping, which lives as long as `segment`, accessed
    // through atomics only.
    let word = unsafe { at.cast::<std::sync::atomic::AtomicU64>().as_ref() };
    word.fetch_add(value, std::sync::atomic::Ordering::Relaxed);
}

fn file_of(dev: u64, ino: u64, changed: u64, build_id: &[u8]) -> Identity {
    Identity { dev, ino, changed, build_id: build_id.to_vec(), path: Vec::new() }
}

/// A match that is wrong is a patch in the middle of something.
#[test]
fn a_file_is_known_by_what_nobody_can_forge() {
    let file = file();
    let segment = Segment::create(&file, SHAPE).unwrap();
    let (old, late) = (file_of(1, 2, 3, &[7, 7]), file_of(1, 5, 6, &[8, 8]));
    segment.add_object(&old, 0..0, &[]).unwrap();
    segment.seal_start();
    segment.add_object(&late, 0..0, &[]).unwrap();
    segment.add_object(&file_of(1, 8, 9, &[]), 0..0, &[]).unwrap();
    for (dev, ino, changed, build_id, found, what) in [
        (1, 2, 3, &[7, 7][..], Some(0), "the same"),
        (1, 2, 4, &[], None, "rewritten in place"),
        (1, 2, 4, &[7, 7], Some(0), "touched"),
        (1, 2, 3, &[9, 9], None, "the same file with another program in it"),
        (4, 4, 4, &[7, 7], Some(0), "a copy of what was there before the start"),
        (1, 5, 6, &[8, 8], Some(1), "the same one that came later"),
        (1, 5, 6, &[], Some(1), "the same, its build-id not loaded"),
        (1, 5, 7, &[8, 8], None, "changed, and came later"),
        (4, 4, 4, &[8, 8], None, "a copy of a build-id that came later"),
        (1, 5, 0, &[8, 8], Some(1), "gone since, so that its change is not known"),
        (1, 8, 9, &[], Some(2), "without a build-id"),
        (1, 8, 0, &[], None, "without a build-id, and gone"),
        (0, 0, 0, &[], None, "no file"),
    ] {
        assert_eq!(segment.find_object(&file_of(dev, ino, changed, build_id)), found, "{what}");
    }
}

#[test]
fn what_one_side_writes_the_other_reads() {
    let file = file();
    let ours = Segment::create(&file, SHAPE).unwrap();
    let counted = add(&ours, Kind::Count);
    let timed = add(&ours, Kind::Time);
    let identity = Identity {
        dev: 1,
        ino: 2,
        changed: 3,
        build_id: vec![0, 1, 2],
        path: b"/bin/true".to_vec(),
    };
    let object = ours.add_object(&identity, counted..timed + 1, b"plans of it").unwrap();

    let theirs = Segment::from_file(&file).unwrap();
    assert_eq!(theirs.shape(), SHAPE);
    assert_eq!(theirs.object(object), Some(identity));
    assert_eq!(theirs.find_object(&file_of(1, 2, 3, &[])), Some(object));
    assert_eq!(theirs.functions_of(object), 0..2);
    assert_eq!(theirs.plans_of(object), b"plans of it");
    let other = ours.add_object(&Identity::default(), 0..0, &[0; 2000]).unwrap();
    assert_eq!((theirs.plans_of(other).len(), theirs.plans_of(object).len()), (2000, 11));
    let without = ours.add_object(&Identity::default(), 0..0, &vec![1; 1 << 20]).unwrap();
    assert!(theirs.plans_of(without).is_empty() && theirs.plans_of(99).is_empty(), "no room");

    theirs.set_state(timed, State::Skipped, "no room within 2 GiB");
    theirs.set_state(counted, State::Detour, "");
    assert_eq!(
        (ours.state(timed), ours.reason(timed).as_str()),
        (State::Skipped, "no room within 2 GiB")
    );
    assert_eq!((ours.state(counted), ours.reason(counted).as_str()), (State::Detour, ""));

    let block = theirs.take_block(own(), 11).unwrap();
    count(&theirs, block, timed, cell::CALLS, 3);
    count(&theirs, block, timed, cell::BUCKETS + 8, 2);
    let counts = ours.counts(timed);
    assert_eq!(
        (counts.calls, counts.buckets[1], ours.counts(counted)),
        (3, 2, Counts::zero(false))
    );
    theirs.lose(Loss::Depth, 5);
    assert_eq!((ours.lost(Loss::Depth), ours.lost(Loss::Recursion)), (5, 0));
    let process = Process {
        pid: 5,
        parent: 1,
        detours: 7,
        breakpoints: 1,
        arming_ns: 99,
        name: b"x".to_vec(),
    };
    theirs.add_process(&process).unwrap();
    assert_eq!((ours.processes_len(), ours.process(0)), (1, Some(process)));
}

#[test]
fn blocks_are_taken_once_and_keep_their_counts() {
    let file = file();
    let segment = Segment::create(&file, SHAPE).unwrap();
    let f = add(&segment, Kind::Count);
    thread::scope(|s| {
        for t in 0..16 {
            let segment = &segment;
            s.spawn(move || {
                for _ in 0..500 {
                    let block = loop {
                        match segment.take_block(own(), t) {
                            Ok(block) => break block,
                            Err(_) => thread::yield_now(),
                        }
                    };
                    // Not atomic: two owners at once would lose some.
                    let (cells, _) = segment.cells(block).unwrap();
                    assert_eq!(segment.block_at(cells.as_ptr().addr()), Some(block));
                    count(segment, block, f, cell::CALLS, 1);
                    segment.release_block(block);
                }
            });
        }
    });
    assert_eq!(segment.counts(f).calls, 16 * 500);
    assert!(segment.blocks_len() <= SHAPE.blocks);
}

#[test]
fn threads_are_kept_apart_until_blocks_run_out() {
    let file = file();
    let segment = Segment::create(&file, Shape { per_thread: true, ..SHAPE }).unwrap();
    for n in 0..SHAPE.blocks {
        let block = segment.take_block(own(), n as u32).unwrap();
        assert_eq!(block, n);
        segment.release_block(block);
    }
    let again = segment.take_block(own(), 100).unwrap();
    let thread = segment.thread(again).unwrap();
    assert_eq!((thread.tid, thread.threads, thread.running), (100, 2, true));
}

#[test]
fn a_new_program_gets_the_blocks_of_its_process_back() {
    let file = file();
    let segment = Segment::create(&file, SHAPE).unwrap();
    let other = Owner { pid: 1, ..own() };
    for tid in 0..SHAPE.blocks {
        segment.take_block(if tid == 3 { other } else { own() }, tid as u32).unwrap();
    }
    assert_eq!(segment.take_block(own(), 0), Err(Loss::Threads));
    segment.reclaim_blocks(own());
    assert_eq!((0..).map_while(|_| segment.take_block(own(), 0).ok()).count(), SHAPE.blocks - 1);
}

#[test]
fn the_budget_bounds_what_is_handed_out() {
    let file = file();
    let segment = Segment::create(&file, Shape { budget: 5 * 4096, ..SHAPE }).unwrap();
    let f = add(&segment, Kind::Time);
    assert_eq!(segment.counts(f).calls, 0);
    let taken = (0..).map_while(|_| segment.take_block(own(), 0).ok()).count();
    assert_eq!((taken, segment.take_block(own(), 0)), (5, Err(Loss::Memory)));
    segment.release_block(2);
    assert_eq!(segment.take_block(own(), 0), Ok(2), "one that has its memory costs nothing");
    segment.set_measured(1 << 30);
    segment.release_block(2);
    assert_eq!(segment.take_block(own(), 0), Ok(2));
}

#[test]
fn counts_of_ended_threads_are_kept_and_their_blocks_used_again() {
    let file = file();
    let segment = Segment::create(&file, Shape { per_thread: true, ..SHAPE }).unwrap();
    let f = add(&segment, Kind::Count);
    for round in 0..100 {
        let block = segment.take_block(own(), round).unwrap();
        assert!(block < 2, "{block}: the others are not needed");
        count(&segment, block, f, cell::CALLS, 1);
        assert!(!segment.keep_block(block), "it is in use");
        segment.release_block(block);
        assert!(segment.keep_block(block) && !segment.keep_block(block));
        let thread = segment.thread(block).unwrap();
        assert_eq!((thread.tid, thread.threads, segment.counts(f).calls), (round, 1, 1));
        let range = segment.block_range(block).unwrap();
        (&file).seek(std::io::SeekFrom::Start(range.start)).unwrap();
        (&file).write_all(&vec![0; 4096]).unwrap();
        segment.empty_block(block);
        assert_eq!(segment.thread(block), None);
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const LONG: Patience = Patience { idle: MINUTE, longest: MINUTE };
const NONE: Patience = Patience { idle: Duration::ZERO, longest: Duration::ZERO };

/// The next question that is asked.
fn next_request(segment: &Segment) -> Request {
    let mut bell = 0;
    loop {
        if let Some(request) = segment.requests().pop() {
            return request;
        }
        bell = segment.wait_for_requests(bell, Duration::from_millis(10));
    }
}

/// Threads of one block, one after the other: each has its own counts of stacks and its last name,
/// until there is no room, or none is wanted; then the counts are nobody's.
#[test]
fn stacks_are_counted_by_thread() {
    let file = file();
    let stacks = Stacks {
        depot_bytes: 1 << 20,
        counts_bytes: 64 << 20,
        depth: 8,
        frame_pointers: false,
        timed: false,
        evict: false,
    };
    let shape = Shape { budget: 1 << 30, stacks: Some(stacks), ..SHAPE };
    let segment = Segment::create(&file, shape).unwrap();
    // What the recorder does at a thread's first hit, and at the hits.
    let hit = |tid: u32, shared: bool, log2: u32, calls: u64| {
        let block = segment.take_block(own(), tid).unwrap();
        assert_eq!(block, 0, "they are never there at one time");
        segment.name_block(block, tid, format!("early{tid}").as_bytes());
        let table = segment.own_stack_table(block, shared);
        let table = table.unwrap_or_else(|| segment.new_stack_table(block, log2).unwrap());
        let (cell, _) = table.find(7).unwrap();
        cell.handle.store(7, std::sync::atomic::Ordering::Relaxed);
        cell.calls.fetch_add(calls, std::sync::atomic::Ordering::Relaxed);
        segment.name_block(block, tid, format!("late{tid}").as_bytes());
        block
    };
    let counted = || {
        let mut all = Vec::new();
        segment.stack_counts_by_owner(|owner, count| {
            if count.handle == 7 {
                all.push((owner.clone(), count.calls));
            }
        });
        all.sort();
        all
    };
    let of = |tid: u32, running| {
        let name = if tid == 0 { String::new() } else { format!("late{tid}") };
        StackOwner { pid: own().pid, tid, name, running }
    };
    segment.release_block(hit(11, false, 8, 3));
    hit(12, false, 8, 4);
    assert_eq!(counted(), [(of(11, false), 3), (of(12, true), 4)]);
    assert_eq!(segment.own_stack_table(0, false).unwrap().cells(), 256, "it goes on in its own");
    segment.release_block(0);
    segment.release_block(hit(13, true, 8, 5));
    assert_eq!(counted(), [(of(0, false), 9), (of(11, false), 3)]);
    segment.release_block(hit(14, false, 20, 6));
    assert_eq!(counted(), [(of(0, false), 9), (of(11, false), 3), (of(14, false), 6)]);
    // No room any more.
    segment.release_block(hit(15, false, 8, 7));
    assert_eq!(counted(), [(of(0, false), 9), (of(0, false), 13), (of(11, false), 3)]);
}

#[test]
fn questions_are_answered() {
    let file = file();
    let segment = Segment::create(&file, SHAPE).unwrap();
    let seen = Identity { ino: 4, path: b"/lib/x.so".to_vec(), ..Identity::default() };
    thread::scope(|s| {
        let asker = s.spawn(|| segment.ask(77, &seen, 0x1000, LONG, || true));
        let request = next_request(&segment);
        assert_eq!((request.pid, &request.object), (77, &seen));
        segment.answer(&request, Some(2));
        assert_eq!(asker.join().unwrap(), Ok(true));
    });
    assert_eq!(segment.ask(77, &seen, 0x1000, NONE, || true), Err(()));
    assert!(segment.requests().is_empty(), "whoever gave up is not answered");
    for _ in 0..200 {
        assert_eq!(segment.ask(77, &seen, 0x1000, NONE, || true), Err(()));
        segment.requests();
    }
    assert_eq!(segment.ask(77, &seen, 0x1000, LONG, || false), Err(()), "nobody would answer");
    segment.requests();
}

/// While somebody is at work on a question, who asks another one waits, however little patience it
/// has with somebody who does nothing.
#[test]
fn who_is_at_work_is_waited_for() {
    let file = file();
    let segment = Segment::create(&file, SHAPE).unwrap();
    let object = |ino| Identity { ino, path: b"/lib/x.so".to_vec(), ..Identity::default() };
    let short = Patience { idle: Duration::from_millis(1), longest: MINUTE };
    thread::scope(|s| {
        let first = s.spawn(|| segment.ask(77, &object(1), 0x1000, LONG, || true));
        let one = next_request(&segment);
        let second = s.spawn(|| segment.ask(78, &object(2), 0x1000, short, || true));
        let other = next_request(&segment);
        assert_eq!((one.pid, other.pid), (77, 78));
        thread::sleep(Duration::from_millis(20));
        segment.answer(&other, Some(2));
        assert_eq!(second.join().unwrap(), Ok(true));
        segment.answer(&one, None);
        assert_eq!(first.join().unwrap(), Ok(false));
    });
}

#[test]
fn tables_that_are_full_say_so() {
    let file = file();
    let segment = Segment::create(&file, SHAPE).unwrap();
    (0..SHAPE.functions).for_each(|_| _ = add(&segment, Kind::Count));
    let function = segment.function(0).unwrap();
    assert!(matches!(segment.add_function(0, &function), Err(Error::Full("functions"))));
    assert!(matches!(segment.add_cell(128 << 10), Err(Error::Full("cells"))));
    assert!(
        (0..SHAPE.objects).all(|_| segment.add_object(&Identity::default(), 0..0, &[]).is_ok())
    );
    assert!(matches!(
        segment.add_object(&Identity::default(), 0..0, &[]),
        Err(Error::Full("objects"))
    ));
    for n in 0..3000 {
        segment.set_state(0, State::Skipped, &format!("reason {n}"));
    }
    assert!(segment.reason(0).starts_with("reason"));
}

#[test]
fn what_is_no_segment_is_refused() {
    let mut file = file();
    assert!(matches!(Segment::from_file(&file), Err(Error::NotASegment)));
    file.write_all(&[1; 10_000]).unwrap();
    assert!(matches!(Segment::from_file(&file), Err(Error::NotASegment)));
    drop(Segment::create(&file, SHAPE).unwrap());
    let bytes = file.metadata().unwrap().len();
    file.set_len(bytes - 1).unwrap();
    assert!(matches!(Segment::from_file(&file), Err(Error::Corrupt(_))));
    file.set_len(bytes).unwrap();
    file.seek(std::io::SeekFrom::Start(8)).unwrap();
    file.write_all(&99_u32.to_ne_bytes()).unwrap();
    assert!(matches!(Segment::from_file(&file), Err(Error::Version { found: 99, .. })));
}

/// Whatever is in the file, every method stays inside the mapping and ends.
#[test]
fn mutated_segments_are_survived() {
    let mut file = file();
    let segment = Segment::create(&file, SHAPE).unwrap();
    let functions = 4;
    (0..functions).for_each(|_| _ = add(&segment, Kind::Time));
    segment
        .add_object(
            &Identity { path: vec![b'x'; 2000], build_id: vec![1; 64], ..Identity::default() },
            0..functions,
            &[7; 300],
        )
        .unwrap();
    segment.take_block(own(), 1).unwrap();
    drop(segment);
    let mut good = vec![0; file.metadata().unwrap().len() as usize];
    file.rewind().unwrap();
    file.read_exact(&mut good).unwrap();

    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for _ in 0..500 {
        let mut bytes = good.clone();
        for _ in 0..1 + random() % 8 {
            // The headers of both parts, and anything else.
            let at = match random() % 4 {
                0 | 1 => random() % 512,
                2 => 0x14000 + random() % 1024,
                _ => random() % bytes.len(),
            };
            bytes[at] = random() as u8;
        }
        file.rewind().unwrap();
        file.write_all(&bytes).unwrap();
        let Ok(segment) = Segment::from_file(&file) else { continue };
        for i in (0..20).chain([usize::MAX]) {
            segment.object(i);
            segment.functions_of(i).for_each(|f| _ = segment.function(f));
            _ = segment.plans_of(i);
            segment.counts(i);
            segment.state(i);
            segment.reason(i);
            segment.process(i);
            segment.thread(i);
            segment.cells(i);
            segment.set_state(i, State::Skipped, "because");
        }
        segment.find_object(&file_of(1, 1, 1, &[1; 32]));
        segment.requests();
        let _ = segment.take_block(own(), 1);
        segment.reclaim_blocks(own());
        segment.end_blocks(own().space, |pid| pid % 2 == 0);
        (0..20).filter(|i| segment.keep_block(*i)).for_each(|i| segment.empty_block(i));
        segment.log(b"a line");
        segment.log_text();
        let _ = segment.add_cell(64);
    }
}
