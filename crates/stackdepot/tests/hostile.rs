//! Regions that somebody scribbled on: errors, wrong answers, but no crash, no panic, no endless
//! loop.
#![cfg(not(loom))]

mod common;

use common::{Mapping, Rng, stack};
use stackdepot::{Depot, Error, Eviction, Flags, Handle, Reader};
use std::sync::atomic::Ordering;
use std::time::Instant;

const GROW: Flags = Flags::CAN_GROW;
const BYTES: usize = 1 << 18;
const BUCKETS_LOG2: u32 = 3;

/// A region with everything in it: live, persistent, overflowing and free records.
fn filled() -> (Mapping, Vec<Handle>) {
    let memory = Mapping::private(BYTES);
    let depot = Depot::builder()
        .buckets_log2(BUCKETS_LOG2)
        .max_depth(32)
        .build_in(memory.as_private())
        .unwrap();
    let handles: Vec<_> = (0..200)
        .map(|n| depot.save(&stack(n, 20), if n % 3 == 0 { GROW } else { Flags::GET | GROW }))
        .collect();
    for handle in handles.iter().step_by(4) {
        let _ = depot.put(*handle);
    }
    drop(depot);
    (memory, handles)
}

/// Uses everything there is. Answers may be wrong; the process must live, and not for ever in here.
fn exercise<E: Eviction>(depot: &Depot<E>, handles: &[Handle]) {
    let mut buf = [0; 255];
    for handle in handles.iter().chain(&[
        Handle::from_bits(1),
        Handle::from_bits(0x07ff_ffff),
        Handle::from_bits(3000),
    ]) {
        let _ = depot.fetch(*handle, &mut buf);
        let _ = depot.get(*handle);
        let _ = depot.put(*handle);
        let _ = depot.put(*handle);
    }
    for n in 150..260 {
        let handle = depot.save(&stack(n, 20), Flags::GET | GROW);
        let _ = depot.put(handle);
    }
    for entry in depot.iter().take(100_000) {
        let _ = depot.fetch(entry.handle, &mut buf);
    }
    let _ = depot.stats();
    let _ = depot.display(handles[0], |_, _| Ok(())).to_string();
}

fn read(reader: &Reader, handles: &[Handle]) {
    let mut buf = [0; 255];
    for handle in handles {
        let _ = reader.fetch(*handle, &mut buf);
    }
    reader.iter().take(100_000).for_each(|e| _ = reader.fetch(e.handle, &mut buf));
    let _ = reader.stats();
}

#[test]
fn corrupt_headers_are_named() {
    let (memory, _) = filled();
    let shape = memory.word(1).load(Ordering::Relaxed);
    type Is = fn(&Error) -> bool;
    let cases: [(usize, u64, Is, &str); 12] = [
        (0, 0x1234, |e| *e == Error::NotADepot, "no magic"),
        (0, u64::MAX, |e| *e == Error::NotADepot, "all ones"),
        (1, shape + (1 << 32), |e| *e == Error::Version(3), "a later version"),
        (1, 0, |e| *e == Error::Version(0), "no version"),
        (1, shape & !0xffff, |e| matches!(e, Error::Corrupt(_)), "depth 0"),
        (1, shape | 0xffff, |e| matches!(e, Error::Corrupt(_)), "depth 65535"),
        (1, shape | 0xff << 16, |e| matches!(e, Error::Corrupt(_)), "2^255 buckets"),
        (1, shape | 0xff << 24, |e| matches!(e, Error::Corrupt(_)), "flavour 255"),
        (2, u64::MAX, |e| matches!(e, Error::Corrupt(_)), "larger than the region"),
        (2, 10, |e| matches!(e, Error::Corrupt(_)), "smaller than its header"),
        (3, 0, |e| matches!(e, Error::Corrupt(_)), "pools of nothing"),
        (3, u64::MAX, |e| matches!(e, Error::Corrupt(_)), "endless pools"),
    ];
    for (word, value, expected, name) in cases {
        let broken = memory.copy();
        broken.word(word).store(value, Ordering::Relaxed);
        let writer = Depot::builder().build_in(broken.as_private()).expect_err(name);
        assert!(expected(&writer), "{name}: {writer}");
        let reader = broken.reader().expect_err(name);
        assert!(expected(&reader), "{name}: {reader}");
    }
}

#[test]
fn corrupt_marks_make_a_full_depot() {
    let (memory, handles) = filled();
    for (word, value) in
        [(8, 0), (8, u64::MAX), (9, 0), (9, u64::MAX), (8, (BYTES / 8) as u64), (9, 1 << 40)]
    {
        let broken = memory.copy();
        broken.word(word).store(value, Ordering::Relaxed);
        let depot = Depot::builder().build_in(broken.as_private()).unwrap();
        exercise(&depot, &handles);
        for n in 1000..2000 {
            depot.save(&stack(n, 20), GROW);
        }
        assert!(depot.stats().full > 0, "word {word} = {value:#x}");
    }
}

#[test]
fn loops_of_overflow_buckets_and_free_lists_end() {
    let (memory, handles) = filled();
    let stats = memory.reader().unwrap().stats();
    let table = stats.fixed_bytes as usize / 8 - (8 << BUCKETS_LOG2);
    let start = Instant::now();

    let tied = memory.copy();
    // Each bucket's first overflow bucket leads back to itself.
    let mut ties = 0;
    for bucket in 0..1 << BUCKETS_LOG2 {
        let link = (tied.word(table + bucket * 8 + 1).load(Ordering::Relaxed) >> 32) & 0x07ff_ffff;
        if link != 0 {
            tied.word(link as usize + 1).store(link << 32, Ordering::Relaxed);
            ties += 1;
        }
    }
    assert_eq!(ties, 1 << BUCKETS_LOG2);
    read(&tied.reader().unwrap(), &handles);
    let depot = Depot::builder().build_in(tied.as_private()).unwrap();
    exercise(&depot, &handles);
    // A stack that has no place in such a chain is not saved, and takes no more with it than its
    // own place: no bucket is added to what has no end.
    let (before, saves) = (depot.stats(), 100);
    for n in 0..saves {
        depot.save(&stack(10_000 + n, 20), GROW);
    }
    let after = depot.stats();
    assert!(after.full > before.full && after.corrupt > before.corrupt, "{after:?}");
    let taken = after.pool_used_bytes - before.pool_used_bytes;
    assert!(taken <= saves * 23 * 8, "{taken} bytes");
    assert_eq!(after.overflow_buckets, before.overflow_buckets);

    let broken = memory.copy();
    // Every free record follows itself, and the lists have no end.
    for class in 0..16 {
        let first = broken.word(64 + class * 4 + 2).load(Ordering::Relaxed);
        if first != 0 {
            broken.word(first as usize + 1).store(first, Ordering::Relaxed);
            broken.word(64 + class * 4).store(first, Ordering::Relaxed);
        }
    }
    exercise(&Depot::builder().build_in(broken.as_private()).unwrap(), &handles);
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

/// Random words, bits and pointers all over the region, before opening and while in use.
#[test]
fn random_corruption() {
    let (memory, handles) = filled();
    let words = BYTES as u64 / 8;
    let used = 64 + memory.reader().unwrap().stats().pool_used_bytes / 8 + (8 << BUCKETS_LOG2);
    let mut rng = Rng(11);
    let start = Instant::now();
    let mut opened = 0;
    for round in 0..1500 {
        if start.elapsed().as_secs() > 15 {
            break;
        }
        let broken = memory.copy();
        let mut scribble = |lowest: u64| {
            for _ in 0..1 + rng.below(30) {
                let at = lowest + rng.below(used - lowest);
                let word = broken.word(at as usize);
                match rng.below(6) {
                    0 => word.store(rng.next(), Ordering::Relaxed),
                    1 => word.store(rng.below(words + 8), Ordering::Relaxed),
                    2 => word.store(rng.below(words) << 32 | rng.below(words), Ordering::Relaxed),
                    3 => _ = word.fetch_xor(1 << rng.below(64), Ordering::Relaxed),
                    4 => word.store(0, Ordering::Relaxed),
                    _ => word.store(u64::MAX, Ordering::Relaxed),
                }
            }
        };
        // The marks at 8 and 9 included; in two rounds of three the header's first words stay, so
        // that there is something to open.
        scribble(if round % 3 == 0 { 0 } else { 8 });
        if let Ok(reader) = broken.reader() {
            read(&reader, &handles);
        }
        let Ok(depot) = Depot::builder().build_in(broken.as_private()) else { continue };
        opened += 1;
        exercise(&depot, &handles);
        scribble(0);
        exercise(&depot, &handles);
    }
    assert!(opened > 20, "{opened} regions could be opened");
}

#[test]
fn regions_that_are_no_good() {
    let memory = Mapping::private(1 << 16);
    for bytes in [0, 8, 64, 512, 1024] {
        // SAFETY: a part of the mapping.
        let region = unsafe { stackdepot::Region::private(memory.base(), bytes) };
        assert!(
            matches!(Depot::builder().build_in(region), Err(Error::TooSmall(_))),
            "{bytes} bytes"
        );
        // SAFETY: as above.
        assert!(unsafe { Reader::new(memory.base(), bytes) }.is_err());
    }
    // SAFETY: 8 bytes into the mapping.
    let off = unsafe { memory.base().add(8) };
    // SAFETY: the rest of the mapping.
    let region = unsafe { stackdepot::Region::private(off, 1 << 15) };
    assert!(matches!(Depot::builder().build_in(region), Err(Error::Misaligned)));
    assert!(
        matches!(memory.reader(), Err(Error::NotADepot)),
        "zeroed memory is no depot to a reader"
    );
}
