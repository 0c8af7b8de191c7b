//! What ended threads have counted, where the counts of threads are kept apart (`--per-thread`),
//! once it is taken out of their blocks (`tend`).

use crate::model::counters::Counters;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use wire::Thread;

/// Threads that are remembered one by one. Those that come later are one row together, which says
/// how many they are.
const MOST: usize = 1 << 14;
/// Functions of threads that are; the same.
const MOST_CELLS: usize = 1 << 19;

/// Counts of ended threads.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    threads: Vec<(Thread, Vec<(usize, Packed)>)>,
    cells: usize,
    /// All others.
    others: Option<(Thread, BTreeMap<usize, Counters>)>,
}

impl Ended {
    /// Adds a thread, and what it counted of which function.
    pub(super) fn add(&mut self, thread: Thread, counted: Vec<(usize, Counters)>) {
        if self.threads.len() < MOST && self.cells + counted.len() <= MOST_CELLS {
            self.cells += counted.len();
            let packed = counted
                .into_iter()
                .map(|(function, counters)| (function, Packed::from(counters)))
                .collect();
            self.threads.push((thread, packed));
            return;
        }
        let name = String::from("(others)");
        let nobody =
            || (Thread { pid: 0, tid: 0, threads: 0, name, running: false }, BTreeMap::new());
        let (all, sums) = self.others.get_or_insert_with(nobody);
        all.threads = all.threads.saturating_add(thread.threads);
        for (function, counters) in counted {
            match sums.entry(function) {
                Entry::Occupied(sum) => sum.into_mut().add(&counters),
                Entry::Vacant(place) => _ = place.insert(counters),
            }
        }
    }

    /// Calls `see` with thread, function and counters.
    pub(super) fn each(&self, mut see: impl FnMut(&Thread, usize, Counters)) {
        for (thread, counted) in &self.threads {
            counted.iter().for_each(|(function, packed)| see(thread, *function, packed.counters()));
        }
        if let Some((thread, sums)) = &self.others {
            sums.iter().for_each(|(function, counters)| see(thread, *function, counters.clone()));
        }
    }
}

/// Counters without the empty part of their histogram.
#[derive(Debug)]
struct Packed {
    counters: Counters,
    len: usize,
    filled: Box<[(u16, u64)]>,
}

impl From<Counters> for Packed {
    fn from(mut counters: Counters) -> Self {
        let buckets = std::mem::take(&mut counters.buckets);
        let filled = buckets
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
            .map(|(at, n)| (at as u16, *n))
            .collect();
        Self { counters, len: buckets.len(), filled }
    }
}

impl Packed {
    fn counters(&self) -> Counters {
        let mut buckets = vec![0; self.len];
        self.filled.iter().for_each(|(at, n)| buckets[usize::from(*at)] = *n);
        Counters { buckets, ..self.counters.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ended, MOST};
    use crate::model::counters::Counters;
    use wire::Thread;

    #[test]
    fn no_count_is_lost_however_many_threads_there_were() {
        let mut ended = Ended::default();
        let counters = Counters {
            calls: 3,
            total: 7,
            max: 5,
            buckets: vec![0, 2, 0, 1],
            ..Counters::default()
        };
        let thread = |tid| Thread { pid: 1, tid, threads: 1, name: String::new(), running: false };
        let all = MOST as u32 + 100;
        (0..all).for_each(|tid| ended.add(thread(tid), vec![(4, counters.clone())]));
        let (mut rows, mut sum, mut threads) = (0, Counters::default(), 0);
        ended.each(|thread, function, counters| {
            assert_eq!(function, 4);
            (rows, threads) = (rows + 1, threads + thread.threads);
            sum.add(&counters);
        });
        assert_eq!((rows, threads), (MOST + 1, all));
        assert_eq!(
            (sum.calls, sum.max, sum.buckets),
            (3 * u64::from(all), 5, vec![0, 2 * u64::from(all), 0, u64::from(all)])
        );
    }
}
