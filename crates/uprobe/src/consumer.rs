//! Functions that are called at a hit.

/// The consumers of one site: replaced as a whole, never changed; a reader holds an RCU section.
pub(crate) struct List {
    pub(crate) consumers: Vec<u32>,
}
