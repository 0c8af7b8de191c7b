//! Where everything is in a region.
//!
//! A region is an array of 64-bit words; all positions are word numbers, so it can be mapped
//! anywhere.
//!
//! ```text
//! word 0      header: identity, arena, counters, writer slots    64 words
//!      64     free lists: 4 words for each size class
//!      ...    bucket table: 8 words (one cache line) for each bucket
//!      ...    pools: records and overflow buckets, up to the end of the region
//! ```
//!
//! Everything after the header follows from four numbers in it (bucket count, depth, flavour,
//! size), which are checked when the region is opened and copied into the process then. They are
//! never read from the region again: who scribbles over the header later changes nothing here.

use crate::error::Error;
use crate::handle::LOC_BITS;

/// "TLDEPOT" and a nonzero byte, little endian.
pub(crate) const MAGIC: u64 = 0x0154_4f50_4544_4c54;
/// Written to the magic's place while a region is being initialised.
pub(crate) const CREATING: u64 = 0x0254_4f50_4544_4c54;
pub(crate) const VERSION: u32 = 2;

/// Header words.
pub(crate) mod head {
    pub(crate) const MAGIC: usize = 0;
    /// version:32 | flavour:8 | buckets_log2:8 | max_depth:16
    pub(crate) const SHAPE: usize = 1;
    /// Words of the region that the depot uses.
    pub(crate) const TOTAL: usize = 2;
    /// Words by which the pools grow.
    pub(crate) const POOL: usize = 3;
    /// First word never handed out. Grows only; by compare-and-swap of any writer.
    pub(crate) const NEXT: usize = 8;
    /// First word that no pool covers yet. Grows only; by compare-and-swap of any writer, after the
    /// memory is there.
    pub(crate) const GROWN: usize = 9;
    /// Counters, see `stats`.
    pub(crate) const COUNTERS: usize = 16;
    pub(crate) const COUNTER_WORDS: usize = 16;
    /// One word for each writer slot 1..=31: the process id that owns it, or 0.
    pub(crate) const WRITERS: usize = 32;
    pub(crate) const WORDS: usize = 64;
}

/// Processes that can write one region; a writer's slot is 1 to this.
pub(crate) const WRITER_SLOTS: u64 = 31;
/// Highest depth a record can have: its length is 8 bits.
pub(crate) const DEPTH_LIMIT: usize = 255;
pub(crate) const BUCKETS_LOG2_LIMIT: u32 = 22;
pub(crate) const BUCKET_WORDS: usize = 8;
/// A chain of buckets is at most so many times as long as if all words were overflow buckets and
/// evenly spread; and so many buckets longer.
const CHAIN_SHARES: usize = 16;
const CHAIN_LEAST: usize = 64;
/// Words of one size class in the free-list area.
pub(crate) const CLASS_WORDS: usize = 4;
/// Regions are used up to this size: handles cannot name more.
pub(crate) const TOTAL_LIMIT: usize = 1 << LOC_BITS;

const _: () = assert!(
    head::COUNTERS + head::COUNTER_WORDS <= head::WRITERS,
    "counters and writer slots are apart"
);
const _: () = assert!(
    head::WRITERS + 1 + WRITER_SLOTS as usize <= head::WORDS,
    "writer slots fit the header"
);

/// The numbers that a depot's layout follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) evicts: bool,
    pub(crate) buckets_log2: u32,
    pub(crate) max_depth: usize,
    /// Words in all.
    pub(crate) total: usize,
    /// Words by which the pools grow.
    pub(crate) pool: usize,
}

/// The layout of one depot: a shape that was checked, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    shape: Shape,
    /// First word of the bucket table.
    pub(crate) table: usize,
    /// First word of the pools.
    pub(crate) pools: usize,
    /// Number of the last bucket, times the words of one.
    pub(crate) bucket_mask: usize,
    /// No chain of a bucket and its overflow buckets is longer. Ends walks in a region that
    /// somebody tied into a loop, before they cost more than the save is worth.
    pub(crate) chain: usize,
}

impl core::ops::Deref for Layout {
    type Target = Shape;

    #[inline(always)]
    fn deref(&self) -> &Shape {
        &self.shape
    }
}

impl Layout {
    /// Checks the numbers, wherever they come from.
    pub(crate) fn new(shape: Shape) -> Result<Self, Error> {
        if shape.buckets_log2 > BUCKETS_LOG2_LIMIT {
            return Err(Error::BadSetting("buckets_log2"));
        }
        if !(1..=DEPTH_LIMIT).contains(&shape.max_depth) {
            return Err(Error::BadSetting("max_depth"));
        }
        let largest = record_words(shape.max_depth);
        if shape.pool < largest + BUCKET_WORDS || shape.pool > TOTAL_LIMIT {
            return Err(Error::BadSetting("pool_bytes"));
        }
        let classes = class_of(shape.max_depth) + 1;
        let table = (head::WORDS + classes * CLASS_WORDS).next_multiple_of(BUCKET_WORDS);
        let pools = table + (BUCKET_WORDS << shape.buckets_log2);
        let needed = pools + largest + BUCKET_WORDS;
        if shape.total < needed || shape.total > TOTAL_LIMIT {
            return Err(Error::TooSmall(needed * 8));
        }
        // Hashes are even: where buckets are many, no chain has many times its share.
        let share = (shape.total / BUCKET_WORDS) >> shape.buckets_log2;
        let chain = CHAIN_SHARES * share + CHAIN_LEAST;
        Ok(Self { shape, table, pools, bucket_mask: pools - table - BUCKET_WORDS, chain })
    }

    /// How many size classes there are.
    #[cfg(test)]
    pub(crate) fn classes(&self) -> usize {
        class_of(self.max_depth) + 1
    }

    /// First word of a size class's free list.
    pub(crate) fn class(&self, class: usize) -> usize {
        head::WORDS + class * CLASS_WORDS
    }

    pub(crate) fn buckets(&self) -> usize {
        1 << self.buckets_log2
    }

    /// The header's shape word.
    pub(crate) fn to_header(self) -> u64 {
        u64::from(VERSION) << 32
            | u64::from(self.evicts) << 24
            | u64::from(self.buckets_log2) << 16
            | self.max_depth as u64
    }

    /// Reads a header's numbers; `available` is the size of the region in words.
    pub(crate) fn from_header(
        shape: u64,
        total: u64,
        pool: u64,
        available: usize,
    ) -> Result<Self, Error> {
        let version = (shape >> 32) as u32;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let evicts = match shape >> 24 & 0xff {
            0 => false,
            1 => true,
            _ => return Err(Error::Corrupt("flavour")),
        };
        if total > available as u64 {
            return Err(Error::Corrupt("the header's size is larger than the region"));
        }
        let shape = Shape {
            evicts,
            buckets_log2: (shape >> 16 & 0xff) as u32,
            max_depth: (shape & 0xffff) as usize,
            total: total as usize,
            pool: usize::try_from(pool).unwrap_or(usize::MAX),
        };
        Layout::new(shape).map_err(|e| match e {
            Error::BadSetting(what) => Error::Corrupt(what),
            _ => Error::Corrupt("the header's parts do not fit into its size"),
        })
    }
}

/// The size class of a stack: two frames a step, so that 16 frames fit exactly and the average
/// record wastes 4 bytes.
#[inline(always)]
pub(crate) const fn class_of(depth: usize) -> usize {
    (depth - 1) / 2
}

/// Frames that a record of this class has room for. At least two, so that few sizes serve all.
pub(crate) const fn class_room(class: usize) -> usize {
    class * 2 + 2
}

/// Words of a record for `depth` frames: its head and the room of its class.
pub(crate) const fn record_words(depth: usize) -> usize {
    1 + class_room(class_of(depth))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new(Shape {
            evicts: true,
            buckets_log2: 4,
            max_depth: 64,
            total: 1 << 14,
            pool: 1 << 10,
        })
        .unwrap()
    }

    #[test]
    fn classes_cover_every_depth() {
        for depth in 1..=DEPTH_LIMIT {
            let room = class_room(class_of(depth));
            assert!(room >= depth && room - depth < 2, "{depth} frames in room for {room}");
        }
        assert_eq!(record_words(16) * 8, 136);
    }

    #[test]
    fn parts_do_not_overlap() {
        let l = layout();
        assert!(l.class(l.classes()) <= l.table);
        assert_eq!(l.table % BUCKET_WORDS, 0, "buckets are cache lines");
        assert!(l.pools < l.total);
    }

    #[test]
    fn header_round_trip() {
        let l = layout();
        assert_eq!(
            Layout::from_header(l.to_header(), l.total as u64, l.pool as u64, l.total),
            Ok(l)
        );
    }

    #[test]
    fn contradictory_headers_are_refused() {
        let l = layout();
        let shape = l.to_header();
        let (total, pool) = (l.total as u64, l.pool as u64);
        for (shape, total, pool, what) in [
            (shape & !(0xffff), total, pool, "depth 0"),
            (shape | 0xffff, total, pool, "depth 65535"),
            (shape | 0xff << 16, total, pool, "2^255 buckets"),
            (shape | 0xff << 24, total, pool, "flavour 255"),
            (shape ^ 1 << 32, total, pool, "other version"),
            (shape, total + 1, pool, "larger than the region"),
            (shape, u64::MAX, pool, "endless"),
            (shape, 0, pool, "nothing"),
            (shape, 300, pool, "no pools"),
            (shape, total, 0, "no growth"),
            (shape, total, u64::MAX, "endless pools"),
        ] {
            assert!(Layout::from_header(shape, total, pool, l.total).is_err(), "{what}");
        }
    }
}
