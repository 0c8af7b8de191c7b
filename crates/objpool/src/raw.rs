//! Pools of untyped memory.
#![allow(unsafe_code)]

use crate::ledger::Ledger;
use crate::list::{FreeList, Taken};
use crate::objects::Objects;
use crate::plan::{Plan, Spread};
use crate::statistics::Tally;
use crate::waiting::Waiting;
use crate::{BuildError, Pool, PushError, RseqLifo, Statistics, memory};
use alloc::boxed::Box;
use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;
use core::time::Duration;
use percpu::CachePadded;
use percpu::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use percpu::sync::{Deadline, UnsafeCell};

/// What runs on each object when it is dropped.
pub(crate) type Destructor = Box<dyn Fn(NonNull<u8>) + Send + Sync>;
/// What runs when the last object is gone.
pub(crate) type Release = Box<dyn FnOnce() + Send>;

/// A pool of untyped objects over the free list `L`. Made by [`Builder`](crate::Builder).
///
/// # Examples
/// ```
/// use objpool::{Builder, RseqLifo};
/// use std::alloc::Layout;
///
/// let pool = Builder::new(16, Layout::new::<[u64; 35]>()).build::<RseqLifo>()?;
/// let object = pool.pop().expect("16 are free");
/// // SAFETY: an object of 280 bytes, aligned to 8, that only this thread owns.
/// unsafe { object.cast::<u64>().write(7) };
/// // SAFETY: popped above and not used any more.
/// unsafe { pool.push(object) }.expect("an object of this pool");
/// // SAFETY: refused, because the object is not out; nobody uses it.
/// assert_eq!(unsafe { pool.push(object) }, Err(objpool::PushError::NotOut));
/// assert_eq!(pool.statistics().hits, 1);
/// # Ok::<(), objpool::BuildError>(())
/// ```
pub struct RawPool<L: FreeList = RseqLifo> {
    list: L,
    ledger: Ledger,
    objects: Objects,
    waiting: Waiting,
    tallies: Box<[CachePadded<Tally>]>,
    /// Objects that are neither dropped nor detached yet, and 1 until `close` is through.
    remaining: AtomicUsize,
    detached: AtomicUsize,
    destructor: Option<Destructor>,
    /// Taken by whoever brings `remaining` to 0, or by the pool's drop.
    release: UnsafeCell<Option<Release>>,
    spread: Spread,
}

// SAFETY: the free list gives an object to one owner at a time, all fields but `release` are Sync,
// and `release` is touched by one thread: see its comment. The destructor and the callback are
// Send.
unsafe impl<L: FreeList> Sync for RawPool<L> {}
// SAFETY: every field is Send; the objects' bytes are the users' affair, as for any allocator.
unsafe impl<L: FreeList> Send for RawPool<L> {}

impl<L: FreeList> RawPool<L> {
    /// A pool that owns `objects`, all free and initialised.
    pub(crate) fn new(
        plan: &Plan,
        objects: Objects,
        destructor: Option<Destructor>,
        release: Option<Release>,
    ) -> Result<Self, BuildError> {
        let list = L::new(plan)?;
        Ok(Self {
            ledger: Ledger::new(objects.capacity(), !list.is_fast())?,
            list,
            waiting: Waiting::new(),
            tallies: memory::slice(plan.slots as usize, |_| CachePadded::new(Tally::new()))?,
            remaining: AtomicUsize::new(objects.capacity() + 1),
            detached: AtomicUsize::new(0),
            objects,
            destructor,
            release: UnsafeCell::new(release),
            spread: Spread::new(plan),
        })
    }

    /// Puts the destructor into a pool that was built without: its objects are initialised.
    pub(crate) fn set_destructor(&mut self, destructor: Option<Destructor>) {
        self.destructor = destructor;
    }

    /// See [`Pool::pop`].
    #[inline(always)]
    pub fn pop(&self) -> Option<NonNull<u8>> {
        let index = self.pop_index()?;
        Some(self.object(index))
    }

    /// See [`Pool::pop_wait`].
    pub fn pop_wait(&self) -> Option<NonNull<u8>> {
        self.wait_for_index(None).map(|index| self.object(index))
    }

    /// See [`Pool::pop_timeout`].
    pub fn pop_timeout(&self, time: Duration) -> Option<NonNull<u8>> {
        self.wait_for_index(Some(time)).map(|index| self.object(index))
    }

    /// See [`Pool::push`].
    ///
    /// # Errors
    /// See [`Pool::push`].
    ///
    /// # Safety
    /// See [`Pool::push`].
    #[inline(always)]
    pub unsafe fn push(&self, object: NonNull<u8>) -> Result<(), PushError> {
        let index = self.objects.index_of(object).ok_or(PushError::Foreign)?;
        // SAFETY: the caller owns the object, and it has a number.
        unsafe { self.push_index(index) }
    }

    #[inline(always)]
    pub(crate) fn pop_index(&self) -> Option<u32> {
        if !self.list.is_fast() {
            return self.pop_whole();
        }
        let Some((index, slot)) = self.list.pop_fast() else { return self.pop_rest() };
        self.list.mark_out(index, slot);
        // SAFETY: free lists hold the numbers below the capacity.
        unsafe { self.ledger.count(index) };
        Some(index)
    }

    #[cold]
    #[inline(never)]
    fn pop_rest(&self) -> Option<u32> {
        self.pop_whole()
    }

    #[inline(always)]
    fn pop_whole(&self) -> Option<u32> {
        // All of it apart, not only the question: a call that comes back costs the common case its
        // registers.
        if self.waiting.is_quiet() { self.pop_listed() } else { self.pop_attended() }
    }

    /// A pop while somebody waits, or after `close`.
    #[cold]
    #[inline(never)]
    fn pop_attended(&self) -> Option<u32> {
        if self.waiting.is_closed_to_pops() { self.missed() } else { self.pop_listed() }
    }

    #[inline(always)]
    fn pop_listed(&self) -> Option<u32> {
        match self.list.pop() {
            Some(taken) => Some(self.goes_out(taken)),
            None => self.missed(),
        }
    }

    /// What [`pop_index`](Self::pop_index) gives, as soon as there is something: `None` when the
    /// time is over, or when nothing can come back.
    pub(crate) fn wait_for_index(&self, time: Option<Duration>) -> Option<u32> {
        // A miss here is not counted: it is not the end.
        match if self.waiting.is_closed_to_pops() { None } else { self.list.pop() } {
            Some(taken) => Some(self.goes_out(taken)),
            None => self.wait(time),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait(&self, time: Option<Duration>) -> Option<u32> {
        let until = time.map(Deadline::after);
        self.tallies[self.spread.here() as usize].waits.fetch_add(1, Ordering::Relaxed);
        loop {
            // In this order: see `Waiting`.
            let waiter = self.waiting.enter();
            let hold = self.list.hold();
            while waiter.is_current() {
                let turn = waiter.turn();
                if self.waiting.is_closed() || self.is_used_up() {
                    return self.missed();
                }
                if let Some(taken) = self.list.pop_held(hold.as_ref()) {
                    return Some(self.goes_out(taken));
                }
                if !waiter.sleep(turn, until.as_ref()) {
                    return self.missed();
                }
            }
            // A fork child, in which nobody knows of this waiter.
        }
    }

    /// Whether every object was taken out for good (or the pool is closed).
    fn is_used_up(&self) -> bool {
        // SeqCst pairs with `one_less`: either that one wakes this waiter, or this sees it.
        self.remaining.load(Ordering::SeqCst) <= 1
    }

    /// Notes that the list has just given the object to the caller.
    #[inline(always)]
    fn goes_out(&self, Taken { index, slot, stolen }: Taken) -> u32 {
        // SAFETY: free lists hold the numbers below the capacity.
        unsafe { self.ledger.count(index) };
        if self.list.is_fast() {
            self.list.mark_out(index, slot);
        } else {
            // SAFETY: as above; a list that is not fast has its marks in the ledger.
            unsafe { self.ledger.goes_out(index, slot) };
        }
        if stolen {
            self.stole(slot);
        }
        index
    }

    /// # Safety
    /// As [`Pool::push`], for the object with this number, which is below the capacity.
    #[inline(always)]
    pub(crate) unsafe fn push_index(&self, index: u32) -> Result<(), PushError> {
        if !self.list.is_fast() {
            // SAFETY: the caller's number is below the capacity; a list that is not fast has its
            // marks in the ledger.
            let popped_on = unsafe { self.ledger.comes_back(index) }.ok_or(PushError::NotOut)?;
            self.push_whole(index, popped_on);
            return Ok(());
        }
        let popped_on = self.list.popped_on(index).ok_or(PushError::NotOut)?;
        match self.list.push_fast(index) {
            Some(slot) if slot == popped_on => {}
            Some(slot) => self.pushed_remotely(slot),
            None => self.push_rest(index, popped_on),
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn push_rest(&self, index: u32, popped_on: u32) {
        self.push_whole(index, popped_on);
    }

    #[inline(always)]
    fn push_whole(&self, index: u32, popped_on: u32) {
        let slot = self.list.push(index);
        if slot != popped_on {
            self.pushed_remotely(slot);
        }
        self.list.settle();
        if !self.waiting.is_quiet() {
            self.attend();
        }
    }

    /// An object came back while somebody waits, or after `close`.
    #[cold]
    #[inline(never)]
    fn attend(&self) {
        // Either the drain in `close` sees the object, or this sees that the pool is closed.
        if self.waiting.is_closed() {
            self.drain();
        } else {
            self.waiting.wake_one();
        }
    }

    /// The address of an object by its number, which came from the list.
    #[inline(always)]
    pub(crate) fn object(&self, index: u32) -> NonNull<u8> {
        // SAFETY: free lists hold the numbers below the capacity.
        unsafe { self.objects.at(index) }
    }

    #[cold]
    #[inline(never)]
    fn missed<T>(&self) -> Option<T> {
        // Relaxed, like all counters: they order nothing.
        self.tallies[self.spread.here() as usize].misses.fetch_add(1, Ordering::Relaxed);
        None
    }

    #[cold]
    #[inline(never)]
    fn stole(&self, slot: u32) {
        self.tallies[slot as usize].steals.fetch_add(1, Ordering::Relaxed);
    }

    #[cold]
    #[inline(never)]
    fn pushed_remotely(&self, slot: u32) {
        self.tallies[slot as usize].remote_pushes.fetch_add(1, Ordering::Relaxed);
    }

    /// See [`Pool::close`].
    pub fn close(&self) {
        if self.waiting.close() {
            // Also if a destructor panics.
            let _open = Share(self);
            self.waiting.wake_all();
            self.list.close();
            self.drain();
        }
    }

    /// The object that the caller has popped will not come back, and the caller has moved its value
    /// out.
    pub(crate) fn detach(&self) {
        // Relaxed, like all counters.
        self.detached.fetch_add(1, Ordering::Relaxed);
        drop(Share(self));
    }

    /// See [`Pool::is_closed`].
    pub fn is_closed(&self) -> bool {
        self.waiting.is_closed()
    }

    /// Drops what is free. Several threads may do so at once; each object is taken by one of them.
    #[cold]
    #[inline(never)]
    fn drain(&self) {
        while let Some(index) = self.list.drain() {
            let share = Share(self);
            let rest = Rest(self);
            if let Some(destructor) = &self.destructor {
                destructor(self.object(index));
            }
            core::mem::forget(rest);
            drop(share);
        }
    }

    /// One object less, or the pool is closed.
    fn one_less(&self) {
        // AcqRel: the last one has seen what all others did to their objects. SeqCst pairs with
        // `is_used_up`.
        match self.remaining.fetch_sub(1, Ordering::SeqCst) {
            1 => {
                // SAFETY: one thread sees 1, and the pool's drop cannot run meanwhile, as this
                // borrows the pool.
                let release = self.release.with_mut(|release| unsafe { (*release).take() });
                if let Some(release) = release {
                    release();
                }
            }
            // Nothing will come back, unless this was the pool's own share.
            2 => {
                self.list.settle();
                self.waiting.wake_all();
            }
            _ => {}
        }
    }

    /// See [`Pool::statistics`].
    pub fn statistics(&self) -> Statistics {
        let totals = self.ledger.totals();
        let detached = self.detached.load(Ordering::Relaxed);
        let out = (0..self.capacity() as u32).filter(|index| self.is_out(*index)).count();
        let sum = |counter: fn(&Tally) -> &AtomicU64| {
            self.tallies.iter().map(|tally| counter(tally).load(Ordering::Relaxed)).sum()
        };
        Statistics {
            hits: totals.pops,
            misses: sum(|t| &t.misses),
            waits: sum(|t| &t.waits),
            steals: sum(|t| &t.steals),
            remote_pushes: sum(|t| &t.remote_pushes),
            in_use: out.saturating_sub(detached),
            detached,
            high_water: totals.ever_out,
        }
    }

    fn is_out(&self, index: u32) -> bool {
        if self.list.is_fast() {
            self.list.popped_on(index).is_some()
        } else {
            self.ledger.is_out(index)
        }
    }

    /// See [`Pool::capacity`].
    pub fn capacity(&self) -> usize {
        self.objects.capacity()
    }

    /// See [`Pool::layout`].
    pub fn layout(&self) -> Layout {
        self.objects.layout()
    }
}

impl<L: FreeList> Pool for RawPool<L> {
    fn pop(&self) -> Option<NonNull<u8>> {
        self.pop()
    }

    fn pop_wait(&self) -> Option<NonNull<u8>> {
        self.pop_wait()
    }

    fn pop_timeout(&self, time: Duration) -> Option<NonNull<u8>> {
        self.pop_timeout(time)
    }

    unsafe fn push(&self, object: NonNull<u8>) -> Result<(), PushError> {
        // SAFETY: the caller's promise is the same.
        unsafe { self.push(object) }
    }

    fn close(&self) {
        self.close();
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }

    fn statistics(&self) -> Statistics {
        self.statistics()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn layout(&self) -> Layout {
        self.layout()
    }

    fn name(&self) -> &'static str {
        L::NAME
    }
}

/// One part of what `remaining` counts; dropping it takes that off.
struct Share<'p, L: FreeList>(&'p RawPool<L>);

impl<L: FreeList> Drop for Share<'_, L> {
    fn drop(&mut self) {
        self.0.one_less();
    }
}

/// Dropped only while a destructor's panic unwinds: as for a `Vec`, the other objects are dropped
/// all the same, and a second panic ends the process.
struct Rest<'p, L: FreeList>(&'p RawPool<L>);

impl<L: FreeList> Drop for Rest<'_, L> {
    fn drop(&mut self) {
        self.0.drain();
    }
}

/// Runs the release callback at the end of the pool's drop, however that ends.
struct Last<'p, L: FreeList>(&'p RawPool<L>);

impl<L: FreeList> Drop for Last<'_, L> {
    fn drop(&mut self) {
        // SAFETY: made by the pool's drop, so that nobody else has the pool.
        if let Some(release) = self.0.release.with_mut(|release| unsafe { (*release).take() }) {
            release();
        }
    }
}

impl<L: FreeList> Drop for RawPool<L> {
    /// Closes the pool. Objects that are still out are not dropped, their memory is freed; the
    /// release callback has run when this returns.
    fn drop(&mut self) {
        let _last = Last(self);
        self.close();
    }
}

impl<L: FreeList> fmt::Debug for RawPool<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawPool")
            .field("list", &L::NAME)
            .field("capacity", &self.capacity())
            .field("layout", &self.layout())
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}
