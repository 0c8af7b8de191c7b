//! An atomic pointer that owns what it points to, without unsafe code in its use.
//!
//! # Who has an object
//! [`Owned`]: one thread, nobody else can find it. In an [`AtomicOwned`]: all readers, by
//! protecting it. [`Unlinked`]: no reader can find it any more, and some may still read it; who has
//! the `Unlinked` reads it too and decides what becomes of it. An object goes from each to the next
//! and never back, save from `Unlinked` to `Owned` when it is known that nobody protects it.
//!
//! No ordering of its own: a load is [`Hazard::protect`], whose models are those of `slot.rs`;
//! writers publish with Release, which pairs with the Acquire there, and take over with Acquire.
#![allow(unsafe_code)]

use super::domain::Domain;
use super::hazard::Hazard;
use super::node::{self, Node};
use super::wait::{SelfProtected, try_synchronize};
use alloc::boxed::Box;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};
use percpu::sync::atomic::{AtomicPtr, Ordering};

/// A value that an [`AtomicOwned`] can take: in a box, with room for what retires it. One thread's
/// alone.
pub struct Owned<T>(Box<Node<T>>);

impl<T> Owned<T> {
    /// Puts `value` in a box.
    ///
    /// # Context
    /// Allocates.
    pub fn new(value: T) -> Self {
        Self(Node::boxed(value))
    }

    /// Takes the value out of its box.
    pub fn into_inner(self) -> T {
        self.0.value
    }

    fn into_raw(this: Option<Self>) -> *mut Node<T> {
        this.map_or(ptr::null_mut(), |owned| Box::into_raw(owned.0))
    }

    /// # Safety
    /// Null, or from [`into_raw`](Self::into_raw), and nobody else has it.
    unsafe fn from_raw(node: *mut Node<T>) -> Option<Self> {
        // SAFETY: the caller's promise, where it is not null.
        (!node.is_null()).then(|| Self(unsafe { Box::from_raw(node) }))
    }
}

impl<T> From<T> for Owned<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> DerefMut for Owned<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Owned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Owned").field(&**self).finish()
    }
}

/// An object that was taken out of its [`AtomicOwned`] and that readers may still protect. Dropping
/// it retires it to the [global domain](Domain::global).
#[must_use = "dropping it retires the object at once"]
pub struct Unlinked<T: Send + Sync + 'static>(NonNull<Node<T>>);

// SAFETY: the object is only shared, and retired from whichever thread.
unsafe impl<T: Send + Sync + 'static> Send for Unlinked<T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync + 'static> Sync for Unlinked<T> {}

impl<T: Send + Sync + 'static> Unlinked<T> {
    /// Retires it to the global domain: it is dropped once nobody protects it.
    ///
    /// # Context
    /// May run deleters (see [`Domain::retire`]).
    pub fn retire(self) {
        self.retire_to(Domain::global());
    }

    /// Retires it to `domain`.
    ///
    /// # Context
    /// May run deleters (see [`Domain::retire`]).
    pub fn retire_to(self, domain: &Domain) {
        let node = ManuallyDrop::new(self).0;
        // SAFETY: unlinked, as every `Unlinked` is, and given up here.
        unsafe { node::retire(node.as_ptr(), domain) };
    }

    /// Waits until nobody protects it, and has it back as one's own.
    ///
    /// # Errors
    /// The object, when the calling thread protects it itself and would wait for ever.
    ///
    /// # Context
    /// Blocks until the readers that protect it are done; one system call per look. Not for signal
    /// handlers.
    pub fn wait(self) -> Result<Owned<T>, Self> {
        // Readers announce the node's address.
        match try_synchronize(self.0.as_ptr()) {
            Ok(()) => {
                let node = ManuallyDrop::new(self).0;
                // SAFETY: from `into_raw`; no reader can find it, and none protects it.
                Ok(Owned(unsafe { Box::from_raw(node.as_ptr()) }))
            }
            Err(SelfProtected) => Err(self),
        }
    }

    /// # Safety
    /// Null, or from [`Owned::into_raw`] and unlinked by the caller.
    unsafe fn from_raw(node: *mut Node<T>) -> Option<Self> {
        NonNull::new(node).map(Self)
    }
}

impl<T: Send + Sync + 'static> Deref for Unlinked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it is not retired before this is dropped or given up.
        &unsafe { self.0.as_ref() }.value
    }
}

impl<T: Send + Sync + 'static> Drop for Unlinked<T> {
    fn drop(&mut self) {
        // SAFETY: unlinked, and gone after this.
        unsafe { node::retire(self.0.as_ptr(), Domain::global()) };
    }
}

impl<T: fmt::Debug + Send + Sync + 'static> fmt::Debug for Unlinked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unlinked").field(&**self).finish()
    }
}

/// An atomic pointer that owns its object, or null: the building block of lock-free structures that
/// replace objects as a whole, without unsafe code. Readers load under a [`Hazard`]; writers swap
/// or compare and exchange, and get what was there as [`Unlinked`].
///
/// [`Shared`](super::Shared) is the same for who only stores; crossbeam's `Atomic` and haphazard's
/// `AtomicPtr` are the relatives.
///
/// # Examples
/// ```
/// use reclaim::hazptr::{AtomicOwned, HazardPointer, Owned};
///
/// let current = AtomicOwned::new(String::from("a"));
/// let mut hp = HazardPointer::new();
///
/// // Replace what was read, unless somebody else was faster.
/// let seen = current.load(&mut hp);
/// let next = Owned::new(format!("{}b", seen.unwrap()));
/// let old = current.compare_exchange(seen, Some(next)).expect("nobody else is here");
/// assert_eq!(seen.unwrap(), "a"); // protected, whatever becomes of it
/// old.unwrap().retire();
///
/// assert_eq!(current.load(&mut hp).unwrap(), "ab");
/// let last = current.take().unwrap();
/// hp.reset();
/// assert_eq!(last.wait().unwrap().into_inner(), "ab"); // nobody reads it: ours again
/// ```
///
/// What was loaded is good until the holder is used again, and does not outlive it:
/// ```compile_fail,E0499
/// # use reclaim::hazptr::{AtomicOwned, HazardPointer};
/// # let current = AtomicOwned::new(1);
/// let mut hp = HazardPointer::new();
/// let seen = current.load(&mut hp);
/// current.load(&mut hp);
/// println!("{seen:?}");
/// ```
/// Values are dropped on whichever thread reclaims, and shared by readers:
/// ```compile_fail,E0277
/// reclaim::hazptr::AtomicOwned::new(std::cell::Cell::new(1));
/// ```
pub struct AtomicOwned<T: Send + Sync + 'static>(AtomicPtr<Node<T>>);

impl<T: Send + Sync + 'static> AtomicOwned<T> {
    /// One that points to `value`.
    ///
    /// # Context
    /// Allocates.
    pub fn new(value: T) -> Self {
        Self::from(Owned::new(value))
    }

    /// One that points to nothing.
    pub const fn null() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The object, protected by `hazard`; `None` when it points to nothing.
    ///
    /// # Context
    /// As for [`Hazard::protect`].
    #[inline(always)]
    pub fn load<'h>(&self, hazard: &'h mut Hazard<'_>) -> Option<&'h T> {
        // SAFETY: it holds pointers from boxes, which are unlinked before they are retired: who
        // unlinks one has an `Unlinked`, and that is what is retired.
        unsafe { hazard.protect(&self.0) }.map(|node| &node.value)
    }

    /// Whether it points to nothing, at some moment.
    pub fn is_null(&self) -> bool {
        // Relaxed: says nothing of the object.
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Puts `new` there, and gives what was there.
    ///
    /// # Context
    /// Signal-safe, lock-free.
    pub fn swap(&self, new: Option<Owned<T>>) -> Option<Unlinked<T>> {
        // Release pairs with the Acquire in `protect`; Acquire, because the old node is ours now.
        let old = self.0.swap(Owned::into_raw(new), Ordering::AcqRel);
        // SAFETY: the swap has unlinked it.
        unsafe { Unlinked::from_raw(old) }
    }

    /// Puts `value` there, and retires what was there.
    ///
    /// # Context
    /// Allocates; may run deleters (see [`Domain::retire`]).
    pub fn store(&self, value: T) {
        drop(self.swap(Some(Owned::new(value))));
    }

    /// Leaves nothing there, and gives what was there.
    ///
    /// # Context
    /// Signal-safe, lock-free.
    pub fn take(&self) -> Option<Unlinked<T>> {
        self.swap(None)
    }

    /// Puts `new` there if it points to `current`: the very object, not an equal one. Gives what
    /// was there, which is `current`.
    ///
    /// A `current` that was [loaded](Self::load) is protected, so that it cannot have been freed,
    /// and its address used again, meanwhile (the ABA problem).
    ///
    /// # Errors
    /// `new`, if something else is there.
    ///
    /// # Context
    /// Signal-safe, lock-free.
    pub fn compare_exchange(
        &self,
        current: Option<&T>,
        new: Option<Owned<T>>,
    ) -> Result<Option<Unlinked<T>>, Option<Owned<T>>> {
        let expected = current.map_or(ptr::null_mut(), Node::of_value);
        let new = Owned::into_raw(new);
        // Release pairs with the Acquire in `protect`; Acquire, because the old node is ours now.
        // What was found instead is not looked at.
        match self.0.compare_exchange(expected, new, Ordering::AcqRel, Ordering::Relaxed) {
            // SAFETY: the exchange has unlinked it.
            Ok(old) => Ok(unsafe { Unlinked::from_raw(old) }),
            // SAFETY: from the line above, and not published.
            Err(_) => Err(unsafe { Owned::from_raw(new) }),
        }
    }

    /// Replaces the object by what `next` makes of it, again and again until no other writer came
    /// between; gives what was there. `None` from `next` leaves it as it is, and gives `None`.
    ///
    /// # Context
    /// Allocates as `next` does; lock-free.
    pub fn update(
        &self,
        hazard: &mut Hazard<'_>,
        mut next: impl FnMut(Option<&T>) -> Option<Owned<T>>,
    ) -> Option<Unlinked<T>> {
        loop {
            let seen = self.load(hazard);
            let new = next(seen)?;
            if let Ok(old) = self.compare_exchange(seen, Some(new)) {
                hazard.reset();
                return old;
            }
        }
    }
}

impl<T: Send + Sync + 'static> From<Owned<T>> for AtomicOwned<T> {
    fn from(owned: Owned<T>) -> Self {
        Self(AtomicPtr::new(Owned::into_raw(Some(owned))))
    }
}

impl<T: Send + Sync + 'static> Drop for AtomicOwned<T> {
    fn drop(&mut self) {
        // Readers may still protect the object: it is retired, not dropped.
        drop(self.take());
    }
}

impl<T: Send + Sync + 'static> Default for AtomicOwned<T> {
    fn default() -> Self {
        Self::null()
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for AtomicOwned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicOwned").field("null", &self.is_null()).finish_non_exhaustive()
    }
}
