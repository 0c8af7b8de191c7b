//! What is asked of a round, and what came of it.

use super::block::{BY_BARRIERS, BY_DELETERS};
use super::owner::OwnerRef;
use crate::panics::Panics;

/// Which lists a round takes, and to which one its thread retires meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// All but that of barriers, which their callers see to.
    Ordinary,
    /// All. What its deleters retire goes to the list of barriers.
    Barrier,
    /// That of barriers alone; likewise.
    Follow,
}

impl Kind {
    pub(super) fn takes(self, list: usize) -> bool {
        match self {
            // In a fork child, whoever saw to it may not have come along.
            Self::Ordinary => list != BY_BARRIERS || percpu::fork::generation() > 1,
            Self::Barrier => true,
            Self::Follow => list == BY_BARRIERS,
        }
    }

    pub(super) fn shard(self) -> usize {
        if self == Self::Ordinary { BY_DELETERS } else { BY_BARRIERS }
    }
}

/// A round that is asked for, and what came of it besides the objects that it freed.
pub(super) struct Order {
    pub(super) kind: Kind,
    /// Look out for objects of this owner that the calling thread protects itself.
    pub(super) watched: Option<OwnerRef>,
    /// There was one.
    pub(super) is_self_protected: bool,
    pub(super) panics: Panics,
}

impl Order {
    pub(super) fn of(kind: Kind) -> Self {
        Self { kind, watched: None, is_self_protected: false, panics: Panics::none() }
    }
}
