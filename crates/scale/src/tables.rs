//! The tables, and what was posted or measured of them.

use coresim::Picoseconds;

/// In what a table counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Millions of operations a second, all threads together.
    Millions,
    /// Nanoseconds of a CPU for an operation.
    Nanoseconds,
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// A name of [`SCHEMES`](crate::schemes::SCHEMES).
    pub scheme: &'static str,
    /// What was posted for each number of threads; 0 where nothing was. Empty: for none.
    pub posted: &'static [f64],
    /// Whether the machine's calibration was made so that these figures come out. Then they guard
    /// it, and say nothing about whether the model is right.
    pub fitted: bool,
}

impl Row {
    /// With figures that the calibration knows nothing of: they validate the model.
    const fn posted(scheme: &'static str, posted: &'static [f64]) -> Self {
        Self { scheme, posted, fitted: false }
    }

    /// With figures that the calibration was fitted to.
    const fn fitted(scheme: &'static str, posted: &'static [f64]) -> Self {
        Self { scheme, posted, fitted: true }
    }
}

/// A table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// On command lines.
    pub name: &'static str,
    /// Above it.
    pub title: &'static str,
    /// Where the posted figures come from. Empty: there are none.
    pub source: &'static str,
    /// A name of [`MACHINES`](crate::machines::MACHINES).
    pub machine: &'static str,
    /// In what it counts.
    pub unit: Unit,
    /// Work in each operation.
    pub work: Picoseconds,
    /// The columns.
    pub threads: &'static [usize],
    /// The rows with figures beside.
    pub posted: &'static [Row],
    /// Names of [`SCHEMES`](crate::schemes::SCHEMES): the rows without.
    pub others: &'static [&'static str],
    /// Posted ratios over the whole of it: numerator, denominator and value of each.
    pub spans: &'static [Span],
}

impl Table {
    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let bare = |scheme: &&'static str| Row { scheme, posted: &[], fitted: false };
        self.posted.iter().copied().chain(self.others.iter().map(bare))
    }
}

/// A ratio of two cells of a table that was posted.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The larger: scheme and threads.
    pub of: (&'static str, usize),
    /// The smaller.
    pub to: (&'static str, usize),
    /// What was posted.
    pub posted: f64,
    /// By what factor it may differ.
    pub within: f64,
}

/// By what factor the ratio of neighbouring columns may differ from the posted one.
pub const NEIGHBOURS: f64 = 2.0;

/// How far the cost at two CPUs may be from the measured one, as a part of it: see
/// [`predicted`](crate::Results::predicted).
pub const PREDICTED: f64 = 0.3;

/// What was posted with kretprobe's pools is throughput.
const THROUGHPUT: Table = Table {
    name: "",
    title: "",
    source: "kretprobe throughput with the two lists, posted with the first series",
    machine: "",
    unit: Unit::Millions,
    work: 0,
    threads: &[],
    posted: &[],
    others: &["CAS LIFO", "flat array", "ring array", "per-CPU list", "bitmap", "default pool"],
    spans: &[],
};

/// What nobody has measured: on machines that grow with the threads.
const FAR: Table = Table {
    source: "",
    machine: "epyc",
    unit: Unit::Nanoseconds,
    threads: &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024],
    ..THROUGHPUT
};

/// All there are.
pub const TABLES: &[Table] = &[
    Table {
        name: "arm64",
        title: "free lists on 96 ARM64 cores, Mops/s",
        machine: "arm64-96",
        // So that the array alone needs the 51.5 ns that were posted.
        work: 39_500,
        threads: &[1, 2, 4, 8, 16, 24, 48, 96, 192],
        posted: &[
            Row::fitted("list, as posted", &[17.2, 10.3, 8.1, 7.0, 5.1, 4.3, 3.4, 2.7, 2.7]),
            // The posted value at 8 has lost a digit; 100 by its neighbours.
            Row::posted(
                "array, as posted",
                &[19.4, 37.4, 56.4, 100.0, 209.9, 328.9, 632.8, 1277.9, 1169.1],
            ),
        ],
        spans: &[Span {
            of: ("array, as posted", 96),
            to: ("list, as posted", 96),
            posted: 466.0,
            within: 3.0,
        }],
        ..THROUGHPUT
    },
    Table {
        name: "xeon",
        title: "free lists on a 20-thread Xeon, Mops/s",
        machine: "xeon-20",
        // So that the array alone needs the 76 ns that were posted.
        work: 63_000,
        threads: &[1, 2, 4, 8, 10, 16, 20, 32, 40],
        posted: &[
            Row::fitted("list, as posted", &[13.1, 22.5, 32.8, 20.1, 18.5, 18.4, 19.0, 19.0, 19.0]),
            Row::posted(
                "array, as posted",
                &[13.1, 26.1, 47.4, 94.5, 115.9, 116.4, 125.7, 125.6, 125.7],
            ),
        ],
        ..THROUGHPUT
    },
    Table {
        name: "xeon48",
        title: "free list of kretprobe on the 48 cores of two Xeon 8260, Mops/s",
        source: "kretprobe throughput with the list, posted with the later series",
        machine: "xeon-48",
        // So that the list alone needs the 92 ns that were posted.
        work: 60_000,
        threads: &[1, 2, 4, 6, 8, 12, 16, 24, 32, 48],
        posted: &[Row::posted(
            "list, as posted",
            &[10.9, 18.1, 23.2, 13.2, 11.2, 11.0, 9.62, 8.48, 8.38, 6.77],
        )],
        others: &["array, as posted", "ring, as posted", "ring array", "default pool"],
        ..THROUGHPUT
    },
    Table {
        name: "ring",
        title: "the queues alone on the 48 cores of two Xeon 8260, Mops/s",
        source: "raw throughput of list and ring array, posted with the later series: counts in \
            millions, of a time that was not named",
        machine: "xeon-48",
        threads: &[1, 2, 4, 8, 16, 24, 32, 48],
        posted: &[
            Row::posted("list, as posted", &[237.9, 163.6, 33.0, 15.5, 10.6, 9.03, 7.97, 6.80]),
            Row::posted(
                "ring, as posted",
                &[234.8, 294.1, 585.3, 1164.2, 2334.9, 3508.9, 1106.8, 1101.4],
            ),
        ],
        others: &["ring array", "default pool"],
        ..THROUGHPUT
    },
    Table {
        name: "readers",
        title: "enter + read + leave, ns of a CPU",
        source: "refscale, posted with the hazard pointers; the machine was not named",
        threads: &[1, 8, 32],
        posted: &[
            Row::posted("percpu_ref", &[6.95, 10.1, 8.97]),
            Row::posted("rcu", &[2.98, 3.24, 3.55]),
            Row::posted("hazptr", &[8.60, 8.40, 8.58]),
            Row::posted("srcu", &[16.8, 22.5, 20.2]),
        ],
        others: &[],
        ..FAR
    },
    Table {
        name: "two",
        title: "two CPUs of an EPYC, far apart, ns of a CPU",
        source: "measured: bench/results/2026-11-21-vm-{pool,refscale,depot}.txt, medians",
        machine: "epyc-2",
        threads: &[1, 2],
        posted: &[
            Row::posted("default pool", &[6.10, 6.10]),
            Row::posted("bitmap", &[9.33, 9.33]),
            Row::posted("per-CPU list", &[8.56, 8.54]),
            Row::posted("ring array", &[12.7, 14.1]),
            Row::posted("flat array", &[9.44, 9.43]),
            Row::posted("CAS LIFO", &[11.3, 352.0]),
            Row::posted("hazptr", &[0.683, 0.683]),
            Row::posted("rcu", &[0.863, 0.863]),
            Row::posted("srcu", &[4.26, 4.26]),
            Row::posted("srcu-fast", &[1.38, 1.38]),
            Row::posted("percpu_ref", &[1.78, 1.78]),
            Row::posted("cached", &[1.26, 1.26]),
            Row::fitted("one count (Arc)", &[3.95, 18.6]),
        ],
        others: &[],
        ..FAR
    },
    Table {
        name: "pools",
        title: "pop + write + push on EPYCs of 1 to 1,024 CPUs, ns of a CPU",
        others: &[
            "default pool",
            "bitmap",
            "flag array",
            "per-CPU list",
            "ring array",
            "flat array",
            "CAS LIFO",
        ],
        ..FAR
    },
    Table {
        name: "references",
        title: "enter + read + leave on EPYCs of 1 to 1,024 CPUs, ns of a CPU",
        others: &[
            "hazptr",
            "rcu",
            "srcu",
            "srcu-fast",
            "percpu_ref",
            "cached",
            "one count (Arc)",
            "counts, packed",
        ],
        ..FAR
    },
    Table {
        name: "writers",
        title: "replace + retire, depot, on EPYCs of 1 to 1,024 CPUs, ns of a CPU",
        others: &["hazptr, replace", "depot, hits", "depot, misses"],
        ..FAR
    },
    Table {
        name: "http",
        title: "requests of 15 us that take 1, 4, 16 references to a configuration that is \
            replaced 100 times a second, on EPYCs, ns of a CPU",
        work: 15_000_000,
        threads: &[1, 2, 4, 8, 16, 32, 64, 128],
        others: &[
            "Arc in a lock, 1",
            "hazptr, 1",
            "rcu, 1",
            "srcu, 1",
            "percpu_ref, 1",
            "cached, 1",
            "Arc in a lock, 4",
            "hazptr, 4",
            "rcu, 4",
            "srcu, 4",
            "percpu_ref, 4",
            "cached, 4",
            "Arc in a lock, 16",
            "hazptr, 16",
            "rcu, 16",
            "srcu, 16",
            "percpu_ref, 16",
            "cached, 16",
        ],
        ..FAR
    },
    Table {
        name: "hits",
        title: "requests of 15 us that come by 64 counted functions, on EPYCs, ns of a CPU",
        work: 15_000_000,
        threads: &[1, 2, 4, 8, 16, 32, 64, 128],
        others: &["own block", "one block for all"],
        ..FAR
    },
    Table {
        name: "slots",
        title: "hits by breakpoint, 64 sites in turn, on EPYCs, ns of a CPU, 2.4 us of trap in it",
        work: 2_400_000,
        threads: &[1, 2, 4, 8, 16, 32, 64],
        others: &["slot per hit", "sticky slot", "cache in a thread", "permanent slot"],
        ..FAR
    },
];

/// The table of this name.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machines, schemes};

    #[test]
    fn tables_name_what_there_is() {
        for table in TABLES {
            assert!(machines::machine(table.machine).is_some(), "{}", table.machine);
            for row in table.rows() {
                assert!(schemes::scheme(row.scheme).is_some(), "{}", row.scheme);
                let columns = row.posted.len();
                assert!(columns == 0 || columns == table.threads.len(), "{}", row.scheme);
            }
        }
    }
}
