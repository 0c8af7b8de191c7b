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
    /// The rows.
    pub rows: &'static [Row],
    /// Posted ratios over the whole of it: numerator, denominator and value of each.
    pub spans: &'static [Span],
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

const fn bare(scheme: &'static str) -> Row {
    Row { scheme, posted: &[] }
}

/// By what factor the ratio of neighbouring columns may differ from the posted one.
pub const NEIGHBOURS: f64 = 2.0;

/// All there are.
pub const TABLES: &[Table] = &[
    Table {
        name: "arm64",
        title: "free lists on 96 ARM64 cores, Mops/s",
        source: "kretprobe throughput with the two lists, posted with the first series",
        machine: "arm64-96",
        unit: Unit::Millions,
        // So that the array alone needs the 51.5 ns that were posted.
        work: 39_500,
        threads: &[1, 2, 4, 8, 16, 24, 48, 96, 192],
        rows: &[
            Row {
                scheme: "list, as posted",
                posted: &[17.2, 10.3, 8.1, 7.0, 5.1, 4.3, 3.4, 2.7, 2.7],
            },
            Row {
                // The posted value at 8 has lost a digit; 100 by its neighbours.
                scheme: "array, as posted",
                posted: &[19.4, 37.4, 56.4, 100.0, 209.9, 328.9, 632.8, 1277.9, 1169.1],
            },
            bare("CAS LIFO"),
            bare("flat array"),
            bare("ring array"),
            bare("per-CPU list"),
            bare("bitmap"),
            bare("default pool"),
        ],
        spans: &[Span {
            of: ("array, as posted", 96),
            to: ("list, as posted", 96),
            posted: 466.0,
            within: 3.0,
        }],
    },
    Table {
        name: "xeon",
        title: "free lists on a 20-thread Xeon, Mops/s",
        source: "kretprobe throughput with the two lists, posted with the first series",
        machine: "xeon-20",
        unit: Unit::Millions,
        // So that the array alone needs the 76 ns that were posted.
        work: 63_000,
        threads: &[1, 2, 4, 8, 10, 16, 20, 32, 40],
        rows: &[
            Row {
                scheme: "list, as posted",
                posted: &[13.1, 22.5, 32.8, 20.1, 18.5, 18.4, 19.0, 19.0, 19.0],
            },
            Row {
                scheme: "array, as posted",
                posted: &[13.1, 26.1, 47.4, 94.5, 115.9, 116.4, 125.7, 125.6, 125.7],
            },
            bare("CAS LIFO"),
            bare("flat array"),
            bare("ring array"),
            bare("per-CPU list"),
            bare("bitmap"),
            bare("default pool"),
        ],
        spans: &[],
    },
    Table {
        name: "readers",
        title: "enter + read + leave, ns of a CPU",
        source: "refscale, posted with the hazard pointers; the machine was not named",
        machine: "epyc",
        unit: Unit::Nanoseconds,
        work: 0,
        threads: &[1, 8, 32],
        rows: &[
            Row { scheme: "percpu_ref", posted: &[6.95, 10.1, 8.97] },
            Row { scheme: "rcu", posted: &[2.98, 3.24, 3.55] },
            Row { scheme: "hazptr", posted: &[8.60, 8.40, 8.58] },
            Row { scheme: "srcu", posted: &[16.8, 22.5, 20.2] },
        ],
        spans: &[],
    },
    Table {
        name: "two",
        title: "two CPUs of an EPYC, far apart, ns of a CPU",
        source: "measured: bench/results/2026-11-21-vm-{pool,refscale,depot}.txt, medians",
        machine: "epyc-2",
        unit: Unit::Nanoseconds,
        work: 0,
        threads: &[1, 2],
        rows: &[
            Row { scheme: "default pool", posted: &[6.10, 6.10] },
            Row { scheme: "bitmap", posted: &[9.33, 9.33] },
            Row { scheme: "per-CPU list", posted: &[8.56, 8.54] },
            Row { scheme: "ring array", posted: &[12.7, 14.1] },
            Row { scheme: "flat array", posted: &[9.44, 9.43] },
            Row { scheme: "CAS LIFO", posted: &[11.3, 352.0] },
            Row { scheme: "hazptr", posted: &[0.683, 0.683] },
            Row { scheme: "rcu", posted: &[0.863, 0.863] },
            Row { scheme: "srcu", posted: &[4.26, 4.26] },
            Row { scheme: "srcu-fast", posted: &[1.38, 1.38] },
            Row { scheme: "percpu_ref", posted: &[1.78, 1.78] },
            Row { scheme: "cached", posted: &[1.26, 1.26] },
            Row { scheme: "one count (Arc)", posted: &[3.95, 18.6] },
        ],
        spans: &[],
    },
    Table {
        name: "pools",
        title: "pop + write + push on EPYCs of 1 to 1,024 CPUs, ns of a CPU",
        source: "",
        machine: "epyc",
        unit: Unit::Nanoseconds,
        work: 0,
        threads: FAR,
        rows: &[
            bare("default pool"),
            bare("bitmap"),
            bare("flag array"),
            bare("per-CPU list"),
            bare("ring array"),
            bare("flat array"),
            bare("CAS LIFO"),
        ],
        spans: &[],
    },
    Table {
        name: "references",
        title: "enter + read + leave on EPYCs of 1 to 1,024 CPUs, ns of a CPU",
        source: "",
        machine: "epyc",
        unit: Unit::Nanoseconds,
        work: 0,
        threads: FAR,
        rows: &[
            bare("hazptr"),
            bare("rcu"),
            bare("srcu"),
            bare("srcu-fast"),
            bare("percpu_ref"),
            bare("cached"),
            bare("one count (Arc)"),
            bare("counts, packed"),
        ],
        spans: &[],
    },
    Table {
        name: "writers",
        title: "replace + retire, depot, on EPYCs of 1 to 1,024 CPUs, ns of a CPU",
        source: "",
        machine: "epyc",
        unit: Unit::Nanoseconds,
        work: 0,
        threads: FAR,
        rows: &[bare("hazptr, replace"), bare("depot, hits"), bare("depot, misses")],
        spans: &[],
    },
];

const FAR: &[usize] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

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
            for row in table.rows {
                assert!(schemes::scheme(row.scheme).is_some(), "{}", row.scheme);
                let columns = row.posted.len();
                assert!(columns == 0 || columns == table.threads.len(), "{}", row.scheme);
            }
        }
    }
}
