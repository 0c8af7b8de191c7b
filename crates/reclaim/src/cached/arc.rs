//! The handle.
#![allow(unsafe_code)]

use super::object::{Dead, Header, Inner};
use super::{count::Owed, flush, local};
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

/// A shared object with a count that threads keep for themselves while they work with it: an `Arc`
/// for objects that a thread clones and drops again and again.
///
/// # Examples
/// ```
/// use reclaim::cached::CachedArc;
///
/// let label = CachedArc::new(String::from("web"));
/// let per_request = CachedArc::clone(&label); // from here on no shared line is written
/// assert_eq!(*per_request, "web");
/// drop(per_request);
/// ```
///
/// As with `Arc`, what is shared between threads has to be shareable:
/// ```compile_fail,E0277
/// let a = reclaim::cached::CachedArc::new(std::cell::Cell::new(1));
/// std::thread::spawn(move || a.get());
/// ```
pub struct CachedArc<T: Send + Sync + 'static> {
    inner: NonNull<Inner<T>>,
    _owns: PhantomData<Inner<T>>,
}

// SAFETY: as for `Arc`: the value is shared and may be dropped on any thread; `T: Send + Sync` is
// asked for by the type.
unsafe impl<T: Send + Sync + 'static> Send for CachedArc<T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync + 'static> Sync for CachedArc<T> {}

impl<T: Send + Sync + 'static> CachedArc<T> {
    /// An object with one reference.
    ///
    /// # Context
    /// Allocates.
    pub fn new(value: T) -> Self {
        Self::of(Inner::boxed(value))
    }

    /// One more reference, counted in the shared word whatever this thread has cached.
    ///
    /// # Context
    /// Signal-safe, never allocates; one locked instruction.
    pub fn clone_uncached(this: &Self) -> Self {
        let _alive = this.header_ref().count.add(0, 1);
        Self::of(this.inner)
    }

    /// Gives the reference back to the shared word, whatever this thread has cached.
    ///
    /// # Context
    /// One locked instruction; signal-safe if it cannot be the last reference. The last one drops
    /// the value.
    pub fn drop_uncached(this: Self) {
        let this = core::mem::ManuallyDrop::new(this);
        Dead::default().settle(Owed { object: this.address(), users: 0, refs: -1 });
    }

    /// Asks every thread that has this object cached to stop at its next touch of it: the
    /// generation, so to speak, has changed.
    ///
    /// # Context
    /// Never waits, makes no system call; looks at every thread's entries.
    pub fn request_flush(this: &Self) {
        flush::request(this.address());
    }

    /// Takes this object out of the entries of all threads, of sleeping ones too. What they had
    /// counted is in the shared word afterwards.
    ///
    /// A thread that goes on using the object caches it again; see
    /// [`set_caching`](Self::set_caching).
    ///
    /// # Context
    /// Waits for another flush in progress, never for the threads whose entries it empties. One
    /// system call. Not for signal handlers.
    pub fn flush(this: &Self) {
        flush::flush(Some(this.address()));
    }

    /// Whether threads may cache this object (they may at first). Switched off, every clone and
    /// drop uses the shared word, and threads that have it cached are asked to stop at their next
    /// touch; together with [`flush`](Self::flush) the object dies with its last reference from
    /// then on.
    ///
    /// # Context
    /// Switching off makes one system call and looks at every thread's entries.
    pub fn set_caching(this: &Self, on: bool) {
        flush::set_caching(this.header_ref(), this.address(), on);
    }

    /// The number of references, if no thread has the object cached; `None` if some thread has,
    /// because its part is not known.
    pub fn references(this: &Self) -> Option<u64> {
        let (users, refs) = this.header_ref().count.parts();
        (users == 0).then_some(refs as u64)
    }

    /// Whether both refer to the same object.
    pub fn ptr_eq(a: &Self, b: &Self) -> bool {
        a.inner == b.inner
    }

    fn of(inner: NonNull<Inner<T>>) -> Self {
        Self { inner, _owns: PhantomData }
    }

    #[inline(always)]
    fn header(&self) -> NonNull<Header> {
        self.inner.cast()
    }

    fn header_ref(&self) -> &Header {
        // SAFETY: the reference that `self` is keeps the object alive; the header is its first
        // field.
        unsafe { self.header().as_ref() }
    }

    #[inline(always)]
    fn address(&self) -> usize {
        self.inner.as_ptr().expose_provenance()
    }
}

impl<T: Send + Sync + 'static> Clone for CachedArc<T> {
    /// One more reference. Of an object that this thread has cached: two loads, an addition and a
    /// load, all on the thread's own line.
    ///
    /// # Context
    /// Not for signal handlers (see [`clone_uncached`](Self::clone_uncached)). Runs no code of the
    /// program's: an object that it replaces in the thread's entry, and that nobody refers to any
    /// more, waits for the next drop of a reference, flush or thread's end.
    #[inline(always)]
    fn clone(&self) -> Self {
        local::touch(self.header(), 1, local::get_missed, local::get_marked);
        Self::of(self.inner)
    }
}

impl<T: Send + Sync + 'static> Drop for CachedArc<T> {
    /// One reference less. While this thread has the object cached, it is not dropped even if this
    /// was the last one: see the module's text.
    ///
    /// # Context
    /// May drop this object, and others that were only cached: what their drops lock must not be
    /// locked by the caller.
    ///
    /// # Panics
    /// When such a drop does, after the others: the first panic goes on here.
    #[inline(always)]
    fn drop(&mut self) {
        local::touch(self.header(), -1, local::put_missed, local::put_marked);
    }
}

impl<T: Send + Sync + 'static> Deref for CachedArc<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the reference that `self` is keeps the object alive.
        unsafe { &(*self.inner.as_ptr()).value }
    }
}

impl<T: fmt::Debug + Send + Sync + 'static> fmt::Debug for CachedArc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
