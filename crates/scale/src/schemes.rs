//! What is run on the machines.

mod depot;
mod http;
mod pool;
mod posted;
mod probe;
mod readers;
mod writers;

use crate::held::{Cached, Counted, Hazptr, Rcu, Srcu};
use crate::load::Load;
use coresim::{Picoseconds, Throughput};
use http::Locked;
use objpool::{Bitmap, CasLifo, FlagArray, FlatArray, PerCpuList, RingArray, RseqLifo};
use reclaim::srcu::{Fast, Normal};

/// A way to do something, as a row of a table.
#[derive(Clone, Copy, Debug)]
pub struct Scheme {
    /// In tables, and on command lines.
    pub name: &'static str,
    /// Runs it for a span of time.
    pub run: fn(&Load<'_>) -> Throughput,
    /// The span that has all of it inside.
    pub shortest: Picoseconds,
}

/// The span that the first attempt of most takes.
const SHORT: Picoseconds = 1_000_000;

const fn of(name: &'static str, run: fn(&Load<'_>) -> Throughput) -> Scheme {
    Scheme { name, run, shortest: SHORT }
}

/// Of requests and traps, which take so long that few fit into a short span; with what comes now
/// and then, as the replacing of a configuration does.
const fn served(name: &'static str, run: fn(&Load<'_>) -> Throughput) -> Scheme {
    Scheme { name, run, shortest: http::SPAN }
}

/// All there are.
pub const SCHEMES: &[Scheme] = &[
    of("list, as posted", posted::list),
    of("array, as posted", posted::array),
    of("ring, as posted", posted::ring),
    of("CAS LIFO", pool::run::<CasLifo>),
    of("flat array", pool::run::<FlatArray>),
    of("ring array", pool::run::<RingArray>),
    of("per-CPU list", pool::run::<PerCpuList>),
    of("bitmap", pool::run::<Bitmap>),
    of("flag array", pool::run::<FlagArray>),
    of("default pool", pool::run::<RseqLifo>),
    of("hazptr", readers::hazptr),
    of("hazptr, replace", writers::hazptr),
    of("rcu", readers::rcu),
    of("srcu", readers::srcu::<Normal>),
    of("srcu-fast", readers::srcu::<Fast>),
    of("percpu_ref", readers::percpu_ref),
    of("cached", readers::cached),
    of("one count (Arc)", readers::one_count),
    of("counts, packed", readers::packed_counts),
    of("depot, hits", depot::hits),
    of("depot, misses", depot::misses),
    served("Arc in a lock, 1", http::run::<Locked, 1>),
    served("hazptr, 1", http::run::<Hazptr<_>, 1>),
    served("rcu, 1", http::run::<Rcu<_>, 1>),
    served("srcu, 1", http::run::<Srcu<_>, 1>),
    served("percpu_ref, 1", http::run::<Counted<_>, 1>),
    served("cached, 1", http::run::<Cached<_>, 1>),
    served("Arc in a lock, 4", http::run::<Locked, 4>),
    served("hazptr, 4", http::run::<Hazptr<_>, 4>),
    served("rcu, 4", http::run::<Rcu<_>, 4>),
    served("srcu, 4", http::run::<Srcu<_>, 4>),
    served("percpu_ref, 4", http::run::<Counted<_>, 4>),
    served("cached, 4", http::run::<Cached<_>, 4>),
    served("Arc in a lock, 16", http::run::<Locked, 16>),
    served("hazptr, 16", http::run::<Hazptr<_>, 16>),
    served("rcu, 16", http::run::<Rcu<_>, 16>),
    served("srcu, 16", http::run::<Srcu<_>, 16>),
    served("percpu_ref, 16", http::run::<Counted<_>, 16>),
    served("cached, 16", http::run::<Cached<_>, 16>),
    served("own block", probe::in_blocks),
    served("one block for all", probe::in_one_block),
    served("slot per hit", probe::per_hit),
    served("sticky slot", probe::sticky),
    served("cache in a thread", probe::cache),
    served("permanent slot", probe::permanent),
];

/// The scheme of this name.
pub fn scheme(name: &str) -> Option<&'static Scheme> {
    SCHEMES.iter().find(|scheme| scheme.name == name)
}
