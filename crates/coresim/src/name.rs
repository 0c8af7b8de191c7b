//! Names for lines.

use crate::context;

/// The lines of this value are called so in the report of the simulation that runs.
///
/// ```
/// use coresim::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use coresim::{Machine, Simulation};
/// let (_, report) = Simulation::new(Machine::EPYC_2).run(|| {
///     let hits = AtomicU64::new(0);
///     coresim::name(&hits, "hits");
///     hits.fetch_add(1, Relaxed);
/// });
/// assert_eq!(report.line("hits").unwrap().counts.accesses, 1);
/// ```
pub fn name<T: ?Sized>(value: &T, name: &str) {
    let (from, len) = ((&raw const *value).addr(), size_of_val(value));
    context::with(|world| world.memory.name(from, len, name.to_owned()));
}
