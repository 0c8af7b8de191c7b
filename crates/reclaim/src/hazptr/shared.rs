//! A pointer cell without unsafe code in its use: one current value, readers that never wait, old
//! values reclaimed when nobody reads them.
#![allow(unsafe_code)]

use super::domain::Domain;
use super::hazard::Hazard;
use super::node::{self, Node};
use alloc::boxed::Box;
use core::fmt;
use core::ptr;
use percpu::sync::atomic::{AtomicPtr, Ordering};

/// A cell that holds at most one `T`, replaced as a whole. Replaced values go to the [global
/// domain](Domain::global). Who wants to have what was replaced, or to compare and exchange, takes
/// [`AtomicOwned`](super::AtomicOwned).
///
/// # Examples
/// ```
/// use reclaim::hazptr::{HazardPointer, Shared};
///
/// let config = Shared::new(String::from("v1"));
/// let mut hp = HazardPointer::new();
/// let seen = config.load(&mut hp).unwrap();
/// config.store(String::from("v2"));
/// assert_eq!(seen, "v1"); // protected
/// assert_eq!(config.load(&mut hp).unwrap(), "v2");
/// ```
///
/// What was loaded is good until the holder is used again:
/// ```compile_fail,E0499
/// # use reclaim::hazptr::{HazardPointer, Shared};
/// # let config = Shared::new(1);
/// let mut hp = HazardPointer::new();
/// let seen = config.load(&mut hp);
/// hp.reset();
/// println!("{seen:?}");
/// ```
///
/// Values are dropped on whichever thread reclaims, so they have to be `Send`; readers share them,
/// so they have to be `Sync`:
/// ```compile_fail,E0277
/// reclaim::hazptr::Shared::new(std::rc::Rc::new(1));
/// ```
pub struct Shared<T: Send + Sync + 'static> {
    current: AtomicPtr<Node<T>>,
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// A cell that holds `value`.
    pub fn new(value: T) -> Self {
        Self { current: AtomicPtr::new(boxed(value)) }
    }

    /// A cell that holds nothing.
    pub const fn empty() -> Self {
        Self { current: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The current value, protected by `hazard`.
    ///
    /// # Context
    /// As for [`Hazard::protect`].
    #[inline(always)]
    pub fn load<'h>(&self, hazard: &'h mut Hazard<'_>) -> Option<&'h T> {
        // SAFETY: `current` holds pointers from boxes; they are unlinked before they are retired,
        // in `replace` and `drop`.
        unsafe { hazard.protect(&self.current) }.map(|node| &node.value)
    }

    /// Replaces the value and retires the old one.
    ///
    /// # Context
    /// Allocates; may run deleters (see [`Domain::retire`]).
    pub fn store(&self, value: T) {
        self.replace(boxed(value));
    }

    /// Removes the value and retires it.
    ///
    /// # Context
    /// May run deleters (see [`Domain::retire`]).
    pub fn clear(&self) {
        self.replace(ptr::null_mut());
    }

    /// Replaces the value by what `next` makes of it, again and again until no other writer came
    /// between. `None` from `next` leaves the cell as it is.
    ///
    /// # Context
    /// Allocates; may run deleters (see [`Domain::retire`]).
    pub fn update(&self, hazard: &mut Hazard<'_>, mut next: impl FnMut(Option<&T>) -> Option<T>) {
        loop {
            // SAFETY: as in `load`.
            let seen = unsafe { hazard.protect(&self.current) };
            let old = seen.map_or(ptr::null_mut(), |node| ptr::from_ref(node).cast_mut());
            let Some(value) = next(seen.map(|node| &node.value)) else { return };
            let new = boxed(value);
            // Release pairs with the Acquire in `protect`. That `old` is protected rules out that
            // it was freed and its address used again.
            match self.current.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(old) => {
                    hazard.reset();
                    return retire(old);
                }
                // SAFETY: `new` was not published.
                Err(_) => drop(unsafe { Box::from_raw(new) }),
            }
        }
    }

    fn replace(&self, new: *mut Node<T>) {
        // Release pairs with the Acquire in `protect`; Acquire, because the old node is ours now.
        retire(self.current.swap(new, Ordering::AcqRel));
    }
}

fn boxed<T>(value: T) -> *mut Node<T> {
    Box::into_raw(Node::boxed(value))
}

fn retire<T: Send + 'static>(old: *mut Node<T>) {
    // SAFETY: null or from a box; the caller unlinked it and has it from that, so it is retired
    // once.
    unsafe { node::retire(old, Domain::global()) };
}

impl<T: Send + Sync + 'static> Drop for Shared<T> {
    fn drop(&mut self) {
        // Readers may still protect the value: it is retired, not dropped.
        self.replace(ptr::null_mut());
    }
}

impl<T: Send + Sync + 'static> Default for Shared<T> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}
