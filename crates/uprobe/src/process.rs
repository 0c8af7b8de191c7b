//! What a process that is probed has one of. Filled by [`thread::start`](crate::thread).

use crate::recorder::Hooks;
use crate::thread_state::State;
use objpool::DefaultPool;
use percpu::{OnceLock, Registry};

/// What the process has one of.
pub(crate) struct Global {
    pub(crate) hooks: Hooks,
    pub(crate) threads: Registry<State>,
    pub(crate) pool: DefaultPool,
    /// Whether the code half is mapped.
    pub(crate) returns: bool,
}

pub(crate) static GLOBAL: OnceLock<Global> = OnceLock::new();

/// It, once hits can happen.
pub(crate) fn global() -> Option<&'static Global> {
    GLOBAL.get()
}

/// Whether return probes can be made here.
pub(crate) fn has_returns() -> bool {
    global().is_some_and(|g| g.returns)
}
