//! The engine of a process: what is armed, and the memory for it.

use crate::breakpoint::SlotPolicy;
use crate::hops::Hops;
use crate::near::Near;
use crate::text::Text;
use crate::trap_table::Traps;
use crate::{Hooks, Refusal, SetupError, consumer, sync_core, thread};
use core::ops::Range;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Choices for the whole process.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Where breakpoints' instructions run.
    pub policy: SlotPolicy,
    /// Whether instructions whose effect can be computed are, at a breakpoint, instead of running in a slot. Off for benchmarks of the slots.
    pub emulate: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { policy: SlotPolicy::default(), emulate: true }
    }
}

/// How code may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patching {
    /// No thread is in the functions or on its way there: the process has one thread, or the library is just being loaded.
    Quiet,
    /// Threads run.
    Live,
}

/// An armed site's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SiteId(pub(crate) u32);

/// The probe engine of this process.
///
/// # Context
/// Its methods allocate, take a lock and make system calls: they are for a thread that manages probes, not for consumers or signal handlers. A fork child may use it only if no other thread
/// of the parent was in one of these methods.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) near: Near,
    pub(crate) hops: Hops,
    pub(crate) traps: Traps,
    /// By address of the probed instruction.
    pub(crate) sites: BTreeMap<u64, Site>,
}

/// What was done to a site. Kept after removal, for its stub is: arming again only writes the patch.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) index: u32,
    /// Code of the action and its cell, or none for consumers.
    pub(crate) action: (u32, u32),
    pub(crate) original: Vec<u8>,
    pub(crate) patch: Vec<u8>,
    /// First byte of the stub, for a detour.
    pub(crate) stub: Option<u64>,
    pub(crate) armed: bool,
    /// Where, by what was found, the program branches to in the probe's window.
    pub(crate) landings: Box<[u64]>,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();

impl Engine {
    /// Sets the process up. A second call gives the same engine, with its first configuration.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn start(hooks: Hooks, config: Config) -> Result<&'static Self, SetupError> {
        thread::start(hooks)?;
        sync_core::available();
        Ok(ENGINE.get_or_init(|| Self { config, state: Mutex::default() }))
    }

    /// The engine, if it was started.
    pub fn get() -> Option<&'static Self> {
        ENGINE.get()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Disarms sites, all in one go. Hits that have begun go on; [`Engine::sync`] waits for consumers. Pending returns are still counted.
    ///
    /// # Errors
    /// [`Refusal::NotWritable`], [`Refusal::NoSyncCore`]: sites may be armed still.
    pub fn remove(&self, sites: &[SiteId], patching: Patching) -> Result<(), Refusal> {
        let mut state = self.lock();
        let wanted: Vec<u64> = state.sites.iter().filter(|(_, s)| s.armed && sites.contains(&SiteId(s.index))).map(|(at, _)| *at).collect();
        crate::live::restore(&mut state, &wanted, patching, &Text::open())
    }

    /// Waits until no removed consumer is running, nor can any start.
    ///
    /// # Context
    /// Blocks for a grace period. Not from a consumer.
    pub fn sync(&self) {
        consumer::sync();
    }

    /// The memory in `range` has been unmapped (a library was closed): its sites are dropped without being touched.
    pub fn forget(&self, range: Range<u64>) {
        let mut state = self.lock();
        let gone: Vec<u64> = state.sites.range(range).map(|(at, _)| *at).collect();
        for at in gone {
            if let Some(site) = state.sites.remove(&at) {
                (at..at + site.original.len() as u64).for_each(|a| state.traps.withdraw(a));
            }
        }
    }

    /// Addresses of the sites that are armed now.
    pub fn armed(&self) -> Vec<u64> {
        self.lock().sites.iter().filter(|(_, s)| s.armed).map(|(at, _)| *at).collect()
    }

    /// Memory for stubs and hops, in bytes.
    pub fn code_bytes(&self) -> u64 {
        let state = self.lock();
        state.near.bytes() + state.hops.bytes()
    }
}
