//! The engine of a process: sets it up, disarms sites, and says what is armed.

use crate::looks::Looks;
use crate::outside::{self, Change};
use crate::sites::{LONGEST_WINDOW, Patching, Site, State, is_probe};
use crate::slots::SlotPolicy;
use crate::text::Text;
use crate::{Hooks, Refusal, SetupError, consumer, fork, live, site_table, sync_core};
use alloc::vec::Vec;
use core::mem;
use core::ops::Range;
use percpu::{Mutex, MutexGuard, OnceLock};

/// Choices for the whole process.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Where breakpoints' instructions run.
    pub policy: SlotPolicy,
    /// Whether instructions whose effect can be computed are, at a breakpoint, instead of running
    /// in a slot. Off for benchmarks of the slots.
    pub emulate: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { policy: SlotPolicy::default(), emulate: true }
    }
}

/// An armed site's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SiteId(pub(crate) u32);

/// The probe engine of this process.
///
/// # Context
/// Its methods allocate, take a lock and make system calls: they are for a thread that manages
/// probes, not for consumers or signal handlers. A fork child may use it only if no other thread of
/// the parent was in one of these methods.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) state: Mutex<State>,
    looks: Looks,
}

/// Whether these bytes stand at an address. One by one: they may change meanwhile, and a comparison
/// as a whole would call the C library, where it may be probed.
///
/// # Safety
/// The memory is mapped readable.
#[allow(unsafe_code)]
unsafe fn stands(bytes: &[u8], at: u64) -> bool {
    bytes.iter().enumerate().all(|(n, byte)| {
        let place = core::ptr::with_exposed_provenance::<u8>(at as usize + n);
        // SAFETY: the caller's. Volatile: others write there.
        let there = unsafe { place.read_volatile() };
        there == *byte
    })
}

impl State {
    /// Where these sites are, as far as they are armed, and the branches that are led past them.
    fn armed_of(&self, sites: &[SiteId]) -> Vec<u64> {
        let wanted = |site: &Site| site.armed && sites.contains(&SiteId(site.index));
        self.sites.iter().filter(|(_, s)| wanted(s)).map(|(at, _)| *at).collect()
    }
}

static ENGINE: OnceLock<Engine> = OnceLock::new();

impl Engine {
    /// Sets the process up. A second call gives the same engine, with its first configuration.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn start(hooks: Hooks, config: Config) -> Result<&'static Self, SetupError> {
        fork::start(hooks)?;
        sync_core::available();
        Ok(ENGINE.get_or_init(|| Self { config, state: Mutex::default(), looks: Looks::default() }))
    }

    /// The engine, if it was started.
    pub fn get() -> Option<&'static Self> {
        ENGINE.get()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Disarms sites, all in one go. Hits that have begun go on; [`Engine::sync`] waits for
    /// consumers. Returns that return instances wait for are still counted; of calls whose return
    /// would be seen at an exit nobody hears any more.
    ///
    /// # Errors
    /// [`Refusal::NotWritable`], [`Refusal::NoSyncCore`]: sites may be armed still.
    pub fn remove(&self, sites: &[SiteId], patching: Patching) -> Result<(), Refusal> {
        let mut state = self.lock();
        let wanted = state.armed_of(sites);
        live::restore(&mut state, &wanted, patching, &Text::open())
    }

    /// Disarms sites where somebody else writes code: what has to be written for it, all or
    /// nothing. They count as disarmed from now on. Until it is written, and where a thread has
    /// come by before, hits go on as before.
    ///
    /// What was not written after all ([`Batch::commit_outside`](crate::Batch::commit_outside) has
    /// the same promise) is taken back by arming the sites again, whose changes are then not
    /// written either.
    pub fn remove_outside(&self, sites: &[SiteId]) -> Vec<Change> {
        let mut state = self.lock();
        let wanted = state.armed_of(sites);
        outside::restore(&mut state, &wanted)
    }

    /// What [`Engine::remove_outside`] has handed out for these sites is written. Whatever was
    /// pending there counts as nothing any more, and their consumers are taken off: who comes by
    /// still is lost ([`Loss::Disabled`](crate::Loss::Disabled)).
    /// [`GracePeriod`](crate::GracePeriod) waits for those that run.
    pub fn removed_outside(&self, sites: &[SiteId]) {
        for site in sites.iter().map(|site| site_table::site(site.0)) {
            site.note_armed(false);
            consumer::remove_all(site);
        }
    }

    /// Every thread asks [`Hooks::thread_start`] for another block at its next hit. What it has
    /// begun to count until then goes into its old one, which has to stay mapped. No site is armed.
    ///
    /// # Context
    /// No system call.
    #[cfg(not(feature = "std"))]
    pub fn renew_blocks(&self) {
        crate::thread_state::renew();
    }

    /// Waits until no removed consumer is running, nor can any start.
    ///
    /// # Context
    /// Blocks for a grace period. Not from a consumer.
    pub fn sync(&self) {
        consumer::sync();
    }

    /// The memory in `range` has been unmapped (a library was closed): its sites are dropped
    /// without being touched.
    pub fn forget(&self, range: Range<u64>) {
        let mut state = self.lock();
        if state.sites.range(range.clone()).next().is_none() {
            return;
        }
        // All are put into a new map, but for these: taking one out of a map is much code, and in
        // an image bytes are few.
        for (at, site) in mem::take(&mut state.sites) {
            if range.contains(&at) {
                (at..at + site.original.len() as u64).for_each(|a| state.traps.withdraw(a));
            } else {
                state.sites.insert(at, site);
            }
        }
    }

    /// Addresses of the sites that are armed now.
    pub fn armed(&self) -> Vec<u64> {
        let probe = |s: &Site| s.armed && is_probe(s.action);
        self.lock().sites.iter().filter(|(_, s)| probe(s)).map(|(at, _)| *at).collect()
    }

    /// Tells `found` of the armed sites in a range at which something else stands by now: somebody
    /// has written over the probe (a program that patches itself, another tool), and nobody knows
    /// since when it counts nothing. There are none where somebody uses the engine at the moment,
    /// or in memory that was said to be hidden, and between [`Engine::keep_out`] and
    /// [`Engine::let_in`].
    ///
    /// # Safety
    /// What is armed in the range is mapped readable, unless it was hidden or forgotten.
    ///
    /// # Context
    /// No system call, no call of the C library; waits for nobody: also for a fork child of a
    /// process in which another thread used the engine.
    #[allow(unsafe_code)]
    pub unsafe fn overwritten(&self, range: Range<u64>, mut found: impl FnMut(SiteId)) {
        let Some(state) = self.state.try_lock() else { return };
        self.looks.begin(|| {
            for (at, site) in state.sites.range(range).filter(|(_, s)| s.armed && !s.hidden) {
                // SAFETY: the caller's; whoever takes memory away waits until we are done.
                if !unsafe { stands(&site.patch, *at) } {
                    found(SiteId(site.index));
                }
            }
        });
    }

    /// The memory in `range` may be gone, or unreadable, from now on. [`Engine::overwritten`] does
    /// not read it, and where that cannot be written down, nothing at all any more.
    ///
    /// # Context
    /// No system call; waits for a look of another thread.
    pub fn hide(&self, range: Range<u64>) {
        match self.state.try_lock() {
            Some(mut state) => {
                let start = range.start.saturating_sub(LONGEST_WINDOW);
                for (at, site) in state.sites.range_mut(start..range.end) {
                    site.hidden |= at + site.patch.len() as u64 > range.start;
                }
            }
            None => self.looks.end_for_good(),
        }
    }

    /// Memory with sites is about to go (a library is being closed), and [`Engine::forget`] will be
    /// told of it before [`Engine::let_in`]: nothing is read meanwhile. From one thread at a time.
    ///
    /// # Context
    /// As [`Engine::hide`].
    pub fn keep_out(&self) {
        self.looks.keep_out();
    }

    /// The end of what [`Engine::keep_out`] began.
    pub fn let_in(&self) {
        self.looks.let_in();
    }

    /// Memory for stubs and trampolines, in bytes.
    pub fn code_bytes(&self) -> u64 {
        let state = self.lock();
        state.near.bytes() + state.trampolines.bytes()
    }
}
