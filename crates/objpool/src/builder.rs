//! How pools are made.

use crate::list::FreeList;
use crate::objects::Objects;
use crate::plan::Plan;
use crate::raw::{Destructor, RawPool, Release};
use crate::{BuildError, InitError};
use alloc::boxed::Box;
use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

/// What a pool shall be like. The free list is chosen by the type parameter of
/// [`build`](Self::build).
///
/// # Examples
/// ```
/// use objpool::{Bitmap, Builder, BuildError};
/// use std::alloc::Layout;
///
/// let pool = Builder::new(1000, Layout::new::<u64>()).build::<Bitmap>()?;
/// assert_eq!(pool.capacity(), 1000);
/// let none = Builder::new(0, Layout::new::<u64>()).build::<Bitmap>();
/// assert_eq!(none.unwrap_err(), BuildError::Capacity(0));
/// # Ok::<(), BuildError>(())
/// ```
#[must_use]
pub struct Builder {
    capacity: usize,
    object: Layout,
    rseq: bool,
    visits: bool,
    release: Option<Release>,
}

impl Builder {
    /// `capacity` objects of this size and alignment (at least 8).
    pub fn new(capacity: usize, object: Layout) -> Self {
        Self { capacity, object, rseq: true, visits: true, release: None }
    }

    /// Whether to use restartable sequences where they are available (default: yes). Without,
    /// [`RseqLifo`](crate::RseqLifo) is a [`FlagArray`](crate::FlagArray), and no list reads the
    /// CPU's number on each operation.
    pub fn rseq(mut self, allowed: bool) -> Self {
        self.rseq = allowed;
        self
    }

    /// Whether a pop of [`RseqLifo`](crate::RseqLifo) that finds nothing else may take from another
    /// CPU's private list, at the price of a system call (default: yes). Without, such a pop gives
    /// `None` although up to half of the objects (or one per CPU, if that is more) may be free.
    pub fn visits(mut self, allowed: bool) -> Self {
        self.visits = allowed;
        self
    }

    /// Calls `f` once when the last object of the closed pool is gone, on the thread that gave it
    /// back; at the latest when the pool is dropped.
    pub fn on_release(mut self, f: impl FnOnce() + Send + 'static) -> Self {
        self.release = Some(Box::new(f));
        self
    }

    /// A pool of zeroed objects.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build<L: FreeList>(self) -> Result<RawPool<L>, BuildError> {
        let objects = Objects::new(self.capacity, self.object)?;
        RawPool::new(&self.plan(), objects, None, self.release)
    }

    /// A pool whose objects are initialised one by one, in order, by `init(address, number)`, and
    /// dropped by `destructor`.
    ///
    /// # Errors
    /// See [`InitError`]. If `init` fails at object k (or panics), the destructor has run on the k
    /// objects before it.
    pub fn build_with<L: FreeList, E>(
        self,
        mut init: impl FnMut(NonNull<u8>, usize) -> Result<(), E>,
        destructor: impl Fn(NonNull<u8>) + Send + Sync + 'static,
    ) -> Result<RawPool<L>, InitError<E>> {
        let objects = Objects::new(self.capacity, self.object)?;
        // Everything that can fail for want of memory comes before the first object.
        let mut pool = RawPool::new(&self.plan(), objects, None, self.release)?;
        let mut undo = Undo { pool: &pool, initialised: 0, destructor: Some(Box::new(destructor)) };
        for index in 0..undo.pool.capacity() {
            init(undo.pool.object(index as u32), index)
                .map_err(|error| InitError::Init { index, error })?;
            undo.initialised = index + 1;
        }
        let destructor = undo.destructor.take();
        drop(undo);
        pool.set_destructor(destructor);
        Ok(pool)
    }

    pub(crate) fn object(&self) -> Layout {
        self.object
    }

    fn plan(&self) -> Plan {
        Plan { rseq: self.rseq, visits: self.visits, ..Plan::new(self.capacity as u32) }
    }
}

/// Drops the objects initialised so far, unless the destructor was taken.
struct Undo<'a, L: FreeList> {
    pool: &'a RawPool<L>,
    initialised: usize,
    destructor: Option<Destructor>,
}

impl<L: FreeList> Drop for Undo<'_, L> {
    fn drop(&mut self) {
        if self.destructor.is_some() {
            self.undo();
        }
    }
}

impl<L: FreeList> Undo<'_, L> {
    /// Newest first; a destructor that panics does not keep the others from being run.
    fn undo(&mut self) {
        while let Some(index) = self.initialised.checked_sub(1) {
            self.initialised = index;
            let rest = Rest(self);
            if let Some(destructor) = &rest.0.destructor {
                destructor(rest.0.pool.object(index as u32));
            }
            core::mem::forget(rest);
        }
    }
}

/// Dropped only while a destructor's panic unwinds.
struct Rest<'u, 'p, L: FreeList>(&'u mut Undo<'p, L>);

impl<L: FreeList> Drop for Rest<'_, '_, L> {
    fn drop(&mut self) {
        self.0.undo();
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("capacity", &self.capacity)
            .field("object", &self.object)
            .field("rseq", &self.rseq)
            .field("visits", &self.visits)
            .finish_non_exhaustive()
    }
}
