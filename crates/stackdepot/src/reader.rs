//! Another process's depot, read only.
#![allow(unsafe_code)]

use crate::error::{Error, FetchError};
use crate::handle::Handle;
use crate::layout::Layout;
use crate::memory::Memory;
use crate::open;
use crate::stats::Stats;
use crate::text::Display;
use crate::view::{Iter, View};
use core::fmt;
use core::ptr::NonNull;

/// Reads a depot that another process writes, or wrote before it was killed.
///
/// Nothing is written and no lock is looked at, so the writer does not notice and can vanish at any
/// instruction. Every copy is validated by the record's head before and after and by its checksum;
/// what does not validate is an error. The memory may be mapped read-only.
///
/// # Context
/// All methods are signal-safe, allocate nothing, do not block and make no system call.
///
/// # Examples
/// ```
/// use stackdepot::{Depot, Flags, Reader, Region};
/// use std::ptr::NonNull;
///
/// #[repr(align(64))]
/// struct Shared([u8; 1 << 20]);
/// let mut memory = Box::new(Shared([0; 1 << 20]));
/// let base = NonNull::from(&mut memory.0).cast();
///
/// // SAFETY: the box outlives depot and reader, and nobody else touches it.
/// let region = unsafe { Region::private(base, 1 << 20) };
/// let depot = Depot::builder().build_in(region)?;
/// let handle = depot.save(&[0x1000, 0x2000], Flags::NONE);
///
/// // SAFETY: as above. In another process: the same segment, mapped PROT_READ.
/// let reader = unsafe { Reader::new(base, 1 << 20) }?;
/// let mut buf = [0; 64];
/// assert_eq!(reader.fetch(handle, &mut buf)?, [0x1000, 0x2000]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader {
    memory: Memory,
    layout: Layout,
}

impl Reader {
    /// Looks at the region.
    ///
    /// # Safety
    /// `[base, base + bytes)` stays mapped readable as long as the reader lives. Its contents may
    /// be anything and may change.
    ///
    /// # Errors
    /// Whatever is wrong with the region; see [`Error`].
    pub unsafe fn new(base: NonNull<u8>, bytes: usize) -> Result<Self, Error> {
        // SAFETY: the caller's promise.
        let memory = unsafe { Memory::read_only(base, bytes) }?;
        let layout = open::open(&memory)?;
        Ok(Self { memory, layout })
    }

    fn view(&self) -> View<'_> {
        View { words: self.memory.words(), layout: &self.layout }
    }

    /// The deepest stack that the depot keeps: a buffer of this size fits all.
    pub fn max_depth(&self) -> usize {
        self.layout.max_depth
    }

    /// Copies a stack out, innermost frame first as it was saved.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn fetch<'b>(&self, handle: Handle, buf: &'b mut [u64]) -> Result<&'b [u64], FetchError> {
        self.view().fetch(handle, buf)
    }

    /// The live stacks. See [`Depot::iter`](crate::Depot::iter).
    pub fn iter(&self) -> Iter<'_> {
        self.view().iter()
    }

    /// The depot's counters.
    pub fn stats(&self) -> Stats {
        self.view().stats()
    }

    /// A stack as text. See [`Depot::display`](crate::Depot::display).
    pub fn display<S>(&self, handle: Handle, symbolise: S) -> Display<'_, S>
    where
        S: Fn(u64, &mut fmt::Formatter<'_>) -> fmt::Result,
    {
        Display::new(self.view(), handle, symbolise)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("layout", &self.layout).finish_non_exhaustive()
    }
}
