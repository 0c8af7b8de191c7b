//! A call stack as gdb and recordings both have it, and how often each was met.

use std::collections::BTreeMap;
use std::fmt;

/// A place in code that does not depend on where its file was loaded.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The file's name; empty for code that belongs to no file.
    pub(crate) file: String,
    /// The address as the file's symbols have it.
    pub(crate) address: u64,
    /// Whether the instruction itself is meant: the innermost frame's, or one that a signal has
    /// interrupted. All others are return addresses.
    pub(crate) exact: bool,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}+{:#x}{}",
            self.file,
            self.address,
            if self.exact { "" } else { " (return address)" }
        )
    }
}

/// Innermost first.
pub(crate) type Stack = Vec<Place>;

/// How often each stack was met.
pub(crate) type Stacks = BTreeMap<Stack, u64>;

/// How often all of them were.
pub(crate) fn sum(stacks: &Stacks) -> u64 {
    stacks.values().sum()
}
