//! Contenders and the cases they are measured in.

use super::meter::Job;
use serde::Serialize;

/// What a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The least the hardware allows, or the cost of the loop itself: not a contender.
    Floor,
    /// What people use today.
    Peer,
    /// A trapline implementation.
    Ours,
}

impl Role {
    /// The role as the tables print it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Peer => "peer",
            Self::Ours => "ours",
        }
    }
}

/// One setting in which all contenders are measured.
pub trait Case: Sync {
    /// Threads that work at once.
    fn threads(&self) -> usize;
    /// One line over the group's table.
    fn title(&self) -> String;
}

type Factory<C> = Box<dyn Fn(&C) -> Option<Job>>;

/// A contender.
pub struct Entry<C> {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) make: Result<Factory<C>, String>,
}

impl<C> Entry<C> {
    /// A contender whose `make` builds shared state for one measurement and returns what each
    /// thread does with it; `None`: does not apply to this case.
    pub fn new(name: &str, role: Role, make: impl Fn(&C) -> Option<Job> + 'static) -> Self {
        Self { name: name.to_owned(), role, make: Ok(Box::new(make)) }
    }

    /// A contender that cannot run here. Its row says why, so that nobody mistakes a gap for a
    /// result.
    pub fn absent(name: &str, role: Role, why: &str) -> Self {
        Self { name: name.to_owned(), role, make: Err(why.to_owned()) }
    }

    /// The name in the tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the row is for.
    pub fn role(&self) -> Role {
        self.role
    }
}
