//! Both sides of a segment, and files that are none.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::thread;
use std::time::Duration;
use wire::{Counts, Error, Function, Identity, Kind, Loss, Process, Segment, Shape, State, cell};

const SHAPE: Shape = Shape { objects: 4, functions: 16, blocks: 8, cell_bytes: 64 << 10, budget: 1 << 20, per_thread: false, stacks: None };

fn file() -> File {
    let name = format!("wire-test-{}-{:?}", std::process::id(), thread::current().id());
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

fn add(segment: &Segment, kind: Kind) -> usize {
    let bytes = if kind == Kind::Time { cell::TIMED_BYTES } else { cell::COUNT_BYTES };
    let cell = segment.add_cell(bytes).unwrap();
    segment.add_function(0, &Function { address: 0x1000, size: 32, after: 4, offset: 0, kind, returns: true, cell }).unwrap()
}

/// Writes a word of a cell as the probes do.
#[allow(unsafe_code)]
fn count(segment: &Segment, block: usize, function: usize, word: usize, value: u64) {
    let (cells, _) = segment.cells(block).unwrap();
    let at = segment.function(function).unwrap().cell as usize + word;
    // SAFETY: the cell lies inside the block's cells, as `function` checked.
    let at = unsafe { cells.add(at) };
    // SAFETY: eight aligned bytes of the mapping, which lives as long as `segment`, accessed through atomics only.
    let word = unsafe { at.cast::<std::sync::atomic::AtomicU64>().as_ref() };
    word.fetch_add(value, std::sync::atomic::Ordering::Relaxed);
}

#[test]
fn what_one_side_writes_the_other_reads() {
    let file = file();
    let ours = Segment::create(&file, SHAPE).unwrap();
    let counted = add(&ours, Kind::Count);
    let timed = add(&ours, Kind::Time);
    let identity = Identity { dev: 1, ino: 2, build_id: vec![0, 1, 2], path: b"/bin/true".to_vec() };
    let object = ours.add_object(&identity, counted..timed + 1).unwrap();

    let theirs = Segment::from_file(&file).unwrap();
    assert_eq!(theirs.shape(), SHAPE);
    assert_eq!(theirs.object(object), Some(identity));
    assert_eq!(theirs.find_object(1, 2, &[]), Some(object));
    assert_eq!(theirs.find_object(9, 9, &[0, 1, 2]), Some(object));
    assert_eq!((theirs.find_object(1, 3, &[]), theirs.find_object(9, 0, &[])), (None, None));
    assert_eq!(theirs.functions_of(object), 0..2);

    theirs.set_state(timed, State::Skipped, "no room within 2 GiB");
    theirs.set_state(counted, State::Detour, "");
    assert_eq!((ours.state(timed), ours.reason(timed).as_str()), (State::Skipped, "no room within 2 GiB"));
    assert_eq!((ours.state(counted), ours.reason(counted).as_str()), (State::Detour, ""));

    let block = theirs.take_block(10, 11).unwrap();
    count(&theirs, block, timed, cell::CALLS, 3);
    count(&theirs, block, timed, cell::BUCKETS + 8, 2);
    let counts = ours.counts(timed);
    assert_eq!((counts.calls, counts.buckets[1], ours.counts(counted)), (3, 2, Counts::zero(false)));
    theirs.lose(Loss::Depth, 5);
    assert_eq!((ours.lost(Loss::Depth), ours.lost(Loss::Recursion)), (5, 0));
    let process = Process { pid: 5, parent: 1, detours: 7, breakpoints: 1, arming_ns: 99, name: b"x".to_vec() };
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
                        match segment.take_block(1, t) {
                            Some(block) => break block,
                            None => thread::yield_now(),
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
        let block = segment.take_block(1, n as u32).unwrap();
        assert_eq!(block, n);
        segment.release_block(block);
    }
    let again = segment.take_block(1, 100).unwrap();
    let thread = segment.thread(again).unwrap();
    assert_eq!((thread.tid, thread.threads, thread.running), (100, 2, true));
}

#[test]
fn a_new_program_gets_the_blocks_of_its_process_back() {
    let file = file();
    let segment = Segment::create(&file, SHAPE).unwrap();
    for tid in 0..SHAPE.blocks {
        segment.take_block(if tid == 3 { 8 } else { 7 }, tid as u32).unwrap();
    }
    assert_eq!(segment.take_block(7, 0), None);
    segment.reclaim_blocks(7);
    assert_eq!((0..).map_while(|_| segment.take_block(7, 0)).count(), SHAPE.blocks - 1);
}

#[test]
fn questions_are_answered() {
    let file = file();
    let segment = Segment::create(&file, SHAPE).unwrap();
    let seen = Identity { ino: 4, path: b"/lib/x.so".to_vec(), ..Identity::default() };
    thread::scope(|s| {
        let asker = s.spawn(|| segment.ask(77, &seen, Duration::from_secs(60)));
        let mut bell = 0;
        let request = loop {
            if let Some(request) = segment.requests().pop() {
                break request;
            }
            bell = segment.wait_for_requests(bell, Duration::from_secs(60));
        };
        assert_eq!((request.pid, &request.object), (77, &seen));
        segment.answer(&request, Some(2));
        assert_eq!(asker.join().unwrap(), Ok(Some(2)));
    });
    assert_eq!(segment.ask(77, &seen, Duration::ZERO), Err(()));
    assert!(segment.requests().is_empty(), "whoever gave up is not answered");
    for _ in 0..200 {
        assert_eq!(segment.ask(77, &seen, Duration::ZERO), Err(()));
        segment.requests();
    }
}

#[test]
fn tables_that_are_full_say_so() {
    let file = file();
    let segment = Segment::create(&file, SHAPE).unwrap();
    (0..SHAPE.functions).for_each(|_| _ = add(&segment, Kind::Count));
    let function = segment.function(0).unwrap();
    assert!(matches!(segment.add_function(0, &function), Err(Error::Full("functions"))));
    assert!(matches!(segment.add_cell(128 << 10), Err(Error::Full("cells"))));
    assert!((0..SHAPE.objects).all(|_| segment.add_object(&Identity::default(), 0..0).is_ok()));
    assert!(matches!(segment.add_object(&Identity::default(), 0..0), Err(Error::Full("objects"))));
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
    let good = Segment::create(&file, SHAPE).unwrap();
    let bytes = good.bytes() as u64;
    drop(good);
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
    segment.add_object(&Identity { path: vec![b'x'; 2000], build_id: vec![1; 64], ..Identity::default() }, 0..functions).unwrap();
    segment.take_block(1, 1).unwrap();
    drop(segment);
    let mut good = vec![0; 16 << 10];
    file.rewind().unwrap();
    file.read_exact(&mut good).unwrap();

    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for _ in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random() % 8 {
            let at = if random() % 2 == 0 { random() % 512 } else { random() % bytes.len() };
            bytes[at] = random() as u8;
        }
        file.rewind().unwrap();
        file.write_all(&bytes).unwrap();
        let Ok(segment) = Segment::from_file(&file) else { continue };
        for i in (0..20).chain([usize::MAX]) {
            segment.object(i);
            segment.functions_of(i).for_each(|f| _ = segment.function(f));
            segment.counts(i);
            segment.state(i);
            segment.reason(i);
            segment.process(i);
            segment.thread(i);
            segment.cells(i);
            segment.set_state(i, State::Skipped, "because");
        }
        segment.find_object(1, 1, &[1; 32]);
        segment.requests();
        segment.take_block(1, 1);
        segment.reclaim_blocks(1);
        let _ = segment.add_cell(64);
    }
}
