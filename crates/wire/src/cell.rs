//! The cell: what one thread has counted of one function.
//!
//! Only its thread writes it, with plain stores; anyone may read it while that goes on. Times are
//! ticks of the time-stamp counter.

/// Entries. Written first, so that a hit that never returns is counted.
pub const CALLS: usize = 0;
/// Returns seen. `CALLS - RETURNS - UNWOUND` are still running.
pub const RETURNS: usize = 8;
/// Ticks from entry to return, summed over the outermost calls: of a function that is active
/// already in the same thread, further calls are part of the one that is.
pub const TOTAL: usize = 16;
/// Ticks from entry to return, without those spent in timed functions that were called meanwhile,
/// summed over all calls.
pub const SELF: usize = 24;
/// The longest, in ticks.
pub const MAX: usize = 32;
/// Entries whose frames were left without a return (longjmp, an exception, a stack that was thrown
/// away).
pub const UNWOUND: usize = 40;
/// Entries that were counted but not timed, because no place was free to remember them.
pub const UNTIMED: usize = 48;
/// What the engine has last entered here: its own number, which means nothing to others.
pub const ACTIVE: usize = 56;
/// First bucket of the histogram of ticks.
pub const BUCKETS: usize = 64;

/// Bits of a value that choose the bucket inside its power of two.
pub const SUB_BITS: u32 = 3;
/// Values from this on land in the last bucket: 2^45 ticks are about three hours.
pub const LIMIT_LOG2: u32 = 45;
/// Buckets of a histogram.
pub const BUCKET_COUNT: usize = bucket((1 << LIMIT_LOG2) - 1) + 1;

/// Bytes of a cell that only counts.
pub const COUNT_BYTES: usize = 64;
/// Bytes of a cell with a histogram.
pub const TIMED_BYTES: usize = BUCKETS + BUCKET_COUNT * 8;

const _: () = assert!(
    BUCKET_COUNT == 344,
    "the assembly and the command line agree on the number of buckets"
);
const _: () = assert!(TIMED_BYTES.is_multiple_of(64), "cells are whole cache lines");

/// The bucket of `ticks`: exact below 8, then eight buckets for each power of two, each at most
/// 12.5 % wide.
pub const fn bucket(ticks: u64) -> usize {
    let ticks = if ticks >> LIMIT_LOG2 != 0 { (1 << LIMIT_LOG2) - 1 } else { ticks };
    if ticks < 1 << SUB_BITS {
        return ticks as usize;
    }
    let exponent = 63 - ticks.leading_zeros();
    let sub = (ticks >> (exponent - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    (((exponent - SUB_BITS + 1) << SUB_BITS) as u64 + sub) as usize
}

/// The ticks that land in `bucket`: the first, and the first that lands in the next.
pub const fn bounds(bucket: usize) -> (u64, u64) {
    let per = 1 << SUB_BITS;
    if bucket < per {
        return (bucket as u64, bucket as u64 + 1);
    }
    let shift = bucket / per - 1;
    let low = ((per + bucket % per) as u64) << shift;
    (low, low + (1 << shift))
}

#[cfg(test)]
mod tests {
    use super::{BUCKET_COUNT, LIMIT_LOG2, bounds, bucket};

    #[test]
    fn every_value_lies_within_the_bounds_of_its_bucket() {
        let mut value = 0_u64;
        while value < 1 << LIMIT_LOG2 {
            let (low, high) = bounds(bucket(value));
            assert!(low <= value && value < high, "{value}: {low}..{high}");
            value += 1 + value / 37;
        }
    }

    #[test]
    fn buckets_join_without_gap_and_the_last_takes_the_rest() {
        for b in 0..BUCKET_COUNT - 1 {
            assert_eq!(bounds(b).1, bounds(b + 1).0);
            assert_eq!((bucket(bounds(b).0), bucket(bounds(b).1 - 1)), (b, b));
        }
        assert_eq!(bucket(u64::MAX), BUCKET_COUNT - 1);
    }
}
