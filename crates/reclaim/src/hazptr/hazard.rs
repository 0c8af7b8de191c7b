//! One hazard slot in the hand of a thread: the operations that kept and scoped holders share.
#![allow(unsafe_code)]

use super::block::{self, BlockRef};
use super::slot::{Slot, is_no_object};
use super::thread;
use crate::asymmetric::{Asymmetric, Fences, unlikely};
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr;
use percpu::sync::atomic::AtomicPtr;

/// A hazard slot, to protect one object at a time. Got from a [`HazardPointer`] or from
/// [`scope`](super::scope).
///
/// The reference that a `protect` returns borrows the `Hazard`, so that neither a later `protect`
/// nor [`reset`](Self::reset) can end the protection under it. Two `Hazard`s of the same kind can
/// exchange what they protect by [`core::mem::swap`]: the slots change hands, and no protection is
/// ever copied from one slot to another.
///
/// ```compile_fail,E0499
/// # use reclaim::hazptr::HazardPointer;
/// # use std::sync::atomic::AtomicPtr;
/// # fn f(src: &AtomicPtr<u32>) {
/// let mut hp = HazardPointer::new();
/// let object = unsafe { hp.protect(src) };
/// hp.reset(); // ends the protection that `object` needs
/// println!("{object:?}");
/// # }
/// ```
/// ```compile_fail,E0505
/// # use reclaim::hazptr::HazardPointer;
/// # use std::sync::atomic::AtomicPtr;
/// # fn f(src: &AtomicPtr<u32>) {
/// let mut hp = HazardPointer::new();
/// let object = unsafe { hp.protect(src) };
/// drop(hp);
/// println!("{object:?}");
/// # }
/// ```
pub struct Hazard<'s> {
    pub(super) block: BlockRef,
    pub(super) index: usize,
    slot: MarkedSlot,
    /// Invariant, so that the slots of two scopes cannot be exchanged; a raw pointer, so that it
    /// stays on its thread.
    _scope: PhantomData<*mut &'s ()>,
}

/// A slot's address, marked in the top bit (clear in addresses of user space) where `light()` has
/// to be a full fence. One word, because behind a fence the compiler loads whatever it needs of a
/// holder again.
#[derive(Clone, Copy)]
struct MarkedSlot(*const Slot);

const MARK: usize = 1 << (usize::BITS - 1);

impl MarkedSlot {
    #[inline(always)]
    fn new(slot: &'static Slot, fences: Asymmetric) -> Self {
        let mark = if fences.is_symmetric() { MARK } else { 0 };
        Self(ptr::from_ref(slot).map_addr(|a| a | mark))
    }

    #[inline(always)]
    fn get(self) -> &'static Slot {
        // SAFETY: `new` got it from a static reference, and the mark is taken off.
        unsafe { &*self.0.map_addr(|a| a & !MARK) }
    }

    #[inline(always)]
    fn split(self) -> (&'static Slot, Asymmetric) {
        if (self.0.addr() as isize) < 0 {
            unlikely();
            return (self.get(), Asymmetric::SYMMETRIC);
        }
        // SAFETY: `new` got it from a static reference and did not mark it.
        (unsafe { &*self.0 }, Asymmetric::COMPILER)
    }
}

impl Hazard<'_> {
    /// A hazard for slot `index`, which the caller has to itself and has marked as idle if it is
    /// one of the scopes'.
    #[inline(always)]
    pub(super) fn new(block: BlockRef, index: usize, fences: Asymmetric) -> Self {
        Self {
            block,
            index,
            slot: MarkedSlot::new(&block.slots[index], fences),
            _scope: PhantomData,
        }
    }

    /// Protects the object that `src` points to; `None` when that is null. Loops while writers
    /// change `src` between its two looks; each turn means that a writer got on.
    ///
    /// # Context
    /// Signal-safe on a hazard that the handler made; never allocates, never blocks, makes no
    /// system call.
    ///
    /// # Safety
    /// Whatever non-null pointer `src` holds meanwhile points to a valid `T`, which is unlinked
    /// from `src` before it is retired, to a [`Domain`](super::Domain) or by way of
    /// [`synchronize`](super::synchronize), and which other threads may share (`T: Sync`, or the
    /// caller's care). A `T` of size zero lies where `Box` has put it, or where an object could
    /// lie: not at the last two addresses.
    #[inline(always)]
    pub unsafe fn protect<T>(&mut self, src: &AtomicPtr<T>) -> Option<&T> {
        let p = self.protect_ptr(src);
        // SAFETY: null, or announced and then found in `src` again: not retired by then, and not
        // reclaimed while announced. The borrow of `self` keeps it announced.
        unsafe { p.as_ref() }
    }

    /// Protects `p`, which the caller has loaded from `src` (and perhaps examined) before; one
    /// attempt.
    ///
    /// # Errors
    /// What `src` holds by now, if that is not `p`. Nothing is protected then.
    ///
    /// # Context
    /// As for [`protect`](Self::protect).
    ///
    /// # Safety
    /// As for [`protect`](Self::protect).
    #[inline(always)]
    pub unsafe fn try_protect<T>(
        &mut self,
        p: *mut T,
        src: &AtomicPtr<T>,
    ) -> Result<Option<&T>, *mut T> {
        let (slot, fences) = self.slot.split();
        match slot.try_protect(p, src, fences) {
            // SAFETY: as in `protect`.
            Ok(p) if !p.is_null() => Ok(unsafe { p.as_ref() }),
            other => {
                self.slot.get().idle();
                other.map(|_| None)
            }
        }
    }

    /// As [`protect`](Self::protect), in a bounded number of steps whatever writers do.
    ///
    /// While it runs (three instructions) it protects every object there is, so that rounds of
    /// reclaiming that look at that moment free nothing. Prefer `protect` unless a reader has a
    /// deadline: a thread that is preempted right there holds up all reclaiming until it runs
    /// again.
    ///
    /// # Context
    /// As for [`protect`](Self::protect).
    ///
    /// # Safety
    /// As for [`protect`](Self::protect).
    #[inline(always)]
    pub unsafe fn protect_wait_free<T>(&mut self, src: &AtomicPtr<T>) -> Option<&T> {
        let (slot, fences) = self.slot.split();
        let p = slot.protect_wait_free(src, fences);
        if p.is_null() {
            self.slot.get().idle();
        }
        // SAFETY: as in `protect`; between the two announcements the slot protected everything.
        unsafe { p.as_ref() }
    }

    /// Announces `p` and does nothing else: for structures that have checks of their own, such as
    /// marked pointers. After it, look again whether `p` is still reachable, with an `Acquire`
    /// load; only then is `p` protected. Null, and addresses where no object can be (the last two
    /// of the address space), protect nothing.
    #[inline(always)]
    pub fn announce<T>(&mut self, p: *const T) {
        if is_no_object(p) {
            return self.slot.get().idle();
        }
        let (slot, fences) = self.slot.split();
        slot.announce(p);
        // Pairs with `heavy()` in the rounds: see `slot.rs`.
        fences.light();
    }

    /// Ends the protection.
    #[inline(always)]
    pub fn reset(&mut self) {
        self.slot.get().idle();
    }

    #[inline(always)]
    pub(super) fn protect_ptr<T>(&mut self, src: &AtomicPtr<T>) -> *mut T {
        let (slot, fences) = self.slot.split();
        let p = slot.protect(src, fences);
        if p.is_null() {
            unlikely();
            // A null announcement says that nobody has the slot in hand.
            self.slot.get().idle();
        }
        p
    }
}

impl fmt::Debug for Hazard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hazard").field("seen", &self.slot.get().seen()).finish()
    }
}

/// A hazard slot for keeps: for a thread that protects objects again and again, or across function
/// calls.
///
/// Taking one costs two locked instructions; keep it. For a protection inside one function
/// [`scope`](super::scope) is cheaper. As many as memory allows. It stays on its thread;
/// [`Protected::detach`](super::Protected::detach) takes a protection to another.
///
/// # Examples
/// ```
/// use reclaim::hazptr::{Domain, HazardPointer};
/// use std::sync::atomic::{AtomicPtr, Ordering};
///
/// let domain = Domain::new();
/// let current = AtomicPtr::new(Box::into_raw(Box::new(String::from("a"))));
/// let mut hp = HazardPointer::new();
/// // SAFETY: `current` holds pointers from boxes, which are unlinked before they are retired.
/// let seen = unsafe { hp.protect(&current) }.unwrap();
///
/// let old = current.swap(Box::into_raw(Box::new(String::from("b"))), Ordering::AcqRel);
/// // SAFETY: from a box, unlinked, retired once.
/// unsafe { domain.retire_box(old) };
/// assert_eq!(domain.reclaim(), 0);
/// assert_eq!(seen, "a"); // still there
///
/// hp.reset();
/// assert_eq!(domain.reclaim(), 1);
/// # unsafe { domain.retire_box(current.into_inner()) };
/// ```
///
/// It does not leave its thread:
/// ```compile_fail,E0277
/// let hp = reclaim::hazptr::HazardPointer::new();
/// std::thread::spawn(move || drop(hp));
/// ```
#[derive(Debug)]
pub struct HazardPointer(Hazard<'static>);

/// The kernel has no memory for another block of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfSlots;

impl fmt::Display for OutOfSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory for another block of hazard slots")
    }
}

impl core::error::Error for OutOfSlots {}

impl HazardPointer {
    /// A holder with a slot of this thread.
    ///
    /// # Context
    /// Signal-safe after [`percpu::init`]; no malloc. One `mmap` when all slots ever made are in
    /// use.
    ///
    /// # Panics
    /// When the kernel has no memory for a slot; see [`try_new`](Self::try_new).
    #[expect(
        clippy::new_without_default,
        reason = "a default value that takes a slot would surprise"
    )]
    pub fn new() -> Self {
        match Self::try_new() {
            Ok(holder) => holder,
            Err(e) => panic!("{e}"),
        }
    }

    /// As [`new`](Self::new).
    ///
    /// # Errors
    /// [`OutOfSlots`] when the kernel has no memory.
    pub fn try_new() -> Result<Self, OutOfSlots> {
        let (block, index) = thread::take_slot().ok_or(OutOfSlots)?;
        Ok(Self::from_parts(block, index))
    }

    /// `N` holders at once, for structures whose traversal needs several protections.
    ///
    /// # Panics
    /// As for [`new`](Self::new).
    ///
    /// # Examples
    /// ```
    /// use reclaim::hazptr::HazardPointer;
    ///
    /// let [mut previous, mut current] = HazardPointer::array();
    /// // One step of a traversal: what was `current` is now protected as `previous`.
    /// std::mem::swap(&mut previous, &mut current);
    /// current.reset();
    /// # previous.reset();
    /// ```
    pub fn array<const N: usize>() -> [Self; N] {
        core::array::from_fn(|_| Self::new())
    }

    /// A holder for a slot just taken, or detached by another thread.
    pub(super) fn from_parts(block: BlockRef, index: usize) -> Self {
        Self(Hazard::new(block, index, Asymmetric::new()))
    }

    /// The slot, without giving it back.
    pub(super) fn into_parts(self) -> (BlockRef, usize) {
        let this = core::mem::ManuallyDrop::new(self);
        (this.0.block, this.0.index)
    }

    /// Protects what `src` holds, without tying it to a borrow.
    #[inline]
    pub(super) fn protect_raw<T>(&mut self, src: &AtomicPtr<T>) -> Option<ptr::NonNull<T>> {
        ptr::NonNull::new(self.0.protect_ptr(src))
    }
}

impl Deref for HazardPointer {
    type Target = Hazard<'static>;

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for HazardPointer {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Drop for HazardPointer {
    fn drop(&mut self) {
        block::give(self.0.block, self.0.index);
    }
}
