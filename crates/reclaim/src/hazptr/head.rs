//! What a retired object carries, and whom it belongs to.
#![allow(unsafe_code)]
#![cfg_attr(loom, allow(dead_code, reason = "models have no domains"))]

use super::owner::OwnerRef;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr;

/// The part of an object that links it while it is retired. Embedding one makes retiring free of
/// allocation. 32 bytes.
///
/// Untouched until the object is retired; then written by the retiring thread, afterwards by
/// whoever has the list that it is on.
pub struct Head(UnsafeCell<MaybeUninit<Links>>);

#[derive(Clone, Copy)]
struct Links {
    next: *mut Head,
    /// The address that readers announce.
    object: *mut (),
    deleter: Deleter,
    owner: Option<OwnerRef>,
}

/// Disposes of the object that the head was [prepared](Head::prepare) for, at [`Head::object`].
pub(crate) type Deleter = unsafe fn(*mut Head);

const _: () = assert!(size_of::<Head>() == 32, "documented size");
const _: () =
    assert!(align_of::<Head>() >= 8, "`Stack` leaves out the three low bits of a head's address");

// SAFETY: a shared reference to a `Head` gives access to nothing; its contents are reached through
// the raw pointers of the lists, one thread at a time.
unsafe impl Sync for Head {}
// SAFETY: likewise; the object that it lies in is `Send` by `Retirable`.
unsafe impl Send for Head {}

impl Head {
    /// A head that is on no list. Costs nothing: its contents are written when the object is
    /// retired.
    #[inline(always)]
    pub const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Writes down what has to be done with the object later.
    ///
    /// # Safety
    /// `this` points to a head that is on no list, and no other thread will touch it before it is
    /// on one.
    pub(crate) unsafe fn prepare(
        this: *mut Self,
        object: *mut (),
        deleter: Deleter,
        owner: Option<OwnerRef>,
    ) {
        // SAFETY: `this` points to a head, as the caller promises.
        let links = unsafe { Self::links(this) };
        // SAFETY: the caller has the head to itself.
        unsafe { links.write(Links { next: ptr::null_mut(), object, deleter, owner }) };
    }

    /// # Safety
    /// `this` points to a head on a list that the calling thread has to itself (or is about to
    /// push).
    #[inline]
    pub(crate) unsafe fn next(this: *mut Self) -> *mut Self {
        // SAFETY: `this` points to a head, as the caller promises.
        let links = unsafe { Self::links(this) };
        // SAFETY: the caller's promise.
        unsafe { (*links).next }
    }

    /// # Safety
    /// As for [`next`](Self::next).
    #[inline]
    pub(crate) unsafe fn set_next(this: *mut Self, next: *mut Self) {
        // SAFETY: `this` points to a head, as the caller promises.
        let links = unsafe { Self::links(this) };
        // SAFETY: the caller's promise.
        unsafe { (*links).next = next };
    }

    /// The object, at the address that readers announce.
    ///
    /// # Safety
    /// As for [`next`](Self::next).
    #[inline]
    pub(crate) unsafe fn object(this: *mut Self) -> *mut () {
        // SAFETY: `this` points to a head, as the caller promises.
        let links = unsafe { Self::links(this) };
        // SAFETY: the caller's promise.
        unsafe { (*links).object }
    }

    /// Whose object it is.
    ///
    /// # Safety
    /// As for [`next`](Self::next).
    #[inline]
    pub(crate) unsafe fn owner(this: *mut Self) -> Option<OwnerRef> {
        // SAFETY: `this` points to a head, as the caller promises.
        let links = unsafe { Self::links(this) };
        // SAFETY: the caller's promise.
        unsafe { (*links).owner }
    }

    /// Runs the deleter; the head is usually gone afterwards.
    ///
    /// # Safety
    /// The head was [prepared](Self::prepare), is off every list, and no reader protects its
    /// object.
    #[inline]
    pub(crate) unsafe fn reclaim(this: *mut Self) {
        // SAFETY: `this` points to a head, as the caller promises.
        let links = unsafe { Self::links(this) };
        // SAFETY: the caller's promise.
        let deleter = unsafe { (*links).deleter };
        // SAFETY: whoever retired the object promised that the deleter may run on it once nobody
        // protects it.
        unsafe { deleter(this) };
    }

    /// # Safety
    /// `this` points to a head.
    #[inline(always)]
    unsafe fn links(this: *mut Self) -> *mut Links {
        // SAFETY: a place inside of `*this`; no reference is made and nothing is read.
        let cell: *const UnsafeCell<MaybeUninit<Links>> = unsafe { &raw const (*this).0 };
        UnsafeCell::raw_get(cell).cast()
    }
}

impl Default for Head {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Head")
    }
}

/// An object with a [`Head`] inside, so that [`Domain::retire`](super::Domain::retire) needs no
/// memory. Implement it with [`retirable!`](crate::retirable).
///
/// `Send`, because the deleter runs on whichever thread reclaims; `'static`, because that is some
/// time later.
///
/// # Safety
/// [`head`](Self::head) returns the address of a `Head`, aligned, inside `*this`, the same each
/// time, without reading or writing the object, and nothing else uses that head.
pub unsafe trait Retirable: Send + Sized + 'static {
    /// The address of the head inside the object.
    fn head(this: *mut Self) -> *mut Head;

    /// Disposes of an object that was retired and that nobody protects any more.
    ///
    /// # Safety
    /// Called once, by the domain, with the pointer that was retired.
    unsafe fn reclaim(this: *mut Self);
}

/// For the expansion of [`retirable!`](crate::retirable).
#[cfg(feature = "alloc")]
#[doc(hidden)]
pub mod private {
    pub use alloc::boxed::Box;
}

/// Implements [`Retirable`](crate::hazptr::Retirable) for a struct that has a
/// [`Head`](crate::hazptr::Head) field and lives in a `Box`.
///
/// `retirable!(Type, field)`; for a generic type its parameters come first, in brackets:
/// `retirable!(impl[T: Send + 'static] Type<T>, field)`.
///
/// # Examples
/// ```
/// use reclaim::hazptr::Head;
///
/// struct Route {
///     head: Head,
///     port: u16,
/// }
/// reclaim::retirable!(Route, head);
/// # let _ = Route { head: Head::new(), port: 1 }.port;
///
/// struct Node<K, const N: usize> {
///     keys: [K; N],
///     head: Head,
/// }
/// reclaim::retirable!(impl[K: Send + 'static, const N: usize] Node<K, N>, head);
/// # let _ = Node { keys: [1_u8; 4], head: Head::new() }.keys;
/// ```
///
/// A head that is not aligned, in a packed struct, is refused, of generic types as well:
/// ```compile_fail,E0793
/// #[repr(C, packed)]
/// struct Packed {
///     tag: u8,
///     head: reclaim::hazptr::Head,
/// }
/// reclaim::retirable!(Packed, head);
/// ```
/// ```compile_fail,E0793
/// #[repr(packed(4))]
/// struct Packed<T> {
///     tag: T,
///     head: reclaim::hazptr::Head,
/// }
/// reclaim::retirable!(impl[T: Send + 'static] Packed<T>, head);
/// ```
///
/// So is a field that only leads to a head:
/// ```compile_fail,E0308
/// struct Far {
///     head: Box<reclaim::hazptr::Head>,
/// }
/// reclaim::retirable!(Far, head);
/// ```
#[cfg(feature = "alloc")]
#[macro_export]
macro_rules! retirable {
    (impl[$($parameters:tt)*] $object:ty, $head:ident) => {
        // SAFETY: the address of a field of type `Head`, aligned (`check` sees to both), is
        // computed without touching the object.
        unsafe impl<$($parameters)*> $crate::hazptr::Retirable for $object {
            fn head(this: *mut Self) -> *mut $crate::hazptr::Head {
                // Never called. It compiles for a field of the object itself, of type `Head`, to
                // which a reference can be made: an aligned one.
                let _check = |object: &Self| -> *const $crate::hazptr::Head {
                    let Self { $head: head, .. } = object;
                    &raw const *head
                };
                this.wrapping_byte_add(::core::mem::offset_of!(Self, $head)).cast()
            }

            unsafe fn reclaim(this: *mut Self) {
                // SAFETY: the object came from a `Box` (promised to `retire`), and nobody else has
                // it.
                drop(unsafe { $crate::hazptr::private::Box::from_raw(this) });
            }
        }
    };
    ($object:ty, $head:ident) => {
        $crate::retirable!(impl[] $object, $head);
    };
}
