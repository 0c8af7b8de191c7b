//! One hazard slot and the two sides of its protocol.
//!
//! ```text
//! reader                              reclaimer
//!   announce p in the slot              (p was unlinked, then retired)
//!   light()                             heavy()
//!   reload the source                   read every slot
//! ```
//! Two cases. If the reader's `light()` comes before the reclaimer's `heavy()`, the reclaimer sees
//! the announcement and keeps the object. If it comes after, the reader's reload sees the
//! unlinking, which happened before `heavy()`, and the reader gives up on `p`. There is no third
//! case, which is all the algorithm of Michael (Hazard Pointers, IEEE TPDS 15(6), 2004) needs; the
//! asymmetric fences change who pays for it.
//!
//! # Values of a slot
//! null: free. The last address but one: in somebody's hand, protecting nothing ([`IDLE`]). The
//! last address: in somebody's hand, protecting anything ([`ANYTHING`]), only between the two
//! stores of [`Slot::protect_wait_free`]. Else: the address announced. Only the holder of the slot
//! writes it; every reclaimer reads it.
//!
//! Nothing that can be retired has such an address: the page at the end of the address space is the
//! kernel's, and an object of size zero lies at a power of two, which small ones (1, 2, 4) are.
#![cfg_attr(not(loom), allow(unreachable_pub, reason = "public for models"))]

use crate::asymmetric::Fences;
use core::ptr;
use percpu::sync::atomic::{AtomicPtr, Ordering};

/// The announcement "whatever I load next".
const ANYTHING: *mut () = ptr::without_provenance_mut(usize::MAX);
const IDLE: *mut () = ptr::without_provenance_mut(usize::MAX - 1);

/// Whether an announcement of this address would not protect an object: it is null, or a value with
/// a meaning of its own.
#[cfg_attr(loom, allow(dead_code, reason = "for the holders, which models do without"))]
#[inline(always)]
pub(super) fn is_no_object<T>(p: *const T) -> bool {
    // One comparison for all three: null becomes the largest number.
    p.addr().wrapping_sub(1) >= usize::MAX - 2
}

/// What a reclaimer found in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The slot protects nothing.
    Nothing,
    /// The slot may protect any object.
    Anything,
    /// The slot protects the object at this address.
    Object(usize),
}

/// One hazard slot.
#[derive(Debug)]
#[repr(transparent)]
pub struct Slot {
    announced: AtomicPtr<()>,
}

impl Default for Slot {
    fn default() -> Self {
        Self { announced: AtomicPtr::new(ptr::null_mut()) }
    }
}

impl Slot {
    /// Announces `p`, without a fence.
    #[inline(always)]
    pub fn announce<T>(&self, p: *const T) {
        // Release pairs with the Acquire in `seen`: a reclaimer that finds `p` here, where an
        // earlier announcement stood, may free that earlier object, and our accesses to it come
        // first. That the announcement itself is seen in time is the business of the fences.
        self.announced.store(p.cast_mut().cast(), Ordering::Release);
    }

    /// Announces what `src` holds until the announcement is known to have come in time. Null is
    /// passed through, and then nothing is protected.
    #[inline(always)]
    pub fn protect<T>(&self, src: &AtomicPtr<T>, fences: impl Fences) -> *mut T {
        // Relaxed: a guess, which the Acquire in `try_protect` confirms. Null needs no test: it is
        // announced, confirmed and returned like any other pointer.
        let mut guess = src.load(Ordering::Relaxed);
        loop {
            // That the source changes meanwhile is ordinary: a writer was faster, and its pointer
            // is the next guess.
            match self.try_protect(guess, src, fences) {
                Ok(p) => return p,
                Err(now) => guess = now,
            }
        }
    }

    /// Announces `p` and confirms that `src` still holds it; `Err` is what it holds instead, and
    /// the slot keeps the useless announcement.
    #[inline(always)]
    pub fn try_protect<T>(
        &self,
        p: *mut T,
        src: &AtomicPtr<T>,
        fences: impl Fences,
    ) -> Result<*mut T, *mut T> {
        self.announce(p);
        // Pairs with `heavy()` in a reclaimer's round, see the module's text.
        fences.light();
        // Acquire pairs with the writer's Release that published the object. It is this load, not
        // the guess, that orders the accesses to the object: an equal pointer carries no address
        // dependency once the compiler has replaced one by the other.
        let now = src.load(Ordering::Acquire);
        if now == p { Ok(now) } else { Err(now) }
    }

    /// Protects what `src` holds, in a bounded number of steps whatever writers do: between its two
    /// stores the slot protects everything.
    #[inline(always)]
    pub fn protect_wait_free<T>(&self, src: &AtomicPtr<T>, fences: impl Fences) -> *mut T {
        self.announce(ANYTHING);
        // Pairs with `heavy()`: a reclaimer that missed ANYTHING unlinked before the load below,
        // which then cannot return an object of its round.
        fences.light();
        // Acquire pairs with the writer's Release that published the object.
        let p = src.load(Ordering::Acquire);
        // From "anything" to `p` in one store: a reclaimer finds one or the other, and both protect
        // `p`.
        self.announce(p);
        p
    }

    /// A reader stalled in `protect_wait_free`.
    #[cfg(any(test, loom))]
    pub fn announce_anything(&self) {
        self.announce(ANYTHING);
    }

    /// Ends the protection; the slot stays in its holder's hand.
    #[inline(always)]
    pub fn idle(&self) {
        // Release pairs with the Acquire in `seen`: whoever frees the object does so after our last
        // access to it.
        self.announced.store(IDLE, Ordering::Release);
    }

    /// Ends the protection and the holder's use of the slot.
    #[inline(always)]
    pub fn free(&self) {
        // Release as in `idle`.
        self.announced.store(ptr::null_mut(), Ordering::Release);
    }

    /// Whether nobody has the slot in hand. Only means something to the thread whose scopes use the
    /// slot.
    #[inline(always)]
    pub fn is_free(&self) -> bool {
        // Relaxed: the thread reads its own store.
        self.announced.load(Ordering::Relaxed).is_null()
    }

    /// What the slot protects. A reclaimer calls it after `heavy()`.
    #[inline]
    pub fn seen(&self) -> Seen {
        // Acquire pairs with the Release in `announce`, `idle` and `free`: an object that this slot
        // has stopped protecting is no longer accessed.
        let p = self.announced.load(Ordering::Acquire);
        if p.is_null() || p == IDLE {
            Seen::Nothing
        } else if p == ANYTHING {
            Seen::Anything
        } else {
            Seen::Object(p.addr())
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::asymmetric::Asymmetric;

    #[test]
    fn null_passes_through_and_protects_nothing() {
        let slot = Slot::default();
        let src = AtomicPtr::<u32>::new(ptr::null_mut());
        slot.announce(&src);
        assert!(slot.protect(&src, Asymmetric::new()).is_null());
        assert_eq!(slot.seen(), Seen::Nothing);
    }

    #[test]
    fn small_addresses_are_objects_and_the_markers_are_none() {
        let slot = Slot::default();
        for bit in 0..usize::BITS {
            let at = ptr::without_provenance::<()>(1 << bit);
            assert!(!is_no_object(at));
            slot.announce(at);
            assert_eq!(slot.seen(), Seen::Object(1 << bit));
        }
        assert!(!is_no_object(ptr::without_provenance::<()>(usize::MAX - 2)));
        for marker in [ptr::null_mut(), IDLE, ANYTHING] {
            assert!(is_no_object(marker));
        }
    }

    #[test]
    fn a_changed_source_is_reported_and_not_an_error() {
        let slot = Slot::default();
        let (mut a, mut b) = (1_u32, 2_u32);
        let src = AtomicPtr::new(&raw mut b);
        assert_eq!(slot.try_protect(&raw mut a, &src, Asymmetric::new()), Err(&raw mut b));
        assert_eq!(slot.protect(&src, Asymmetric::new()), &raw mut b);
        assert_eq!(slot.seen(), Seen::Object((&raw mut b).addr()));
    }

    #[test]
    fn wait_free_ends_with_the_object_announced() {
        let slot = Slot::default();
        let mut a = 1_u32;
        let src = AtomicPtr::new(&raw mut a);
        assert_eq!(slot.protect_wait_free(&src, Asymmetric::new()), &raw mut a);
        assert_eq!(slot.seen(), Seen::Object((&raw mut a).addr()));
        slot.announce(ANYTHING);
        assert_eq!(slot.seen(), Seen::Anything);
    }
}
