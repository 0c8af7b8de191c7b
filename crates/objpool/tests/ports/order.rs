//! Which object comes next: what the page of the crate says of each list's order, on one CPU, and a
//! list against a plain set of numbers for any mix of pops and pushes.
//!
//! What crossbeam's queue tests check as "smoke" and "linearizable", and the kernel's freelist and
//! objpool promise (LIFO and FIFO per CPU).

use crate::common::{ALL, Kind, Owned, Random, check_full, give, pin, take};
use std::ptr::NonNull;

const CAPACITY: usize = 24;

/// Pops `n`, on one CPU.
fn pops(pool: &dyn objpool::Pool, n: usize) -> Vec<Owned> {
    (0..n).map(|_| take(pool, 1).expect("free")).collect()
}

fn addresses(all: &[Owned]) -> Vec<NonNull<u8>> {
    all.iter().map(Owned::address).collect()
}

/// The last pushed is the next popped, for as many as lie in one CPU's own part.
fn last_in_first_out(kind: Kind, depth: usize) {
    let pool = kind.pool(CAPACITY, 16);
    let mut all = pops(&*pool, CAPACITY);
    for _ in 0..5 {
        all.reverse();
        let pushed = addresses(&all[..depth]);
        all.drain(..depth).for_each(|owned| give(&*pool, owned));
        let again = pops(&*pool, depth);
        assert!(addresses(&again).into_iter().rev().eq(pushed), "{kind:?}");
        all.extend(again);
    }
    all.into_iter().for_each(|owned| give(&*pool, owned));
    check_full(&*pool);
}

#[test]
fn lists_are_last_in_first_out() {
    pin(0);
    last_in_first_out(Kind::CasLifo, CAPACITY);
    last_in_first_out(Kind::PerCpuList, CAPACITY);
    // At least one lies in a private list, whatever the number of CPUs. (Without rseq the hint
    // knows one.)
    last_in_first_out(Kind::Default, 1);
    last_in_first_out(Kind::DefaultWithoutRseq, 1);
    last_in_first_out(Kind::FlagArray, 1);
}

#[test]
fn rings_are_first_in_first_out() {
    pin(0);
    let kind = Kind::RingArray;
    let pool = kind.pool(CAPACITY, 16);
    // Nothing is left that would come first, here or elsewhere.
    let mut all = pops(&*pool, CAPACITY);
    let mut random = Random::new(3);
    // A share, which a ring can hold twice over.
    let share = CAPACITY.div_ceil(
        std::fs::read_to_string("/sys/devices/system/cpu/possible")
            .ok()
            .and_then(|text| text.trim().rsplit(['-', ',']).next()?.parse::<usize>().ok())
            .map_or(1, |last| last + 1),
    );
    for _ in 0..50 {
        let n = 1 + random.below(share as u64) as usize;
        let pushed = addresses(&all[..n]);
        all.drain(..n).for_each(|owned| give(&*pool, owned));
        let again = pops(&*pool, n);
        assert_eq!(addresses(&again), pushed);
        all.extend(again);
    }
    all.into_iter().for_each(|owned| give(&*pool, owned));
    check_full(&*pool);
}

#[test]
fn bitmaps_give_the_lowest_number() {
    pin(0);
    let pool = Kind::Bitmap.pool(CAPACITY, 16);
    for _ in 0..3 {
        let all = pops(&*pool, CAPACITY);
        // Upwards from this CPU's first object, around.
        let given = addresses(&all);
        let lowest = given.iter().enumerate().min_by_key(|(_, address)| **address);
        let mut sorted = given.clone();
        sorted.sort_unstable();
        sorted.rotate_right(lowest.expect("there are some").0);
        assert_eq!(given, sorted);
        all.into_iter().rev().for_each(|owned| give(&*pool, owned));
        check_full(&*pool);
    }
}

/// Any mix of pops and pushes, in any order, by one thread: a list is a set of free objects. What a
/// pop gives was free, and it gives nothing exactly when nothing is.
#[test]
fn a_list_is_a_set() {
    for kind in ALL {
        for capacity in [1usize, 2, 5, 33, 200] {
            let pool = kind.pool(capacity, 16);
            let mut random = Random::new(capacity as u64);
            let mut out: Vec<Owned> = Vec::new();
            let (mut hits, mut misses) = (0, 0);
            for step in 0..4000 {
                // Drift: mostly empty, then mostly full, so that both ends are met.
                let pop = random.below(100) < if step / 500 % 2 == 0 { 65 } else { 35 };
                if pop {
                    match take(&*pool, 1) {
                        Some(owned) => {
                            hits += 1;
                            out.push(owned);
                        }
                        None => {
                            misses += 1;
                            assert_eq!(out.len(), capacity, "{kind:?}: None with a free object");
                        }
                    }
                } else if !out.is_empty() {
                    let which = random.below(out.len() as u64) as usize;
                    give(&*pool, out.swap_remove(which));
                }
                let s = pool.statistics();
                assert_eq!((s.hits, s.misses, s.in_use), (hits, misses, out.len()), "{kind:?}");
            }
            assert!(misses > 0 || capacity > 100, "{kind:?} {capacity}: the empty end was met");
            out.into_iter().for_each(|owned| give(&*pool, owned));
            check_full(&*pool);
        }
    }
}
