//! A thread's cell of cache entries.
#![allow(unsafe_code)]

use super::cells::{CELLS, Cell, adopt_after_fork, settle_cell, settle_entry};
use super::count::Owed;
use super::entry::{Entry, Touch};
use super::object::{Dead, Header, is_limbo_empty};
use crate::asymmetric::{Asymmetric, Fences};
use crate::panics::Panics;
use core::ptr::{self, NonNull};
use percpu::Record;
use percpu::tls::{self, Key};

/// Set in the thread-local pointer where `light()` has to be a full fence: one signed comparison
/// tells a cell that can be used with a compiler fence from none and from one in that other mode.
const SYMMETRIC: usize = 1 << (usize::BITS - 1);

/// Adds to this thread's delta if it has the object cached. The fast way, inlined into `clone` and
/// `drop`; `missed` and `marked` are the other two outcomes of [`Entry::touch`], as functions
/// because to pass on which of them it was would cost the fast way a register.
#[inline(always)]
pub(super) fn touch(
    header: NonNull<Header>,
    by: i64,
    missed: fn(NonNull<Header>),
    marked: fn(NonNull<Header>),
) {
    let object = header.as_ptr().expose_provenance();
    let cell = tls::get(Key::CachedRef).cast::<Record<Cell>>();
    if (cell.addr() as isize) <= 0 {
        return missed(header);
    }
    // SAFETY: neither null nor marked, so set by `make_cell` to a record of a static registry.
    let cell = unsafe { &*cell };
    match cell.entry(object).touch(object, by, Asymmetric::COMPILER) {
        Touch::Done => {}
        Touch::Missed => missed(header),
        Touch::Marked => marked(header),
    }
}

/// After a touch by one more that is in the delta of an entry that was marked meanwhile.
#[cold]
#[inline(never)]
pub(super) fn get_marked(header: NonNull<Header>) {
    if let Some(cell) = own() {
        // It is not the object's end: the caller has a reference. `leave` all the same, so that it
        // can be seen here that no clone runs user code.
        let mut dead = Dead::default();
        settle_entry(cell.entry(header.as_ptr().expose_provenance()), &mut dead);
        dead.leave();
    }
}

/// The same by one less.
#[cold]
#[inline(never)]
pub(super) fn put_marked(header: NonNull<Header>) {
    let mut dead = Dead::from_limbo();
    if let Some(cell) = own() {
        settle_entry(cell.entry(header.as_ptr().expose_provenance()), &mut dead);
    }
}

/// One more reference, where [`touch`] could not count it.
#[cold]
#[inline(never)]
pub(super) fn get_missed(header: NonNull<Header>) {
    let object = header.as_ptr().expose_provenance();
    // SAFETY: the caller has a reference.
    let header = unsafe { header.as_ref() };
    if !get_in_entry(header, object) {
        let _alive = header.count.add(0, 1);
    }
}

/// Counts one more reference in this thread's entry, if it can have one. Runs no user code.
fn get_in_entry(header: &Header, object: usize) -> bool {
    let Some(cell) = cell() else { return false };
    let entry = cell.entry(object);
    match retouch(entry, object, 1) {
        Touch::Done => return true,
        Touch::Marked => {
            get_marked(NonNull::from(header));
            return true;
        }
        Touch::Missed => {}
    }
    if entry.holds(object) {
        // Marked, or the touch would have been done.
        get_marked(NonNull::from(header));
    }
    // If nobody has freed what an earlier clone has left, this one leaves nothing: its reference
    // goes to the shared word, and when it is given back there, limbo is emptied.
    if !header.is_cacheable() || !is_limbo_empty() {
        return false;
    }
    let mut dead = Dead::default();
    settle_entry(entry, &mut dead);
    if !dead.is_empty() {
        dead.leave();
        return false;
    }
    let _alive = header.count.add(1, 0);
    entry.fill(object, 1);
    // Pairs with `heavy()` in `set_caching`: either that finds the entry, or we find caching
    // switched off.
    Asymmetric::new().light();
    if !header.is_cacheable() {
        get_marked(NonNull::from(header));
    }
    true
}

/// One reference less, where [`touch`] could not count it.
#[cold]
#[inline(never)]
pub(super) fn put_missed(header: NonNull<Header>) {
    let object = header.as_ptr().expose_provenance();
    let mut dead = Dead::from_limbo();
    if let Some(cell) = own() {
        let entry = cell.entry(object);
        match retouch(entry, object, -1) {
            Touch::Done => return,
            Touch::Marked => return settle_entry(entry, &mut dead),
            Touch::Missed if entry.is_marked() => settle_entry(entry, &mut dead),
            Touch::Missed => {}
        }
    }
    dead.settle(Owed { object, users: 0, refs: -1 });
}

/// Where `light()` is a full fence, the fast way was not even tried.
fn retouch(entry: &Entry, object: usize, by: i64) -> Touch {
    let fences = Asymmetric::new();
    if fences.is_symmetric() { entry.touch(object, by, fences) } else { Touch::Missed }
}

fn own() -> Option<&'static Record<Cell>> {
    let cell = tls::get(Key::CachedRef).map_addr(|a| a & !SYMMETRIC).cast::<Record<Cell>>();
    // SAFETY: null, or set by `make_cell` to a record of a static registry.
    unsafe { cell.as_ref() }
}

/// This thread's cell; `None` when the kernel has no memory for one.
fn cell() -> Option<&'static Record<Cell>> {
    match own() {
        Some(cell) => Some(cell),
        None => make_cell(),
    }
}

fn make_cell() -> Option<&'static Record<Cell>> {
    adopt_after_fork();
    // Without the exit function what the thread has cached would never be dropped.
    if !tls::on_thread_exit(exit) || !tls::arm_exit() {
        return None;
    }
    let cell = CELLS.acquire()?;
    #[cfg(feature = "std")]
    super::process_end::prepare();
    let mark = if Asymmetric::new().is_symmetric() { SYMMETRIC } else { 0 };
    // SAFETY: the key is this module's, whose readers expect null or a cell with this mark.
    unsafe {
        tls::set(Key::CachedRef, ptr::from_ref(cell).cast_mut().map_addr(|a| a | mark).cast())
    };
    Some(cell)
}

/// Runs when the thread ends, where no panic may come out.
extern "C" fn exit() {
    let Some(cell) = own() else { return };
    let mut panics = Panics::none();
    settle_cell(cell, &mut panics);
    // SAFETY: as above; null is a thread without a cell.
    unsafe { tls::set(Key::CachedRef, ptr::null_mut()) };
    // What a signal handler has put in since; from now on it finds no cell, and makes one with an
    // exit of its own.
    settle_cell(cell, &mut panics);
    cell.release();
}

/// Empties the entries of the calling thread: before it goes to sleep for long, say.
///
/// # Context
/// Drops objects; never waits. Not for signal handlers.
///
/// # Panics
/// As [`flush_all`](super::flush_all).
pub fn flush_thread() {
    let mut panics = Panics::none();
    match own() {
        Some(cell) => settle_cell(cell, &mut panics),
        None => Dead::from_limbo().free(&mut panics),
    }
    panics.resume();
}
