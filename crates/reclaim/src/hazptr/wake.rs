//! How a retiring thread wakes the helper of a domain.

use std::thread::Thread;

/// Protected by a hazard pointer like any other object, because retiring threads use it while the
/// helper may be stopped.
#[derive(Debug)]
pub(super) struct Wake {
    pub(super) thread: Thread,
}
