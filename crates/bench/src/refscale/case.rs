//! What is measured: so many readers, or so many writers.

use crate::harness::Case;

/// Readers at work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readers(pub(super) usize);

impl Case for Readers {
    fn threads(&self) -> usize {
        self.0
    }

    fn title(&self) -> String {
        format!("enter + read + leave, {} reader{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// Writers at work, each on a pointer of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writers(pub(super) usize);

impl Case for Writers {
    fn threads(&self) -> usize {
        self.0
    }

    fn title(&self) -> String {
        format!(
            "allocate + publish + retire + reclaim per object, {} writer{}",
            self.0,
            if self.0 == 1 { "" } else { "s" }
        )
    }
}
