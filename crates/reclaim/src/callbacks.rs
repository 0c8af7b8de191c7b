//! Functions to call after a grace period, in the order in which they were queued.
//!
//! # The queue
//! `incoming` is a stack that anybody pushes on, signal handlers included. Everything behind it
//! belongs to the runner, the one thread that holds `runner`: it turns all of `incoming` into the
//! `batch` (oldest first), names the grace period that the whole batch waits for, and, once that is
//! over, takes heads off the batch and calls their functions. A head leaves the batch before its
//! function runs, because the function usually frees it.
//!
//! The runner is a role and no lock: nobody waits for it to be free, save `barrier`, whose caller
//! wants to know the callbacks done. In a fork child the role of a thread that did not come along
//! is taken over, with the rest of its batch. (The head whose function was running in that thread,
//! and what the thread had just taken off `incoming` within those few instructions, are lost to the
//! child.)
#![allow(unsafe_code)]

#[cfg(feature = "alloc")]
mod boxed;

use crate::backoff::Backoff;
use crate::panics::Panics;
use core::cell::Cell;
use core::fmt;
use core::ptr::{self, NonNull};
#[cfg(feature = "alloc")]
use percpu::sync::atomic::AtomicU32;
use percpu::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use percpu::{fork, thread};

/// What a callback is: it gets the head that it was queued with, and owns it.
pub type Callback = unsafe fn(NonNull<Head>);

/// The part of an object that queues it. Two words; nothing is allocated for queueing.
///
/// Make it a field of the object and compute the object from the pointer to the head; with
/// `#[repr(C)]` and the head first, that is a cast.
pub struct Head {
    next: Cell<*mut Head>,
    callback: Cell<Option<Callback>>,
}

// SAFETY: the cells have no safe access from outside, and inside only whoever owns the head at the
// time touches them: the caller of `push`, then the runner.
unsafe impl Send for Head {}
// SAFETY: likewise.
unsafe impl Sync for Head {}

impl Head {
    /// A head that is in no queue.
    pub const fn new() -> Self {
        Self { next: Cell::new(ptr::null_mut()), callback: Cell::new(None) }
    }
}

impl Default for Head {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").finish_non_exhaustive()
    }
}

/// Where a queue gets its grace periods from.
pub(crate) trait GracePeriods {
    /// Starts, or joins, a grace period that covers everything before the call.
    fn start(&self) -> u64;
    /// Whether it is over; moves it forward without waiting.
    fn poll(&self, cookie: u64) -> bool;
    /// Gives the calling thread a record, so that [`is_registered`](Self::is_registered) knows it.
    /// Best effort: a thread without one can still run callbacks.
    fn register(&self);
    /// Whether the thread with this number has a record and exists in this process.
    fn is_registered(&self, thread: u64) -> bool;
}

/// The callbacks of one domain.
pub(crate) struct Callbacks {
    incoming: AtomicPtr<Head>,
    /// For the runner. The heads that wait for `cookie`, oldest first, linked by `next`.
    batch: AtomicPtr<Head>,
    /// For the runner. What `batch` waits for.
    cookie: AtomicU64,
    /// 0: nobody runs callbacks; else the number of the thread that does.
    runner: AtomicU64,
    /// How many callbacks have panicked.
    panicked: AtomicU64,
    /// How many were queued by callbacks of this queue, wrapping.
    requeued: AtomicU64,
    /// How many boxes were queued, wrapping.
    #[cfg(feature = "alloc")]
    boxes: AtomicU32,
}

impl Callbacks {
    crate::policy::const_unless_modelled! {
        /// An empty queue.
        pub(crate) fn new() -> Self {
            Self {
                incoming: AtomicPtr::new(ptr::null_mut()),
                batch: AtomicPtr::new(ptr::null_mut()),
                cookie: AtomicU64::new(0),
                runner: AtomicU64::new(0),
                panicked: AtomicU64::new(0),
                requeued: AtomicU64::new(0),
                #[cfg(feature = "alloc")]
                boxes: AtomicU32::new(0),
            }
        }
    }

    /// Queues `head`.
    ///
    /// # Safety
    /// `head` is valid until its callback runs, is in no queue, and `callback` may be called with
    /// it once, on any thread.
    pub(crate) unsafe fn push(&self, head: NonNull<Head>, callback: Callback) {
        // SAFETY: valid, and the caller's until it is published below.
        let this = unsafe { head.as_ref() };
        this.callback.set(Some(callback));
        let mut newest = self.incoming.load(Ordering::Relaxed);
        loop {
            this.next.set(newest);
            // Release pairs with the Acquire in `refill`: the runner sees the head, and the grace
            // period that it starts then covers the unlinking.
            match self.incoming.compare_exchange_weak(
                newest,
                head.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => newest = now,
            }
        }
        // Behind the head, and out of line: nobody is running callbacks in the usual case, and then
        // this is one load of a line that is here. Relaxed: for one's own number, see `is_runner`.
        if self.runner.load(Ordering::Relaxed) != 0 {
            self.count_requeued();
        }
    }

    /// Counts what was just queued, if a callback did it.
    #[cold]
    #[inline(never)]
    fn count_requeued(&self) {
        if self.is_runner() {
            // Relaxed: a callback that `drain` waits for counts before it ends.
            self.requeued.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether anything is queued. A hint: callbacks may be running, or be pushed, meanwhile.
    pub(crate) fn is_empty(&self) -> bool {
        self.incoming.load(Ordering::Relaxed).is_null()
            && self.batch.load(Ordering::Relaxed).is_null()
    }

    /// How many callbacks have panicked.
    pub(crate) fn panicked(&self) -> u64 {
        // Relaxed: a statistic.
        self.panicked.load(Ordering::Relaxed)
    }

    /// Whether this thread is in a callback of this queue.
    fn is_runner(&self) -> bool {
        // Relaxed: compared with one's own number only, which this thread stored itself.
        self.runner.load(Ordering::Relaxed) == thread::id().get()
    }

    /// Runs the callbacks whose grace period is over, and starts a grace period for the next ones.
    /// Returns how many it ran; 0 if another thread, or this one further up its stack, is at it.
    /// Then the first panic of a callback goes on.
    pub(crate) fn run(&self, periods: &impl GracePeriods) -> usize {
        let mut panics = Panics::none();
        let ran = self.run_catching(periods, &mut panics);
        panics.resume();
        ran
    }

    /// As [`run`](Self::run), with the panics for the caller.
    pub(crate) fn run_catching(&self, periods: &impl GracePeriods, panics: &mut Panics) -> usize {
        // See `is_orphan`.
        periods.register();
        let Some(_role) = Role::take(&self.runner, periods) else { return 0 };
        let mut ran = 0;
        // The batch that waits, then what has come since; no more, or callbacks that queue
        // themselves again would keep the caller here.
        for _ in 0..2 {
            if self.batch.load(Ordering::Relaxed).is_null() && !self.refill(periods) {
                return ran;
            }
            if !periods.poll(self.cookie.load(Ordering::Relaxed)) {
                return ran;
            }
            ran += self.run_batch(panics);
        }
        // Their grace period begins now, so that they are due at the next call.
        self.refill(periods);
        ran
    }

    /// Waits until everything queued before has run, and runs it meanwhile. Then the first panic
    /// of a callback goes on.
    ///
    /// # Panics
    /// Called from a callback of this queue, which would wait for itself.
    pub(crate) fn barrier(&self, periods: &impl GracePeriods) {
        let mut panics = Panics::none();
        self.barrier_catching(periods, &mut panics);
        panics.resume();
    }

    /// Barriers until no callback has queued another.
    ///
    /// # Panics
    /// As [`barrier`](Self::barrier).
    pub(crate) fn drain(&self, periods: &impl GracePeriods) {
        let mut panics = Panics::none();
        loop {
            // Relaxed: ordered by the ends of the callbacks, which `barrier` waits for.
            let requeued = self.requeued.load(Ordering::Relaxed);
            self.barrier_catching(periods, &mut panics);
            if self.requeued.load(Ordering::Relaxed) == requeued {
                return panics.resume();
            }
        }
    }

    fn barrier_catching(&self, periods: &impl GracePeriods, panics: &mut Panics) {
        assert!(!self.is_runner(), "barrier called from a callback, which it would wait for");
        let place = Sentinel::take();
        let last: &Sentinel = place;
        // Relaxed: before it is queued.
        last.reached.store(false, Ordering::Relaxed);
        // SAFETY: sentinels live for ever, and this one is in no queue: it was free, or reached
        // before it was given back.
        unsafe { self.push(NonNull::from(last).cast(), Sentinel::reach) };
        self.wait(periods, last, panics);
        // Not by a guard: where a panic cannot be caught, and comes out of `wait`, the sentinel is
        // still queued, and is never given to anybody again.
        Sentinel::give_back(place);
    }

    /// Runs callbacks until the sentinel was reached.
    fn wait(&self, periods: &impl GracePeriods, last: &Sentinel, panics: &mut Panics) {
        let mut backoff = Backoff::new();
        loop {
            self.run_catching(periods, panics);
            // Acquire pairs with the Release in `reach`: what the callbacks before it did is done
            // for this thread too.
            if last.reached.load(Ordering::Acquire) {
                return;
            }
            backoff.wait();
        }
    }

    /// Runs everything, without grace periods. For the domain's drop: nobody can be reading. Then
    /// the first panic of a callback goes on.
    pub(crate) fn run_all(&mut self) {
        struct Over;
        impl GracePeriods for Over {
            fn start(&self) -> u64 {
                0
            }
            fn poll(&self, _cookie: u64) -> bool {
                true
            }
            // The domain is the caller's alone: whoever held the role is gone.
            fn register(&self) {}
            fn is_registered(&self, _thread: u64) -> bool {
                false
            }
        }
        /// Goes on where a panic cannot be caught.
        struct Rest<'a>(&'a Callbacks);
        impl Rest<'_> {
            fn run(&self, panics: &mut Panics) {
                while !self.0.is_empty() {
                    self.0.run_catching(&Over, panics);
                }
            }
        }
        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                self.run(&mut Panics::none());
            }
        }
        let mut panics = Panics::none();
        let rest = Rest(self);
        rest.run(&mut panics);
        drop(rest);
        panics.resume();
    }

    /// `incoming`, oldest first, becomes the batch. False: there was nothing.
    fn refill(&self, periods: &impl GracePeriods) -> bool {
        // Acquire pairs with the Release in `push`.
        let mut newest = self.incoming.swap(ptr::null_mut(), Ordering::Acquire);
        let mut oldest = ptr::null_mut();
        // SAFETY: heads are valid until their callbacks run, and the runner owns those that it took
        // off.
        while let Some(head) = unsafe { newest.as_ref() } {
            let next = head.next.replace(oldest);
            oldest = newest;
            newest = next;
        }
        if oldest.is_null() {
            return false;
        }
        self.cookie.store(periods.start(), Ordering::Relaxed);
        // Release pairs with the Acquire in `Role::take`: who takes the role over in a fork child
        // sees the heads and the cookie.
        self.batch.store(oldest, Ordering::Release);
        true
    }

    fn run_batch(&self, panics: &mut Panics) -> usize {
        let before = panics.count();
        let mut ran = 0;
        // After a panic the batch is what is left.
        while !panics.catch(|| self.run_heads(&mut ran)) {}
        // Relaxed: a statistic.
        self.panicked.fetch_add(panics.count() - before, Ordering::Relaxed);
        ran
    }

    fn run_heads(&self, ran: &mut usize) {
        while let Some(head) = NonNull::new(self.batch.load(Ordering::Relaxed)) {
            // SAFETY: heads of the batch are valid and belong to the runner.
            let this = unsafe { head.as_ref() };
            let callback = this.callback.take();
            self.batch.store(this.next.get(), Ordering::Relaxed);
            if let Some(callback) = callback {
                *ran += 1;
                // SAFETY: `push` was promised that the callback may be called once with this head;
                // the head is off the batch, so it is not called again.
                unsafe { callback(head) };
            }
        }
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").field("empty", &self.is_empty()).finish()
    }
}

/// A head that says when the runner has come to it.
///
/// Its memory is never given back: a barrier that unwinds, or that a fork leaves behind together
/// with the stack of its thread, leaves it queued.
#[derive(Debug, Default)]
#[repr(C)]
struct Sentinel {
    head: Head,
    reached: AtomicBool,
}

#[cfg(not(loom))]
type Place = percpu::Record<Sentinel>;
#[cfg(loom)]
type Place = Sentinel;

#[cfg(not(loom))]
static SENTINELS: percpu::Registry<Sentinel> = percpu::Registry::new();

impl Sentinel {
    /// One for the calling thread alone.
    #[cfg(not(loom))]
    fn take() -> &'static Place {
        match SENTINELS.acquire() {
            Some(place) => place,
            None => panic!("no memory to wait for callbacks"),
        }
    }

    #[cfg(not(loom))]
    fn give_back(this: &'static Place) {
        this.release();
    }

    /// Models have no statics that outlive them.
    #[cfg(loom)]
    fn take() -> &'static Place {
        std::boxed::Box::leak(std::boxed::Box::default())
    }

    #[cfg(loom)]
    fn give_back(this: &'static Place) {
        // SAFETY: from a box, and reached: nobody else has it.
        drop(unsafe { std::boxed::Box::from_raw(ptr::from_ref(this).cast_mut()) });
    }

    unsafe fn reach(head: NonNull<Head>) {
        // SAFETY: `barrier` queued the head of a sentinel, which is its first field; it lives for
        // ever, or until the store below.
        let this = unsafe { head.cast::<Self>().as_ref() };
        // Release pairs with the Acquire in `barrier`.
        this.reached.store(true, Ordering::Release);
    }
}

/// The runner's role, given back on drop, also when a callback panics.
struct Role<'a>(&'a AtomicU64);

impl<'a> Role<'a> {
    fn take(runner: &'a AtomicU64, periods: &impl GracePeriods) -> Option<Self> {
        let me = thread::id().get();
        let holder = runner.load(Ordering::Relaxed);
        if holder != 0 && !is_orphan(holder, periods) {
            return None;
        }
        // Acquire pairs with the Release in `drop`: the batch as the last runner left it.
        runner.compare_exchange(holder, me, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(Self(runner))
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `take`.
        self.0.store(0, Ordering::Release);
    }
}

/// Whether the thread that holds the role was left behind by a fork. The first process of a family
/// has no orphans; in a child, whoever took a role here is registered as a reader (`run` sees to
/// it), so that a number which no live record bears belongs to no thread.
fn is_orphan(holder: u64, periods: &impl GracePeriods) -> bool {
    fork::generation() > 1 && !periods.is_registered(holder)
}
