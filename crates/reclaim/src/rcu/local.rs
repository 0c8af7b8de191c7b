//! The global domain, and how a thread finds its record in it.
//!
//! # The thread-local slot [`Key::Rcu`]
//! Null until the thread's first section and again after its exit function; else the address of the
//! thread's record, plus [`FENCELESS`] where `light()` is known to be a compiler fence. So one test
//! of one bit finds the record and saves the question which fence to use.
#![allow(unsafe_code)]

use super::domain::{Domain, Error, Guard};
use super::machine::Machine;
use super::reader::ReaderState;
use crate::callbacks::GracePeriods;
use crate::policy::{Asymmetric, Membarrier};
use core::ptr;
use percpu::fence::{self, Mode};
use percpu::tls::{self, Key};
use percpu::{Record, fork, thread};

#[cfg(not(loom))]
static GLOBAL: Domain = Domain::new();

// Not dropped: a model that fails, as the twins must, unwinds outside of the model, where loom's
// atomics may not be touched.
#[cfg(loom)]
loom::lazy_static! {
    static ref GLOBAL: core::mem::ManuallyDrop<Domain> =
        core::mem::ManuallyDrop::new(Domain::new());
}

impl Domain {
    /// The domain of the functions in [`crate::rcu`].
    #[inline(always)]
    pub fn global() -> &'static Self {
        &GLOBAL
    }
}

/// Begins a section of the global domain, which ends when the guard is dropped. Sections nest, in
/// any order of dropping.
///
/// # Context
/// Signal-safe, also over a thread that is inside this very function; wait-free but for a thread's
/// first call, which may make system calls (`mmap`). The process's first call should not come from
/// a handler: see [`percpu::init`].
///
/// # Panics
/// The kernel has no memory for this thread's record ([`register_thread`] reports that as an
/// error), or 65,535 sections are open in this thread.
///
/// # Examples
/// ```
/// let outer = reclaim::rcu::read_lock();
/// let inner = reclaim::rcu::read_lock();
/// drop(outer);
/// assert!(reclaim::rcu::is_inside());
/// drop(inner);
/// assert!(!reclaim::rcu::is_inside());
/// ```
#[inline(always)]
pub fn read_lock() -> Guard<'static> {
    Guard::of(enter())
}

/// [`read_lock`] without a guard, for code that cannot keep one.
///
/// # Context
/// As [`read_lock`].
#[inline(always)]
pub fn read_lock_raw() {
    enter();
}

/// Ends the section that [`read_lock_raw`] began.
///
/// # Context
/// Signal-safe, wait-free.
///
/// # Safety
/// The calling thread has begun a section with [`read_lock_raw`] that it has not ended, and uses
/// nothing any more that it read under it.
#[inline(always)]
pub unsafe fn read_unlock_raw() {
    if let Some(record) = existing() {
        record.leave();
    }
}

/// Whether the calling thread is inside a section of the global domain.
///
/// # Context
/// Signal-safe, wait-free.
#[inline]
pub fn is_inside() -> bool {
    existing().is_some_and(|r| r.is_inside())
}

/// Does now what the thread's first section would do.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub fn register_thread() -> Result<(), Error> {
    match existing() {
        Some(_) => Ok(()),
        None => register().map(drop),
    }
}

impl GracePeriods for Machine<Asymmetric> {
    fn start(&self) -> u64 {
        let cookie = self.cookie();
        self.want(cookie);
        cookie
    }

    fn poll(&self, cookie: u64) -> bool {
        Machine::poll(self, cookie)
    }

    fn register(&self) {
        ensure_registered();
    }

    fn is_registered(&self, thread: u64) -> bool {
        is_registered(thread)
    }
}

/// Best effort: without a record the thread can still run callbacks.
pub(crate) fn ensure_registered() {
    // Models register the threads that read.
    #[cfg(not(loom))]
    let _ = register_thread();
}

/// Whether a thread with this number has a record and exists in this process.
pub(crate) fn is_registered(thread: u64) -> bool {
    Domain::global().machine().readers().iter().any(|r| r.thread() == thread && r.is_alive())
}

/// Set in the slot of a thread of a process whose fences are `percpu::fence::Mode::Membarrier`,
/// which a process never leaves.
const FENCELESS: usize = 1;

const _: () = assert!(
    align_of::<Record<ReaderState>>() > FENCELESS,
    "a record's address leaves the bit free"
);

#[inline(always)]
fn enter() -> &'static Record<ReaderState> {
    match this_fenceless_thread() {
        Some(record) => {
            Domain::global().machine().enter_by::<Membarrier>(record);
            record
        }
        None => enter_slow(),
    }
}

/// This thread's record, if it has one and `percpu::fence::light` is a compiler fence.
#[inline(always)]
pub(crate) fn this_fenceless_thread() -> Option<&'static Record<ReaderState>> {
    let slot = tls::get(Key::Rcu);
    if slot.addr() & FENCELESS == 0 {
        return None;
    }
    let record = slot.wrapping_byte_sub(FENCELESS).cast::<Record<ReaderState>>();
    // SAFETY: a slot with the bit set holds the address, plus the bit, of a record of the global
    // domain, and those are never freed.
    Some(unsafe { &*record })
}

/// This thread's record; takes one if it has none.
#[cfg(feature = "alloc")]
pub(crate) fn this_thread() -> &'static Record<ReaderState> {
    existing().unwrap_or_else(register_or_panic)
}

/// The records of all threads that ever had one.
#[cfg(feature = "alloc")]
pub(crate) fn all_threads() -> impl Iterator<Item = &'static Record<ReaderState>> {
    Domain::global().machine().readers().iter()
}

#[cold]
#[inline(never)]
fn enter_slow() -> &'static Record<ReaderState> {
    let record = existing().unwrap_or_else(register_or_panic);
    Domain::global().machine().enter(record);
    record
}

#[cold]
fn register_or_panic() -> &'static Record<ReaderState> {
    match register() {
        Ok(record) => record,
        Err(e) => panic!("rcu: {e}"),
    }
}

#[inline(always)]
fn existing() -> Option<&'static Record<ReaderState>> {
    let record = tls::get(Key::Rcu).map_addr(|a| a & !FENCELESS).cast::<Record<ReaderState>>();
    // SAFETY: without the bit, the slot is null or holds a record of the global domain, and those
    // are never freed.
    unsafe { record.as_ref() }
}

fn register() -> Result<&'static Record<ReaderState>, Error> {
    adopt_orphans();
    // Without the exit function a thread's record, and a section that it leaked, would be for ever.
    if !tls::on_thread_exit(on_thread_exit) || !tls::arm_exit() {
        return Err(Error::OutOfMemory);
    }
    let record = Domain::global().acquire()?;
    // A signal handler may have registered the thread since. (If one does so after this look, its
    // record is overwritten in the slot, stays idle, and `on_thread_exit` finds it by the thread's
    // number.)
    if let Some(theirs) = existing() {
        give_back(record);
        return Ok(theirs);
    }
    let bit = if fence::mode() == Mode::Membarrier { FENCELESS } else { 0 };
    // SAFETY: the key is this module's, whose readers expect null or a record of the global domain.
    unsafe {
        tls::set(Key::Rcu, ptr::from_ref(record).cast_mut().cast::<()>().wrapping_byte_add(bit))
    };
    Ok(record)
}

fn give_back(record: &Record<ReaderState>) {
    record.reset();
    record.release();
}

/// In a fork child: frees the records of the threads that did not come along.
fn adopt_orphans() {
    if fork::generation() > 1 {
        Domain::global().machine().readers().iter().filter(|r| r.try_adopt()).for_each(give_back);
    }
}

/// Frees the thread's records. A section that is still open belongs to a leaked guard, or to the
/// destructor of some later key that runs in the next round of destructors (POSIX has up to four):
/// it gets that one round.
extern "C" fn on_thread_exit() {
    let Some(record) = existing() else { return };
    if record.is_inside() && !record.was_spared() {
        tls::arm_exit();
        return;
    }
    // SAFETY: the key is this module's; null is a thread without a record.
    unsafe { tls::set(Key::Rcu, ptr::null_mut()) };
    give_back_what_is_not_used();
}

/// Frees the calling thread's records but the one in its slot: a signal handler may have registered
/// the thread again since the slot was cleared, and goes on with that record (it has also asked for
/// another round of destructors). One that a handler takes from now on is a record that was free,
/// so never one that is given back here.
fn give_back_what_is_not_used() {
    let me = thread::id().get();
    let is_used =
        |record: &Record<ReaderState>| existing().is_some_and(|used| ptr::eq(used, record));
    Domain::global()
        .machine()
        .readers()
        .iter()
        .filter(|r| r.thread() == me && !is_used(r))
        .for_each(give_back);
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_a_handler_took_at_the_thread_s_end_stays_its() {
        let end = || {
            register().expect("memory");
            let first = existing().expect("registered");
            // The exit function has cleared the slot, and a handler comes in between.
            // SAFETY: null is a thread without a record.
            unsafe { tls::set(Key::Rcu, ptr::null_mut()) };
            let handlers: *const _ = register().expect("memory");
            give_back_what_is_not_used();
            assert!(!ptr::eq(first, handlers));
            let used = existing().expect("the handler's record is in the slot");
            assert!(
                ptr::eq(used, handlers) && used.is_alive() && used.thread() == thread::id().get()
            );
        };
        std::thread::spawn(end).join().expect("no panic");
    }

    #[test]
    fn a_thread_gives_its_record_back_and_a_later_one_takes_it() {
        let once =
            || std::thread::spawn(|| ptr::from_ref(this_thread()).addr()).join().expect("no panic");
        let records = || all_threads().count();
        once();
        let few = records();
        // Other tests of this process take and give back records meanwhile, but not a thousand.
        for _ in 0..1000 {
            once();
        }
        assert!(records() <= few + 100, "{few} -> {}", records());
    }
}
