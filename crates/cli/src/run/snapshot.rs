//! The counters at one moment.
#![allow(unsafe_code)]

use super::tables::Tables;
use crate::report::counters::Counters;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use wire::{Counts, Kind, Segment, Thread};

/// The counters of every function, by its index in the segment, summed over threads.
pub(crate) fn all(tables: &Tables) -> Vec<Counters> {
    let mut sums = vec![Counters::default(); tables.segment.functions_len()];
    each(tables, |_, function, counters| sums[function].add(&counters));
    sums
}

/// The counters of every thread: whose they are, and of which function. A thread is left out of functions that it never called.
pub(crate) fn by_thread(tables: &Tables) -> Vec<(Thread, usize, Counters)> {
    let mut found = Vec::new();
    let mut last: Option<(usize, Thread)> = None;
    each(tables, |block, function, counters| {
        if last.as_ref().is_none_or(|(known, _)| *known != block) {
            last = tables.segment.thread(block).map(|thread| (block, thread));
        }
        if let Some((_, thread)) = &last {
            found.push((thread.clone(), function, counters));
        }
    });
    found
}

/// Calls `see` with block, function and counters for all that is not zero.
fn each(tables: &Tables, mut see: impl FnMut(usize, usize, Counters)) {
    let segment = &tables.segment;
    // Where each function's cell lies, in the order of the file.
    let mut cells: Vec<(u64, usize, Kind)> = (0..segment.functions_len())
        .filter_map(|function| segment.function(function).map(|f| (u64::from(f.cell), function, f.kind)))
        .collect();
    cells.sort_unstable_by_key(|cell| cell.0);
    for block in 0..segment.blocks_len() {
        let Some(place) = place(segment, block) else { break };
        // Reading a hole of a file in shared memory fills it with a page. Holes are zeros: they are not read.
        for data in data(tables.file(), place.clone()) {
            let within = data.start - place.start..data.end - place.start;
            let from = cells.partition_point(|cell| cell.0 < within.start);
            for &(_, function, kind) in cells[from..].iter().take_while(|cell| cell.0 < within.end) {
                let mut counts = Counts::zero(kind == Kind::Time);
                segment.add_counts(block, function, &mut counts);
                if counts.calls > 0 {
                    see(block, function, Counters::from(counts));
                }
            }
        }
    }
}

impl From<Counts> for Counters {
    fn from(counts: Counts) -> Self {
        Self {
            calls: counts.calls,
            returns: counts.returns,
            total: counts.total,
            own: counts.self_ticks,
            max: counts.max,
            unwound: counts.unwound,
            untimed: counts.untimed,
            buckets: counts.buckets,
        }
    }
}

/// Where the cells of a block lie in the segment's file: blocks are its last part.
fn place(segment: &Segment, block: usize) -> Option<Range<u64>> {
    let (_, cells) = segment.cells(block)?;
    let bytes = cells + Segment::block_header();
    let start = segment.bytes().checked_sub((segment.shape().blocks - block).checked_mul(bytes)?)? + Segment::block_header();
    Some(start as u64..(start + cells) as u64)
}

/// The parts of `range` that are not holes, rounded as the file system does. All of it where it cannot tell.
fn data(file: &File, range: Range<u64>) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let Some(start) = seek(file, at, libc::SEEK_DATA) else {
            let nothing_more = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO);
            if !nothing_more {
                found.push(at..range.end);
            }
            break;
        };
        if start >= range.end {
            break;
        }
        let end = seek(file, start, libc::SEEK_HOLE).unwrap_or(range.end).min(range.end);
        if end <= start {
            break;
        }
        found.push(start..end);
        at = end;
    }
    found
}

fn seek(file: &File, from: u64, what: libc::c_int) -> Option<u64> {
    // SAFETY: the descriptor is the file's own; the call touches no memory. Nobody reads or writes at the file's position.
    let at = unsafe { libc::lseek(file.as_raw_fd(), from.cast_signed(), what) };
    u64::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::data;
    use std::os::unix::fs::FileExt;

    #[test]
    fn holes_are_left_out() {
        for directory in ["/dev/shm", "/tmp"] {
            let Ok(file) = tempfile::tempfile_in(directory) else { continue };
            file.set_len(1 << 30).unwrap();
            file.write_all_at(b"x", 123_456_789).unwrap();
            let found = data(&file, 4096..1 << 30);
            assert!(found.iter().any(|part| part.contains(&123_456_789)), "{found:?}");
            assert!(found.iter().map(|part| part.end - part.start).sum::<u64>() <= 1 << 20, "{directory}: {found:?}");
            assert_eq!(data(&file, 200_000_000..1 << 30), []);
            // A part that begins inside data.
            let inside = 123_456_790..123_456_791;
            assert_eq!(data(&file, inside.clone()), vec![inside; 1]);
        }
    }
}
