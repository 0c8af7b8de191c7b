//! Pools of values, and the guards that give them back.
#![allow(unsafe_code)]

use crate::list::FreeList;
use crate::raw::RawPool;
use crate::{BuildError, Builder, InitError, RseqLifo, Statistics};
use alloc::sync::Arc;
use core::alloc::Layout;
use core::cell::Cell;
use core::convert::Infallible;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::time::Duration;

/// A fixed number of `T`s, made once and handed out again and again. A value keeps what its last
/// user left in it.
///
/// # Examples
/// ```
/// use objpool::ObjectPool;
///
/// let pool: ObjectPool<Vec<u8>> = ObjectPool::new(4, |_| Vec::with_capacity(4096))?;
/// let mut buffer = pool.pop().expect("4 are free");
/// buffer.clear();
/// buffer.extend_from_slice(b"no allocation here");
/// drop(buffer); // back in the pool
/// assert_eq!(pool.statistics().in_use, 0);
/// # Ok::<(), objpool::BuildError>(())
/// ```
///
/// The values move between threads, so a pool of values that may not is bound to its thread:
/// ```compile_fail,E0277
/// fn shared<P: Sync>(_: P) {}
/// # use {objpool::ObjectPool, std::rc::Rc};
/// let pool: ObjectPool<Rc<u8>> = ObjectPool::new(1, |_| Rc::new(0)).unwrap();
/// shared(pool);
/// ```
///
/// What is left in a value stays there, so it must live as long as the pool's type says:
/// ```compile_fail,E0597
/// fn leave<'a>(pool: &objpool::ObjectPool<&'a str>, text: &'a str) {
///     **pool.pop().as_mut().unwrap() = text;
/// }
/// # use objpool::ObjectPool;
/// let pool: ObjectPool<&'static str> = ObjectPool::new(1, |_| "static").unwrap();
/// let text = String::from("short");
/// leave(&pool, &text);
/// ```
///
/// A guard cannot outlive its pool:
/// ```compile_fail,E0505
/// let pool: objpool::ObjectPool<u8> = objpool::ObjectPool::new(1, |_| 0).unwrap();
/// let guard = pool.pop();
/// drop(pool);
/// drop(guard);
/// ```
pub struct ObjectPool<T, L: FreeList = RseqLifo> {
    raw: RawPool<L>,
    /// Owns values that users change through a shared pool: invariant, like a cell.
    values: PhantomData<Cell<T>>,
}

// SAFETY: through a shared pool a thread gets whole values for itself (as from a channel), never a
// reference that another thread has too: T: Send suffices.
unsafe impl<T: Send, L: FreeList> Sync for ObjectPool<T, L> {}
// SAFETY: moves the values with it.
unsafe impl<T: Send, L: FreeList> Send for ObjectPool<T, L> {}

impl<T> ObjectPool<T> {
    /// `capacity` values made by `init(number)`, over the default free list
    /// ([`with_list`](Self::with_list) has the others):
    /// ```
    /// use objpool::ObjectPool;
    ///
    /// let pool = ObjectPool::new(4, |number| number * 10)?;
    /// assert_eq!(pool.capacity(), 4);
    /// # Ok::<(), objpool::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn new(capacity: usize, init: impl FnMut(usize) -> T) -> Result<Self, BuildError> {
        Self::with_list(capacity, init)
    }

    /// A builder with the layout of `T`, for [`from_builder`](Self::from_builder).
    pub fn builder(capacity: usize) -> Builder {
        Builder::new(capacity, Layout::new::<T>())
    }

    /// A pool with the builder's switches, of values made by `init(number)`, over the default free
    /// list.
    ///
    /// # Errors
    /// See [`InitError`]. If `init` fails (or panics) at value k, the k values before it are
    /// dropped.
    ///
    /// # Panics
    /// The builder is for another layout.
    pub fn from_builder<E>(
        builder: Builder,
        init: impl FnMut(usize) -> Result<T, E>,
    ) -> Result<Self, InitError<E>> {
        Self::with_list_from(builder, init)
    }
}

impl<T, L: FreeList> ObjectPool<T, L> {
    /// As [`new`](ObjectPool::new), over the free list that the pool's type names:
    /// ```
    /// use objpool::{ObjectPool, RingArray};
    ///
    /// let pool: ObjectPool<u64, RingArray> = ObjectPool::with_list(4, |_| 0)?;
    /// # Ok::<(), objpool::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn with_list(
        capacity: usize,
        mut init: impl FnMut(usize) -> T,
    ) -> Result<Self, BuildError> {
        let builder = Builder::new(capacity, Layout::new::<T>());
        let pool = Self::with_list_from(builder, |index| Ok::<T, Infallible>(init(index)));
        pool.map_err(|error| match error {
            InitError::Build(error) => error,
            InitError::Init { error, .. } => match error {},
        })
    }

    /// As [`from_builder`](ObjectPool::from_builder), over the free list that the pool's type
    /// names.
    ///
    /// # Errors
    /// See [`from_builder`](ObjectPool::from_builder).
    ///
    /// # Panics
    /// The builder is for another layout.
    pub fn with_list_from<E>(
        builder: Builder,
        mut init: impl FnMut(usize) -> Result<T, E>,
    ) -> Result<Self, InitError<E>> {
        assert_eq!(builder.object(), Layout::new::<T>(), "the builder is for another type");
        // A function pointer, not a closure: the pool's destructor is 'static, and T need not be.
        let destructor: fn(NonNull<u8>) = drop_value::<T>;
        let raw = builder.build_with(
            |place, index| {
                let value = init(index)?;
                // SAFETY: `place` is memory for a T that nobody else uses yet.
                unsafe { place.cast::<T>().write(value) };
                Ok(())
            },
            destructor,
        )?;
        Ok(Self { raw, values: PhantomData })
    }

    /// Takes a value; dropping the guard gives it back. `None`: at some moment during the call none
    /// was free, or the pool is closed.
    ///
    /// # Context
    /// Signal-safe, lock-free, never allocates, no system call (exceptions: [`RseqLifo`]).
    #[inline(always)]
    pub fn pop(&self) -> Option<Pooled<'_, T, L>> {
        let index = self.raw.pop_index()?;
        Some(Pooled { value: self.raw.object(index).cast(), index, pool: self })
    }

    /// Takes a value together with a share of the pool, so that the guard can go anywhere. Costs an
    /// increment and a decrement of the `Arc` more.
    ///
    /// # Context
    /// As [`pop`](Self::pop). Dropping the guard frees the pool if it was the last share.
    pub fn pop_owned(self: &Arc<Self>) -> Option<OwnedPooled<T, L>> {
        let index = self.raw.pop_index()?;
        Some(OwnedPooled { value: self.raw.object(index).cast(), index, pool: Arc::clone(self) })
    }

    /// Takes a value, and waits for one to come back as long as none is free. `None`: the pool is
    /// closed, or every value was taken out for good ([`Pooled::into_inner`]).
    /// ```
    /// use objpool::ObjectPool;
    /// use std::thread;
    ///
    /// let pool = ObjectPool::new(2, |_| 0u64)?;
    /// thread::scope(|s| {
    ///     for _ in 0..8 {
    ///         s.spawn(|| *pool.pop_wait().expect("the pool stays open") += 1);
    ///     }
    /// });
    /// assert_eq!(pool.statistics().hits, 8);
    /// # Ok::<(), objpool::BuildError>(())
    /// ```
    ///
    /// # Context
    /// As [`Pool::pop_wait`](crate::Pool::pop_wait): blocks.
    pub fn pop_wait(&self) -> Option<Pooled<'_, T, L>> {
        let index = self.raw.wait_for_index(None)?;
        Some(Pooled { value: self.raw.object(index).cast(), index, pool: self })
    }

    /// As [`pop_wait`](Self::pop_wait), for `time` at most; `None`, too, when that is over.
    ///
    /// # Context
    /// As [`Pool::pop_timeout`](crate::Pool::pop_timeout): blocks.
    pub fn pop_timeout(&self, time: Duration) -> Option<Pooled<'_, T, L>> {
        let index = self.raw.wait_for_index(Some(time))?;
        Some(Pooled { value: self.raw.object(index).cast(), index, pool: self })
    }

    /// [`pop_wait`](Self::pop_wait) with a share of the pool, as [`pop_owned`](Self::pop_owned).
    ///
    /// # Context
    /// As [`Pool::pop_wait`](crate::Pool::pop_wait): blocks.
    pub fn pop_owned_wait(self: &Arc<Self>) -> Option<OwnedPooled<T, L>> {
        let index = self.raw.wait_for_index(None)?;
        Some(OwnedPooled { value: self.raw.object(index).cast(), index, pool: Arc::clone(self) })
    }

    /// [`pop_timeout`](Self::pop_timeout) with a share of the pool, as
    /// [`pop_owned`](Self::pop_owned).
    ///
    /// # Context
    /// As [`Pool::pop_timeout`](crate::Pool::pop_timeout): blocks.
    pub fn pop_owned_timeout(self: &Arc<Self>, time: Duration) -> Option<OwnedPooled<T, L>> {
        let index = self.raw.wait_for_index(Some(time))?;
        Some(OwnedPooled { value: self.raw.object(index).cast(), index, pool: Arc::clone(self) })
    }

    /// Drops all free values, and from now on every value that comes back; see
    /// [`Pool::close`](crate::Pool::close).
    pub fn close(&self) {
        self.raw.close();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.raw.is_closed()
    }

    /// The counters; reads one record per value.
    pub fn statistics(&self) -> Statistics {
        self.raw.statistics()
    }

    /// How many values there are, free or out.
    pub fn capacity(&self) -> usize {
        self.raw.capacity()
    }

    /// # Safety
    /// The value with this number is the caller's, and the caller is done with it.
    #[inline(always)]
    unsafe fn give_back(&self, index: u32) {
        // SAFETY: passed on.
        let pushed = unsafe { self.raw.push_index(index) };
        debug_assert!(pushed.is_ok(), "a guard owns its value");
    }
}

/// The destructor of a value in a pool.
fn drop_value<T>(place: NonNull<u8>) {
    // SAFETY: the pool calls it once for each place, which holds a T that nobody has.
    unsafe { place.cast::<T>().drop_in_place() };
}

impl<T, L: FreeList> fmt::Debug for ObjectPool<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ObjectPool").field(&self.raw).finish()
    }
}

/// A value of a pool. Dropping it gives the value back; forgetting it takes the value out of
/// circulation for as long as the pool lives.
///
/// As [`Send`] and [`Sync`] as a `&mut T`:
/// ```compile_fail,E0277
/// fn send<P: Send>(_: P) {}
/// # use {objpool::ObjectPool, std::rc::Rc};
/// let pool: ObjectPool<Rc<u8>> = ObjectPool::new(1, |_| Rc::new(0)).unwrap();
/// send(pool.pop());
/// ```
/// One owner at a time:
/// ```compile_fail,E0382
/// let pool: objpool::ObjectPool<u8> = objpool::ObjectPool::new(1, |_| 0).unwrap();
/// let guard = pool.pop().unwrap();
/// drop(guard);
/// drop(guard);
/// ```
pub struct Pooled<'p, T, L: FreeList = RseqLifo> {
    value: NonNull<T>,
    index: u32,
    pool: &'p ObjectPool<T, L>,
}

/// A value of a shared pool, with a share of the pool.
pub struct OwnedPooled<T, L: FreeList = RseqLifo> {
    value: NonNull<T>,
    index: u32,
    pool: Arc<ObjectPool<T, L>>,
}

macro_rules! guard {
    ([$($life:lifetime)?] $name:ident) => {
        // SAFETY: the guard is the value's one owner; sending it sends the value, and the pool it
        // refers to can be shared as T is Send.
        unsafe impl<$($life,)? T: Send, L: FreeList> Send for $name<$($life,)? T, L> {}
        // SAFETY: a shared guard gives shared references to the value only; the pool behind it is
        // reached by drop alone.
        unsafe impl<$($life,)? T: Sync, L: FreeList> Sync for $name<$($life,)? T, L> {}

        impl<$($life,)? T, L: FreeList> Deref for $name<$($life,)? T, L> {
            type Target = T;

            #[inline(always)]
            fn deref(&self) -> &T {
                // SAFETY: initialised when the pool was made, owned by this guard.
                unsafe { self.value.as_ref() }
            }
        }

        impl<$($life,)? T, L: FreeList> DerefMut for $name<$($life,)? T, L> {
            #[inline(always)]
            fn deref_mut(&mut self) -> &mut T {
                // SAFETY: initialised when the pool was made, owned by this guard.
                unsafe { self.value.as_mut() }
            }
        }

        impl<$($life,)? T, L: FreeList> Drop for $name<$($life,)? T, L> {
            #[inline(always)]
            fn drop(&mut self) {
                // SAFETY: this guard owns the value and ends here.
                unsafe { self.pool.give_back(self.index) };
            }
        }

        impl<$($life,)? T: fmt::Debug, L: FreeList> fmt::Debug for $name<$($life,)? T, L> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (**self).fmt(f)
            }
        }
    };
}

impl<T, L: FreeList> Pooled<'_, T, L> {
    /// Takes the value out for good: the pool has one less from now on. (To put another in its
    /// place, use [`core::mem::replace`].)
    /// ```
    /// use objpool::ObjectPool;
    ///
    /// let pool = ObjectPool::new(2, |number| format!("value {number}"))?;
    /// let mine: String = pool.pop().expect("2 are free").into_inner();
    /// assert!(pool.pop().is_some_and(|other| *other != mine));
    /// assert_eq!(pool.statistics().detached, 1);
    /// # Ok::<(), objpool::BuildError>(())
    /// ```
    ///
    /// # Context
    /// As [`ObjectPool::pop`]. The last one of a closed pool runs the release callback.
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        // SAFETY: initialised and owned by the guard, which is not dropped; nobody pops it any
        // more.
        let value = unsafe { this.value.read() };
        this.pool.raw.detach();
        value
    }
}

impl<T, L: FreeList> OwnedPooled<T, L> {
    /// As [`Pooled::into_inner`]; gives the share of the pool back, too.
    ///
    /// # Context
    /// As [`ObjectPool::pop_owned`].
    pub fn into_inner(self) -> T {
        let this = ManuallyDrop::new(self);
        // SAFETY: the guard is not dropped, so this is the one owner of its share.
        let pool = unsafe { core::ptr::read(&raw const this.pool) };
        // SAFETY: as in `Pooled::into_inner`.
        let value = unsafe { this.value.read() };
        pool.raw.detach();
        value
    }
}

guard!(['p] Pooled);
guard!([] OwnedPooled);
