//! A set of CPUs.

use crate::machine::{Distance, MAX_CPUS, Machine};

const WORDS: usize = MAX_CPUS / 64;

/// A bit for each CPU.
#[derive(Clone, Debug, Default)]
pub(crate) struct CpuSet {
    words: [u64; WORDS],
    len: usize,
}

/// What a CPU has to know of the others in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Others {
    pub(crate) count: usize,
    pub(crate) nearest: Distance,
    pub(crate) farthest: Distance,
}

impl CpuSet {
    pub(crate) fn contains(&self, cpu: usize) -> bool {
        self.words[cpu / 64] & 1 << (cpu % 64) != 0
    }

    pub(crate) fn insert(&mut self, cpu: usize) {
        self.len += usize::from(!self.contains(cpu));
        self.words[cpu / 64] |= 1 << (cpu % 64);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All of the set but `cpu`. `None`: there are none.
    pub(crate) fn others(&self, machine: &Machine, cpu: usize) -> Option<Others> {
        let itself = usize::from(self.contains(cpu));
        let count = self.len - itself;
        if count == 0 {
            return None;
        }
        let near = self.count_around(cpu, machine.cluster) - itself;
        let within = self.count_around(cpu, machine.socket) - itself;
        let nearest = if near > 0 {
            Distance::Near
        } else if within > 0 {
            Distance::Far
        } else {
            Distance::Socket
        };
        let farthest = if within < count {
            Distance::Socket
        } else if near < count {
            Distance::Far
        } else {
            Distance::Near
        };
        Some(Others { count, nearest, farthest })
    }

    /// How many of the set are in the same group of `size` CPUs.
    fn count_around(&self, cpu: usize, size: usize) -> usize {
        let from = cpu / size * size;
        let to = (from + size).min(MAX_CPUS);
        (from / 64..to.div_ceil(64))
            .map(|word| {
                let above = if word == from / 64 { !0 << (from % 64) } else { !0 };
                let below = if to < (word + 1) * 64 { !(!0 << (to % 64)) } else { !0 };
                (self.words[word] & above & below).count_ones() as usize
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_a_search() {
        let machine = Machine { cluster: 24, socket: 48, ..Machine::ARM64_96 }.with_cpus(200);
        let mut random = crate::random::Random::new(1);
        for _ in 0..500 {
            let mut set = CpuSet::default();
            let here = random.below(200) as usize;
            let mut naive = Vec::new();
            for _ in 0..random.below(5) {
                let cpu = random.below(200) as usize;
                if cpu != here && !set.contains(cpu) {
                    naive.push(machine.distance(here, cpu));
                }
                set.insert(cpu);
            }
            let expected = naive.iter().min().zip(naive.iter().max()).map(|(nearest, farthest)| {
                Others { count: naive.len(), nearest: *nearest, farthest: *farthest }
            });
            assert_eq!(set.others(&machine, here), expected);
        }
    }

    #[test]
    fn a_set_counts_what_it_contains() {
        let mut set = CpuSet::default();
        for cpu in [0, 63, 64, 1023, 63] {
            set.insert(cpu);
        }
        assert!(set.contains(64) && !set.contains(62));
        assert_eq!(set.len(), 4);
        set.clear();
        assert_eq!(set.len(), 0);
    }
}
