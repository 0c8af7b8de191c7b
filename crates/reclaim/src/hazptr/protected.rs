//! A protected object that can be kept, moved, and handed to another thread.
//!
//! A hand-off moves no announcement from slot to slot (a round that read the new slot before and
//! the old one after would miss it): the slot itself changes hands. It stays where it is, in a
//! block of the thread that made it, and is given back there by whoever drops it.
#![allow(unsafe_code)]

use super::hazard::HazardPointer;
use super::{block::BlockRef, thread};
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;
use percpu::sync::atomic::AtomicPtr;

/// A holder together with the object it protects: a reference without a borrow. Dropping it ends
/// the protection and gives the slot back.
///
/// Moving it moves the protection, which is how a traversal passes `current` on to `previous`.
///
/// # Examples
/// ```
/// use reclaim::hazptr::{Domain, HazardPointer};
/// use std::sync::atomic::{AtomicPtr, Ordering};
///
/// let current = AtomicPtr::new(Box::into_raw(Box::new(String::from("a"))));
/// // SAFETY: `current` holds pointers from boxes, which are unlinked before they are retired.
/// let object = unsafe { HazardPointer::new().protect_owned(&current) }.unwrap();
/// let token = object.detach();
///
/// let there = std::thread::spawn(move || {
///     let object = token.attach(); // still protected; nothing was copied
///     object.len()
/// });
/// assert_eq!(there.join().unwrap(), 1);
/// # unsafe { Domain::global().retire_box(current.into_inner()) };
/// ```
pub struct Protected<T> {
    holder: HazardPointer,
    object: NonNull<T>,
}

impl HazardPointer {
    /// As [`protect`](super::Hazard::protect), giving up the holder to the result. The holder comes
    /// back if `src` is null.
    ///
    /// # Errors
    /// The holder, when `src` is null.
    ///
    /// # Safety
    /// As for [`protect`](super::Hazard::protect).
    #[inline]
    pub unsafe fn protect_owned<T>(mut self, src: &AtomicPtr<T>) -> Result<Protected<T>, Self> {
        match self.protect_raw(src) {
            Some(object) => Ok(Protected { holder: self, object }),
            None => Err(self),
        }
    }
}

impl<T> Protected<T> {
    /// Ends the protection and returns the holder.
    #[inline]
    pub fn into_holder(mut self) -> HazardPointer {
        self.holder.reset();
        self.holder
    }

    /// Makes it ready to go to another thread. The protection goes on all the while.
    ///
    /// # Context
    /// Signal-safe, never allocates.
    pub fn detach(self) -> Detached<T> {
        let (block, index) = self.holder.into_parts();
        block.detach(index);
        Detached { block, index, object: self.object }
    }
}

impl<T> Deref for Protected<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: `protect_owned` protected the object in the slot that `self` holds, and the slot
        // was not touched since.
        unsafe { self.object.as_ref() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Protected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Protected").field(&**self).finish()
    }
}

/// A protected object on its way between threads. Dropping it ends the protection; in a fork child
/// it goes on counting, because it may be found and attached there.
///
/// `T` must be shareable, because the thread that published the object may still look at it:
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// fn f(token: reclaim::hazptr::Detached<std::cell::Cell<u32>>) {
///     send(token);
/// }
/// ```
pub struct Detached<T> {
    block: BlockRef,
    index: usize,
    object: NonNull<T>,
}

// SAFETY: the slot can be emptied and given back on any thread, and the object is only shared.
unsafe impl<T: Sync> Send for Detached<T> {}
// SAFETY: a shared `Detached` gives access to nothing.
unsafe impl<T: Sync> Sync for Detached<T> {}

impl<T> Detached<T> {
    /// Goes on with it on this thread.
    ///
    /// # Context
    /// Signal-safe in a thread that has used hazard pointers before; never allocates there.
    pub fn attach(self) -> Protected<T> {
        let this = ManuallyDrop::new(self);
        // Without a block of its own (no memory) the thread leaves the slot detached, which
        // protects as well and is only kept longer in a fork child.
        if let Some(main) = thread::main_block() {
            this.block.attach(this.index, main);
        }
        Protected { holder: HazardPointer::from_parts(this.block, this.index), object: this.object }
    }
}

impl<T> Drop for Detached<T> {
    fn drop(&mut self) {
        drop(HazardPointer::from_parts(self.block, self.index));
    }
}

impl<T> fmt::Debug for Detached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Detached").field(&self.object).finish()
    }
}
