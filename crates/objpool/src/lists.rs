//! The free lists, one algorithm per file.

pub(crate) mod bitmap;
pub(crate) mod cas_lifo;
pub(crate) mod flag_array;
pub(crate) mod flat_array;
pub(crate) mod percpu_list;
pub(crate) mod ring_array;
pub(crate) mod rseq_lifo;
