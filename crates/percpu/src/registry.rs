//! Records that threads own for a while.
//!
//! A record is handed to a thread, found by every scanner, and outlives its thread: memory comes
//! from the kernel in chunks, is linked once and stays until the registry is dropped. So a scanner
//! needs no lock, and a thread's first record needs no malloc.
//!
//! # States of a record
//! `owner` is 0 (free) or a thread's number. free -> owned: any thread, by compare-and-swap
//! (`acquire`). owned -> free: the owner, or whoever adopted it (`release`). owned by a thread that
//! a fork left behind -> owned by the adopter: by compare-and-swap (`try_adopt`). The contents
//! belong to the owner; what others may read or write of them is the business of `T`.
#![allow(unsafe_code)]

use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use crate::{fork, thread};
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};

/// One record of a [`Registry`].
#[repr(C, align(128))]
pub struct Record<T> {
    value: T,
    owner: AtomicU64,
}

impl<T> Record<T> {
    /// Gives the record back. The contents stay as they are: its owner puts them into their
    /// starting state first.
    pub fn release(&self) {
        // Release pairs with the Acquire of the compare-and-swap in `claim`: the next owner sees
        // what this one left.
        self.owner.store(0, Ordering::Release);
    }

    /// Whether a thread of this process owns it. False after [`release`](Self::release), and in a
    /// fork child for the threads that did not come along.
    #[inline]
    pub fn is_alive(&self) -> bool {
        // Acquire pairs with the Release in `release`: who sees a record free also sees its
        // contents cleaned.
        let owner = self.owner.load(Ordering::Acquire);
        owner != 0 && fork::survived(owner)
    }

    /// Takes over a record whose owner was left behind by a fork. True for exactly one caller, who
    /// then owns it (and usually cleans and releases it).
    pub fn try_adopt(&self) -> bool {
        let owner = self.owner.load(Ordering::Relaxed);
        owner != 0 && !fork::survived(owner) && self.claim(owner)
    }

    fn claim(&self, from: u64) -> bool {
        // Acquire pairs with the Release in `release`.
        self.owner
            .compare_exchange(from, thread::id().get(), Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }
}

impl<T> Deref for Record<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Record<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("value", &self.value)
            .field("alive", &self.is_alive())
            .finish()
    }
}

/// A set of records that only grows. See the module's text for the states.
///
/// # Examples
/// ```
/// use percpu::Registry;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// let registry: Registry<AtomicU64> = Registry::new();
/// let record = registry.acquire().expect("memory");
/// record.store(7, Ordering::Relaxed);
/// assert!(registry.iter().any(|r| r.is_alive() && r.load(Ordering::Relaxed) == 7));
/// record.release();
/// assert!(!registry.iter().any(|r| r.is_alive()));
/// ```
pub struct Registry<T> {
    /// The newest chunk. Chunks are pushed by compare-and-swap and never removed.
    chunks: AtomicPtr<Chunk<T>>,
}

/// The head of a chunk; its records follow in the same mapping.
struct Chunk<T> {
    next: *const Chunk<T>,
    records: NonNull<Record<T>>,
    len: usize,
}

/// Chunks of about this size, at least one record.
#[cfg(not(loom))]
const CHUNK_BYTES: usize = 16 * 1024;

// SAFETY: the registry owns its records and hands out shared references only; moving it moves no
// record.
unsafe impl<T: Send + Sync> Send for Registry<T> {}
// SAFETY: all access to the list is atomic; records are shared, hence `T: Sync`, and dropped by
// whoever drops the registry, hence `T: Send`.
unsafe impl<T: Send + Sync> Sync for Registry<T> {}

impl<T> Registry<T> {
    /// An empty registry. Maps nothing before the first [`acquire`](Self::acquire).
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { chunks: AtomicPtr::new(ptr::null_mut()) }
    }

    /// An empty registry.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self { chunks: AtomicPtr::new(ptr::null_mut()) }
    }

    /// All records ever made, in use or not; skip those that are not [alive](Record::is_alive) as
    /// needed.
    ///
    /// # Context
    /// Signal-safe, never allocates, never blocks.
    #[inline]
    pub fn iter(&self) -> Records<'_, T> {
        // Acquire pairs with the Release that published the chunk.
        let chunk = self.chunks.load(Ordering::Acquire);
        Records { chunk, index: 0, registry: PhantomData }
    }
}

impl<T: Default + Send + Sync> Registry<T> {
    /// A record for the caller: a free one, else new memory. `None` when the kernel has no memory.
    ///
    /// # Context
    /// Lock-free, signal-safe after [`crate::init`]; allocates from the kernel only (one `mmap`
    /// when no record is free).
    pub fn acquire(&self) -> Option<&Record<T>> {
        fork::prepare();
        // The plain load first: a scan for a free record must not take every owned record's line
        // for writing.
        if let Some(free) = self.iter().find(|r| r.owner.load(Ordering::Relaxed) == 0 && r.claim(0))
        {
            return Some(free);
        }
        let chunk = memory::new_chunk::<T>()?;
        // SAFETY: `new_chunk` returned an initialised chunk.
        let records = unsafe { chunk.as_ref() }.records;
        // SAFETY: a chunk has at least one record, which lives as long as the registry.
        let first = unsafe { records.as_ref() };
        // Relaxed: not published yet.
        first.owner.store(thread::id().get(), Ordering::Relaxed);
        self.publish(chunk);
        Some(first)
    }

    fn publish(&self, mut chunk: NonNull<Chunk<T>>) {
        let mut head = self.chunks.load(Ordering::Relaxed);
        loop {
            // SAFETY: the chunk is not published yet, so this thread alone has it.
            unsafe { chunk.as_mut().next = head };
            // Release pairs with the Acquire in `iter`: a reader of the pointer sees the chunk's
            // head and records.
            match self.chunks.compare_exchange_weak(
                head,
                chunk.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Registry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("records", &self.iter().count()).finish()
    }
}

impl<T> Drop for Registry<T> {
    fn drop(&mut self) {
        let mut chunk = self.chunks.load(Ordering::Acquire).cast_const();
        while let Some(this) = NonNull::new(chunk.cast_mut()) {
            // SAFETY: a published chunk is valid until it is freed below.
            chunk = unsafe { this.as_ref().next };
            // SAFETY: `&mut self`: no record reference is left, and the chunk is visited once.
            unsafe { memory::free_chunk(this) };
        }
    }
}

/// Iterator over the records of a [`Registry`].
#[derive(Debug)]
pub struct Records<'a, T> {
    chunk: *const Chunk<T>,
    index: usize,
    registry: PhantomData<&'a Registry<T>>,
}

impl<'a, T> Iterator for Records<'a, T> {
    type Item = &'a Record<T>;

    #[inline]
    fn next(&mut self) -> Option<&'a Record<T>> {
        loop {
            // SAFETY: a published chunk lives as long as the registry, which outlives 'a.
            let chunk: &'a Chunk<T> = unsafe { self.chunk.as_ref() }?;
            if self.index < chunk.len {
                // SAFETY: `index` is below the number of records in the chunk.
                let record = unsafe { chunk.records.add(self.index) };
                self.index += 1;
                // SAFETY: every record of a published chunk is initialised and lives as long as the
                // registry.
                return Some(unsafe { record.as_ref() });
            }
            self.chunk = chunk.next;
            self.index = 0;
        }
    }
}

#[cfg(not(loom))]
mod memory {
    use super::{AtomicU64, CHUNK_BYTES, Chunk, NonNull, Record, ptr};
    use sys::memory;

    /// Where the first record lies behind the chunk's head.
    const fn records_offset<T>() -> usize {
        size_of::<Chunk<T>>().next_multiple_of(align_of::<Record<T>>())
    }

    const fn records_per_chunk<T>() -> usize {
        let fit = (CHUNK_BYTES - records_offset::<T>()) / size_of::<Record<T>>();
        if fit == 0 { 1 } else { fit }
    }

    const fn chunk_bytes<T>() -> usize {
        records_offset::<T>() + records_per_chunk::<T>() * size_of::<Record<T>>()
    }

    pub(super) fn new_chunk<T: Default>() -> Option<NonNull<Chunk<T>>> {
        const {
            assert!(
                align_of::<Record<T>>() <= 4096,
                "records lie in pages, whose alignment is 4096"
            )
        };
        let len = records_per_chunk::<T>();
        let base = memory::pages(chunk_bytes::<T>()).ok()?;
        // SAFETY: the offset lies inside the mapping.
        let records = unsafe { base.add(records_offset::<T>()) }.cast::<Record<T>>();
        for i in 0..len {
            // SAFETY: record `i` lies inside the mapping, see `chunk_bytes`.
            let at = unsafe { records.add(i) };
            // SAFETY: `at` is writable, aligned (see the assertion) and nobody else has it.
            unsafe { at.write(Record { value: T::default(), owner: AtomicU64::new(0) }) };
        }
        let chunk = base.cast::<Chunk<T>>();
        // SAFETY: the head lies at the start of the mapping, which is page-aligned.
        unsafe { chunk.write(Chunk { next: ptr::null(), records, len }) };
        Some(chunk)
    }

    /// # Safety
    /// The chunk came from [`new_chunk`] and nothing refers to it or its records any more.
    pub(super) unsafe fn free_chunk<T>(chunk: NonNull<Chunk<T>>) {
        // SAFETY: the caller's promise.
        let head = unsafe { chunk.as_ref() };
        let all = ptr::slice_from_raw_parts_mut(head.records.as_ptr(), head.len);
        // SAFETY: all `len` records were initialised by `new_chunk` and are dropped once.
        unsafe { ptr::drop_in_place(all) };
        // SAFETY: `new_chunk` mapped it with this size, and its records are gone.
        let _ = unsafe { memory::munmap(chunk.cast().as_ptr(), chunk_bytes::<T>()) };
    }
}

/// Under a model checker a chunk is a box with one record.
#[cfg(loom)]
mod memory {
    use super::{AtomicU64, Chunk, NonNull, Record, ptr};
    use std::boxed::Box;

    pub(super) fn new_chunk<T: Default>() -> Option<NonNull<Chunk<T>>> {
        let record =
            Box::into_raw(Box::new(Record { value: T::default(), owner: AtomicU64::new(0) }));
        let records = NonNull::new(record)?;
        NonNull::new(Box::into_raw(Box::new(Chunk { next: ptr::null(), records, len: 1 })))
    }

    pub(super) unsafe fn free_chunk<T>(chunk: NonNull<Chunk<T>>) {
        // SAFETY: `new_chunk` made the box, and it is freed once.
        let chunk = unsafe { Box::from_raw(chunk.as_ptr()) };
        // SAFETY: likewise.
        drop(unsafe { Box::from_raw(chunk.records.as_ptr()) });
    }
}
