//! The words that a depot lives in: a caller's region, an own reservation, or a model's array.
//!
//! This is the one place that turns addresses into references; everything else indexes a slice of
//! atomic words and is checked by it. Hostile contents can therefore make this crate read the wrong
//! word of the region, never another one.
#![allow(unsafe_code)]

use crate::error::Error;
use percpu::sync::atomic::AtomicU64;

/// Who else can write the region's memory, and what a fork does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Private memory: a fork child has a copy of its own.
    Private,
    /// Shared memory: other processes may map it, a fork child writes the same bytes as its parent.
    Shared,
}

/// Memory for a depot, lent by the caller: zeroed, or the depot of an earlier
/// [`Builder::build_in`](crate::Builder::build_in).
#[derive(Debug)]
pub struct Region {
    #[cfg(not(loom))]
    base: core::ptr::NonNull<u8>,
    #[cfg(not(loom))]
    bytes: usize,
    #[cfg(not(loom))]
    reach: Option<Reach>,
    #[cfg(loom)]
    words: usize,
    pub(crate) sharing: Sharing,
}

/// Asks the owner of a region for its first bytes.
#[cfg(not(loom))]
#[derive(Clone, Copy)]
struct Reach(&'static (dyn Fn(usize) -> bool + Send + Sync));

#[cfg(not(loom))]
impl core::fmt::Debug for Reach {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Reach")
    }
}

#[cfg(not(loom))]
pub(crate) use real::Memory;
#[cfg(not(loom))]
mod real {
    use super::{AtomicU64, Error, Reach, Region, Sharing};
    use crate::kernel;
    use crate::layout::TOTAL_LIMIT;
    use core::ptr::NonNull;
    use percpu::sync::atomic::{AtomicUsize, Ordering};

    /// Reservations start on a huge-page boundary of x86-64 and (with 4 KiB pages) aarch64.
    pub(crate) const HUGE: usize = 2 << 20;

    impl Region {
        /// Memory of the caller that a fork copies (`MAP_PRIVATE`, `malloc`, a static).
        ///
        /// # Safety
        /// `[base, base + bytes)` is readable and writable, stays mapped as long as any depot made
        /// from the region, and is accessed during that time only through this crate. Its contents
        /// may be anything.
        pub unsafe fn private(base: NonNull<u8>, bytes: usize) -> Self {
            Self { base, bytes, reach: None, sharing: Sharing::Private }
        }

        /// Memory of the caller that other processes may map too (`MAP_SHARED`).
        ///
        /// # Safety
        /// As [`Region::private`]; what other processes write there meanwhile is validated, not
        /// trusted.
        pub unsafe fn shared(base: NonNull<u8>, bytes: usize) -> Self {
            Self { base, bytes, reach: None, sharing: Sharing::Shared }
        }

        /// [`Region::shared`] memory that is mapped as it is used: `reach(end)` maps the first
        /// `end` bytes, or says that it cannot, and then stacks that need them are not saved. `end`
        /// is at most `bytes`. Nothing has to be mapped before.
        ///
        /// # Safety
        /// As [`Region::shared`], of the bytes that `reach` said yes to. It is called by saves,
        /// perhaps from several threads at once and in whatever context they are in, and leaves
        /// `errno` alone.
        pub unsafe fn growing(
            base: NonNull<u8>,
            bytes: usize,
            reach: &'static (dyn Fn(usize) -> bool + Send + Sync),
        ) -> Self {
            Self { base, bytes, reach: Some(Reach(reach)), sharing: Sharing::Shared }
        }
    }

    /// What has to be done before fresh words may be touched.
    #[derive(Clone, Copy, Debug)]
    enum Growth {
        /// Own reservation of so many bytes from this address: commit pages, unmap at the end.
        Commit { reserved: NonNull<u8>, bytes: usize },
        /// Region of the caller: fault pages in.
        Populate,
        /// Region of the caller that is mapped as it is used: have it mapped, fault pages in.
        Reach(Reach),
        /// Nothing: the memory is only read.
        None,
    }

    /// See the module.
    #[derive(Debug)]
    pub(crate) struct Memory {
        base: NonNull<AtomicU64>,
        /// Words that may be touched. Grows only. Raised before any position beyond the old value
        /// is published in the region, so whoever finds such a position (Acquire) reads a `mapped`
        /// that covers it.
        mapped: AtomicUsize,
        total: usize,
        growth: Growth,
    }

    // SAFETY: Memory is an address range of atomic words plus one atomic counter; nothing in it
    // belongs to a thread.
    unsafe impl Send for Memory {}
    // SAFETY: as above; all shared accesses go through atomics.
    unsafe impl Sync for Memory {}

    impl Memory {
        /// Reserves `bytes` of address space, of which the first page is usable.
        pub(crate) fn reserve(bytes: usize, huge: bool) -> Result<Self, Error> {
            let total = (bytes / 8).min(TOTAL_LIMIT);
            let span = (total * 8).next_multiple_of(kernel::PAGE);
            let reserved_bytes = span + HUGE;
            let reserved = kernel::reserve(reserved_bytes).map_err(Error::Memory)?;
            let skip = reserved.as_ptr().align_offset(HUGE).min(HUGE);
            // SAFETY: skip is at most HUGE, which the reservation has on top of the span.
            let base = unsafe { reserved.add(skip) };
            if huge {
                // SAFETY: the span lies inside the reservation just made.
                unsafe { kernel::advise_huge(base, span) };
            }
            let growth = Growth::Commit { reserved, bytes: reserved_bytes };
            let memory = Self { base: base.cast(), mapped: AtomicUsize::new(0), total, growth };
            // The first page, so that there is a header to look at.
            memory.grow(0, total.min(kernel::PAGE / 8)).map_err(Error::Memory)?;
            Ok(memory)
        }

        pub(crate) fn of(region: &Region) -> Result<Self, Error> {
            let Some(reach) = region.reach else {
                return Self::at(region.base, region.bytes, Growth::Populate);
            };
            let memory = Self {
                mapped: AtomicUsize::new(0),
                ..Self::at(region.base, region.bytes, Growth::Reach(reach))?
            };
            // The first page, so that there is a header to look at; it may be another's already.
            memory.cover(memory.total.min(kernel::PAGE / 8)).map_err(Error::Memory)?;
            Ok(memory)
        }

        /// Whether others may have made words usable that are not so here.
        #[inline]
        pub(crate) fn is_mapped_by_use(&self) -> bool {
            matches!(self.growth, Growth::Reach(_))
        }

        /// Makes the first `to` words usable that another process may have made usable for itself:
        /// of a region that is mapped as it is used. Of others all are, or none but the own.
        #[inline]
        pub(crate) fn cover(&self, to: usize) -> Result<(), i32> {
            match self.growth {
                // Relaxed: see `words`.
                Growth::Reach(reach) if to > self.mapped.load(Ordering::Relaxed) => {
                    self.have(reach, to)
                }
                _ => Ok(()),
            }
        }

        #[cold]
        fn have(&self, reach: Reach, to: usize) -> Result<(), i32> {
            if to > self.total || !(reach.0)(to * 8) {
                return Err(kernel::ENOMEM);
            }
            self.mapped.fetch_max(to, Ordering::Release);
            Ok(())
        }

        /// # Safety
        /// `[base, base + bytes)` stays readable as long as the result lives.
        pub(crate) unsafe fn read_only(base: NonNull<u8>, bytes: usize) -> Result<Self, Error> {
            Self::at(base, bytes, Growth::None)
        }

        fn at(base: NonNull<u8>, bytes: usize, growth: Growth) -> Result<Self, Error> {
            if base.as_ptr().align_offset(64) != 0 {
                return Err(Error::Misaligned);
            }
            let total = (bytes / 8).min(TOTAL_LIMIT);
            Ok(Self { base: base.cast(), mapped: AtomicUsize::new(total), total, growth })
        }

        /// How many words there are or can be.
        pub(crate) fn total(&self) -> usize {
            self.total
        }

        /// The words that may be touched.
        #[inline(always)]
        pub(crate) fn words(&self) -> &[AtomicU64] {
            // Relaxed: ordered by the Acquire load that gave the caller a position, see `mapped`.
            let mapped = self.mapped.load(Ordering::Relaxed);
            // SAFETY: base is 64-byte aligned, `mapped` words from it are accessible for the life
            // of self (the makers' contract, or committed by `grow`), any 8 bytes are a valid
            // AtomicU64, and all accesses to them are atomic.
            unsafe { core::slice::from_raw_parts(self.base.as_ptr(), mapped) }
        }

        /// Makes words `[from, to)` usable. Two callers may do it at once. Not before everything
        /// below `from` is.
        pub(crate) fn grow(&self, from: usize, to: usize) -> Result<(), i32> {
            debug_assert!(from <= to && to <= self.total);
            let page = kernel::PAGE;
            let low = from * 8 / page * page;
            let high = (to * 8).next_multiple_of(page);
            // SAFETY: from is at most `total`, inside the range that starts at base.
            let at = unsafe { self.base.cast::<u8>().add(low) };
            match self.growth {
                // SAFETY: base is HUGE-aligned, so `at` and the length are multiples of the page
                // size, and the span was rounded up to it.
                Growth::Commit { .. } => unsafe { kernel::commit(at, high - low) }?,
                Growth::Populate => self.populate(from, to)?,
                Growth::Reach(_) => {
                    self.cover(to)?;
                    self.populate(from, to)?;
                }
                Growth::None => {}
            }
            // Release for form's sake: see `words` for what orders the readers.
            self.mapped.fetch_max(to, Ordering::Release);
            Ok(())
        }

        /// The pages of the part. The first and last may be shared with the caller's other data:
        /// populating them changes nothing there.
        fn populate(&self, from: usize, to: usize) -> Result<(), i32> {
            let page = kernel::PAGE;
            let start = self.base.as_ptr().addr();
            let low = (start + from * 8) / page * page;
            let high = (start + to * 8).next_multiple_of(page);
            let at = self
                .base
                .as_ptr()
                .cast::<u8>()
                .wrapping_offset(low.cast_signed() - start.cast_signed());
            let Some(at) = NonNull::new(at) else { return Ok(()) };
            // SAFETY: [low, high) is page-aligned, and each page of it holds a byte of the region,
            // which is writable by the contract of Region.
            unsafe { kernel::populate(at, high - low) }
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            if let Growth::Commit { reserved, bytes } = self.growth {
                // SAFETY: the range is that of `reserve`, and `words` slices cannot outlive self.
                unsafe { kernel::release(reserved, bytes) };
            }
        }
    }
}

#[cfg(loom)]
pub(crate) use model::Memory;
#[cfg(loom)]
mod model {
    use super::{AtomicU64, Error, Region, Sharing};
    use std::boxed::Box;

    impl Region {
        /// So many words for a model.
        pub fn model(words: usize) -> Self {
            Self { words, sharing: Sharing::Private }
        }
    }

    /// See the module.
    #[derive(Debug)]
    pub(crate) struct Memory(Box<[AtomicU64]>);

    impl Memory {
        pub(crate) fn of(region: &Region) -> Result<Self, Error> {
            Ok(Self((0..region.words).map(|_| AtomicU64::new(0)).collect()))
        }

        pub(crate) fn total(&self) -> usize {
            self.0.len()
        }

        pub(crate) fn words(&self) -> &[AtomicU64] {
            &self.0
        }

        pub(crate) fn grow(&self, _from: usize, _to: usize) -> Result<(), i32> {
            Ok(())
        }

        pub(crate) fn is_mapped_by_use(&self) -> bool {
            false
        }

        pub(crate) fn cover(&self, _to: usize) -> Result<(), i32> {
            Ok(())
        }
    }
}
