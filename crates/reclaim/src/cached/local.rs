//! A thread's cell of cache entries.
#![allow(unsafe_code)]

use super::count::Owed;
use super::entry::{Entry, Touch};
use super::object::{Header, settle};
use crate::asymmetric::{Asymmetric, Fences};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering};
use percpu::tls::{self, Key};
use percpu::{Record, Registry};

/// Objects that a thread caches at once. An object has one entry where it can be.
pub(super) const ENTRIES: usize = 4;

/// A cache line per entry, which no other thread writes in the ordinary case: then the entry's place is two bits of the object's address, as they stand.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Cell {
    entries: [Aligned; ENTRIES],
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Aligned(Entry);

const ENTRY_BYTES: usize = 64;
const _: () = assert!(size_of::<Aligned>() == ENTRY_BYTES && ENTRIES.is_power_of_two(), "bits 6 and 7 of an address are an entry's offset");

static CELLS: Registry<Cell> = Registry::new();

/// Set in the thread-local pointer where `light()` has to be a full fence: one signed comparison tells a cell that can be used with a compiler fence
/// from none and from one in that other mode.
const SYMMETRIC: usize = 1 << (usize::BITS - 1);

impl Cell {
    /// The entry for the object at this address. Addresses of objects differ above bit 6 as often as not; below they depend on the allocator.
    #[inline(always)]
    fn entry(&self, object: usize) -> &Entry {
        // As an index it would be shifted down and up again.
        let offset = object & ((ENTRIES - 1) * ENTRY_BYTES);
        // SAFETY: the offset is a multiple of an entry's size and less than that of all of them.
        let entry = unsafe { self.entries.as_ptr().byte_add(offset) };
        // SAFETY: it points to an entry of `self`.
        unsafe { &(*entry).0 }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|e| &e.0)
    }
}

/// All cells whose threads exist.
pub(super) fn cells() -> impl Iterator<Item = &'static Record<Cell>> {
    CELLS.iter().filter(|c| c.is_alive())
}

/// Adds to this thread's delta if it has the object cached. The fast way, inlined into `clone` and `drop`; `missed` and `marked` are the other two outcomes of
/// [`Entry::touch`], as functions because to pass on which of them it was would cost the fast way a register.
#[inline(always)]
pub(super) fn touch(header: NonNull<Header>, by: i64, missed: fn(NonNull<Header>), marked: fn(NonNull<Header>)) {
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

/// After a touch that is in the delta of an entry that was marked meanwhile.
#[cold]
#[inline(never)]
pub(super) fn settle_marked(header: NonNull<Header>) {
    if let Some(cell) = own() {
        settle_entry(cell.entry(header.as_ptr().expose_provenance()));
    }
}

/// One more reference, where [`touch`] could not count it.
#[cold]
#[inline(never)]
pub(super) fn get_missed(header: NonNull<Header>) {
    let object = header.as_ptr().expose_provenance();
    // SAFETY: the caller has a reference.
    let header = unsafe { header.as_ref() };
    let Some(cell) = cell() else {
        let _alive = header.count.add(0, 1);
        return;
    };
    let entry = cell.entry(object);
    match retouch(entry, object, 1) {
        Touch::Done => return,
        Touch::Marked => return settle_entry(entry),
        Touch::Missed => {}
    }
    // Settling can free objects, whose drop can fill the entry again.
    while let Some(owed) = entry.empty() {
        settle(owed);
    }
    if !header.is_cacheable() {
        let _alive = header.count.add(0, 1);
        return;
    }
    let _alive = header.count.add(1, 0);
    entry.fill(object, 1);
    // Pairs with `heavy()` in `set_caching`: either that finds the entry, or we find caching switched off.
    Asymmetric::new().light();
    if !header.is_cacheable() {
        settle_entry(entry);
    }
}

/// One reference less, where [`touch`] could not count it.
#[cold]
#[inline(never)]
pub(super) fn put_missed(header: NonNull<Header>) {
    let object = header.as_ptr().expose_provenance();
    if let Some(cell) = own() {
        let entry = cell.entry(object);
        match retouch(entry, object, -1) {
            Touch::Done => return,
            Touch::Marked => return settle_entry(entry),
            Touch::Missed if entry.is_marked() => settle_entry(entry),
            Touch::Missed => {}
        }
    }
    settle(Owed { object, users: 0, refs: -1 });
}

/// Where `light()` is a full fence, the fast way was not even tried.
fn retouch(entry: &Entry, object: usize, by: i64) -> Touch {
    let fences = Asymmetric::new();
    if fences.is_symmetric() { entry.touch(object, by, fences) } else { Touch::Missed }
}

fn settle_entry(entry: &Entry) {
    if let Some(owed) = entry.empty() {
        settle(owed);
    }
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
    tls::on_thread_exit(exit);
    let cell = CELLS.acquire()?;
    let mark = if Asymmetric::new().is_symmetric() { SYMMETRIC } else { 0 };
    tls::set(Key::CachedRef, ptr::from_ref(cell).cast_mut().map_addr(|a| a | mark).cast());
    tls::arm_exit();
    Some(cell)
}

/// Settles all entries of the calling thread.
pub(super) fn flush_own() {
    let Some(cell) = own() else { return };
    for entry in cell.entries() {
        settle_entry(entry);
    }
}

/// Runs when the thread ends. An object freed here may use this module in its drop, and fill entries again.
extern "C" fn exit() {
    let Some(cell) = own() else { return };
    let settle_all = || {
        while let Some(owed) = cell.entries().find_map(Entry::empty) {
            settle(owed);
        }
    };
    settle_all();
    tls::set(Key::CachedRef, ptr::null_mut());
    // What a signal handler has put in since; from now on it finds no cell, and makes one with an exit of its own.
    settle_all();
    cell.release();
}

/// In a fork child: settles the entries of the threads that did not come along. Their references are lost with them, their hold on what they merely had cached is not. A
/// change that such a thread had taken on and not yet made is lost: its object is then never freed.
pub(super) fn adopt_after_fork() {
    static SEEN: AtomicU64 = AtomicU64::new(1);
    let now = percpu::fork::generation();
    // Relaxed: each record is adopted by a compare-and-swap of its own.
    if SEEN.load(Ordering::Relaxed) == now {
        return;
    }
    SEEN.store(now, Ordering::Relaxed);
    for dead in CELLS.iter().filter(|c| c.try_adopt()) {
        dead.entries().for_each(settle_entry);
        dead.release();
    }
}
