//! What is run on the machines.

mod depot;
mod pool;
mod posted;
mod readers;
mod writers;

use crate::load::Load;
use coresim::{Picoseconds, Simulation, Throughput};
use objpool::{Bitmap, CasLifo, FlagArray, FlatArray, PerCpuList, RingArray, RseqLifo};
use reclaim::srcu::{Fast, Normal};

/// A way to do something, as a row of a table.
#[derive(Clone, Copy, Debug)]
pub struct Scheme {
    /// In tables, and on command lines.
    pub name: &'static str,
    /// Runs it for a span of time.
    pub run: fn(&Simulation, &Load, Picoseconds) -> Throughput,
}

/// All there are.
pub const SCHEMES: &[Scheme] = &[
    Scheme { name: "list, as posted", run: posted::list },
    Scheme { name: "array, as posted", run: posted::array },
    Scheme { name: "CAS LIFO", run: pool::run::<CasLifo> },
    Scheme { name: "flat array", run: pool::run::<FlatArray> },
    Scheme { name: "ring array", run: pool::run::<RingArray> },
    Scheme { name: "per-CPU list", run: pool::run::<PerCpuList> },
    Scheme { name: "bitmap", run: pool::run::<Bitmap> },
    Scheme { name: "flag array", run: pool::run::<FlagArray> },
    Scheme { name: "default pool", run: pool::run::<RseqLifo> },
    Scheme { name: "hazptr", run: readers::hazptr },
    Scheme { name: "hazptr, replace", run: writers::hazptr },
    Scheme { name: "rcu", run: readers::rcu },
    Scheme { name: "srcu", run: readers::srcu::<Normal> },
    Scheme { name: "srcu-fast", run: readers::srcu::<Fast> },
    Scheme { name: "percpu_ref", run: readers::percpu_ref },
    Scheme { name: "cached", run: readers::cached },
    Scheme { name: "one count (Arc)", run: readers::one_count },
    Scheme { name: "counts, packed", run: readers::packed_counts },
    Scheme { name: "depot, hits", run: depot::hits },
    Scheme { name: "depot, misses", run: depot::misses },
];

/// The scheme of this name.
pub fn scheme(name: &str) -> Option<&'static Scheme> {
    SCHEMES.iter().find(|scheme| scheme.name == name)
}
