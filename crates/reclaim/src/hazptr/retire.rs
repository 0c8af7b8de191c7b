//! Retiring: the ways to put an unlinked object on a domain's lists, and what runs when it comes
//! off them.
#![allow(unsafe_code)]

use super::domain::Domain;
use super::head::{Deleter, Head, Retirable};
use super::lists::Refused;
use super::owner::{Owner, OwnerRef};
use super::thread;
use percpu::sync::atomic::Ordering;

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

impl Domain {
    /// Retires an object: it is reclaimed ([`Retirable::reclaim`]) once nobody protects it.
    ///
    /// # Context
    /// Allocates nothing itself and takes no lock. May run deleters, of this object and of others,
    /// under [`Policy::Inline`](super::Policy::Inline) (and `Helper` at twice the limit): not for
    /// signal handlers, which use [`retire_deferred`](Self::retire_deferred). One system call per
    /// round.
    ///
    /// # Panics
    /// When a deleter that it runs does, after the others have run: the first panic goes on here.
    ///
    /// # Safety
    /// - `object` is valid and no new reader can find it: it was unlinked from everything that
    ///   readers load from.
    /// - Readers access it only while a hazard slot protects it.
    /// - It is retired once, and [`Retirable::reclaim`] may be called on it (for
    ///   [`retirable!`](crate::retirable): it came from a `Box`).
    ///
    /// # Examples
    /// ```
    /// use reclaim::hazptr::{Domain, Head};
    /// use std::ptr;
    /// use std::sync::atomic::{AtomicPtr, Ordering};
    ///
    /// struct Route {
    ///     head: Head,
    ///     port: u16,
    /// }
    /// reclaim::retirable!(Route, head);
    ///
    /// let route = Box::new(Route { head: Head::new(), port: 80 });
    /// let current = AtomicPtr::new(Box::into_raw(route));
    /// // Unlink, then retire.
    /// let old = current.swap(ptr::null_mut(), Ordering::AcqRel);
    /// // SAFETY: `old` came from a box, is unlinked, and is retired once.
    /// unsafe { Domain::global().retire(old) };
    /// ```
    #[inline]
    pub unsafe fn retire<T: Retirable>(&self, object: *mut T) {
        // SAFETY: the caller's promises are those of `add`; `reclaim_as` is the type's own deleter.
        if unsafe { self.add(T::head(object), object.cast(), reclaim_as::<T>, None) } {
            self.relieve();
        }
    }

    /// As [`retire`](Self::retire), but only puts the object on its list: no deleter runs, whatever
    /// the policy.
    ///
    /// The next `retire`, [`reclaim`](Self::reclaim) or helper does the rest.
    ///
    /// # Context
    /// Signal-safe in a thread that has used hazard pointers before, or after [`percpu::init`];
    /// lock-free; never allocates, makes no system call.
    ///
    /// # Safety
    /// As for [`retire`](Self::retire).
    #[inline]
    pub unsafe fn retire_deferred<T: Retirable>(&self, object: *mut T) {
        // SAFETY: the caller's promises are those of `add`.
        unsafe { self.add(T::head(object), object.cast(), reclaim_as::<T>, None) };
    }

    /// As [`retire`](Self::retire), with a deleter of the caller's instead of
    /// [`Retirable::reclaim`]: back to a pool, say.
    ///
    /// `deleter` captures nothing (checked at compile time): it gets the object, and whatever else
    /// it needs it finds there.
    ///
    /// # Context
    /// As for [`retire`](Self::retire).
    ///
    /// # Safety
    /// As for [`retire`](Self::retire), where `deleter` takes the place of [`Retirable::reclaim`].
    #[inline]
    pub unsafe fn retire_with<T: Retirable, F: Fn(*mut T) + Copy + Send + 'static>(
        &self,
        object: *mut T,
        deleter: F,
    ) {
        const {
            assert!(
                size_of::<F>() == 0,
                "the deleter must not capture anything: there is no room for it in a head"
            )
        };
        let _ = deleter;
        // SAFETY: the caller's promises are those of `add`; a value of the zero-sized `F` was
        // given.
        if unsafe { self.add(T::head(object), object.cast(), delete_with::<T, F>, None) } {
            self.relieve();
        }
    }

    /// As [`retire`](Self::retire), in the name of `owner`, for
    /// [`reclaim_owner`](Self::reclaim_owner).
    ///
    /// # Context
    /// As for [`retire`](Self::retire).
    ///
    /// # Safety
    /// As for [`retire`](Self::retire).
    #[inline]
    pub unsafe fn retire_for<T: Retirable>(&self, object: *mut T, owner: &Owner) {
        // SAFETY: the caller's promises are those of `add`; the share is this object's.
        if unsafe { self.add(T::head(object), object.cast(), reclaim_as::<T>, Some(owner.share())) }
        {
            self.relieve();
        }
    }

    /// Retires an object that has no [`Head`] inside; it is dropped with its box once nobody
    /// protects it.
    ///
    /// # Context
    /// Allocates 32 bytes for the head, else as for [`retire`](Self::retire).
    ///
    /// # Safety
    /// As for [`retire`](Self::retire); `object` came from `Box::into_raw`.
    ///
    /// # Examples
    /// ```
    /// use reclaim::hazptr::Domain;
    /// use std::sync::atomic::{AtomicPtr, Ordering};
    ///
    /// let config = AtomicPtr::new(Box::into_raw(Box::new(String::from("old"))));
    /// let old = config.swap(Box::into_raw(Box::new(String::from("new"))), Ordering::AcqRel);
    /// // SAFETY: `old` came from a box, is unlinked, and is retired once.
    /// unsafe { Domain::global().retire_box(old) };
    /// # let last = config.swap(std::ptr::null_mut(), Ordering::AcqRel);
    /// # unsafe { Domain::global().retire_box(last) };
    /// ```
    #[cfg(feature = "alloc")]
    pub unsafe fn retire_box<T: Send + 'static>(&self, object: *mut T) {
        let ticket = Box::into_raw(Box::new(Ticket {
            head: Head::new(),
            object: core::marker::PhantomData::<T>,
        }));
        // SAFETY: the ticket was just made; no reference to it exists.
        let head = unsafe { &raw mut (*ticket).head };
        // SAFETY: the caller's promises are those of `add`; the ticket's head is used for this
        // object only.
        if unsafe { self.add(head, object.cast(), delete_ticket::<T>, None) } {
            self.relieve();
        }
    }

    /// Puts an object on this thread's list. True: the domain has reached its limit.
    ///
    /// # Safety
    /// As for [`retire`](Self::retire); `head` lies where `deleter` looks for it, is used for
    /// nothing else, and `deleter` may be called with it.
    #[inline]
    unsafe fn add(
        &self,
        head: *mut Head,
        object: *mut (),
        deleter: Deleter,
        owner: Option<OwnerRef>,
    ) -> bool {
        debug_assert!(head.is_aligned(), "a head where alignment has been forgone");
        // SAFETY: the object is retired once, so nobody else touches its head.
        unsafe { Head::prepare(head, object, deleter, owner) };
        let (shard, mask) = match thread::main_block() {
            Some(block) => {
                (block.shard.load(Ordering::Relaxed), block.batch_mask.load(Ordering::Relaxed))
            }
            None => (0, thread::batch() as u64 - 1),
        };
        // There is no shard beyond the lists. To ask for it is cheaper than to take the last
        // instead.
        let pushed = match self.lists.get(shard) {
            // SAFETY: the head was prepared and is on no list.
            Some(list) => unsafe { list.push(head) },
            None => Err(Refused),
        };
        match pushed {
            Ok(len) if len & mask != 0 => false,
            Ok(_) => self.count(mask as usize + 1),
            Err(Refused) => {
                // SAFETY: a chain of one, still ours after the refusal.
                unsafe { self.kept.push_chain(head, head) };
                self.count(1)
            }
        }
    }
}

/// # Safety
/// The head was prepared for a `T` that may be reclaimed.
unsafe fn reclaim_as<T: Retirable>(head: *mut Head) {
    // SAFETY: the caller's promise.
    let object = unsafe { Head::object(head) };
    // SAFETY: likewise; `retire` was given a `*mut T`.
    unsafe { T::reclaim(object.cast()) };
}

/// # Safety
/// The head was prepared for a `T` that may be given to a value of `F`, and such a value exists.
unsafe fn delete_with<T, F: Fn(*mut T)>(head: *mut Head) {
    // SAFETY: the caller's promise.
    let object = unsafe { Head::object(head) };
    // SAFETY: `F` is zero-sized (asserted in `retire_with`), `Copy` and `Send`, and a value of it
    // was given: this is another copy.
    let deleter = unsafe { core::mem::MaybeUninit::<F>::zeroed().assume_init() };
    deleter(object.cast());
}

/// The head of an object that has none inside.
#[cfg(feature = "alloc")]
#[repr(C)]
struct Ticket<T> {
    head: Head,
    object: core::marker::PhantomData<T>,
}

/// # Safety
/// The head is that of a `Ticket<T>` from a box, prepared for a `T` from a box that may be dropped.
#[cfg(feature = "alloc")]
unsafe fn delete_ticket<T>(head: *mut Head) {
    // SAFETY: the caller's promise.
    let object = unsafe { Head::object(head) };
    // SAFETY: the head is the first field of the ticket, which came from a box.
    drop(unsafe { Box::from_raw(head.cast::<Ticket<T>>()) });
    // SAFETY: `retire_box` was given a pointer from a box.
    drop(unsafe { Box::from_raw(object.cast::<T>()) });
}
