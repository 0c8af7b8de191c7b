//! Protections that last for one closure: the cheapest way from "no holder" to an object.
//!
//! A thread's first slots are a stack: those in use come first, and the first free one (null) is
//! the next to take. A scope takes slots by marking them as idle, and frees them when its closure
//! is done. That the closures nest is what makes this right without a locked instruction, also when
//! a signal handler opens scopes of its own at any point, between our look at a slot and our mark
//! included: by the time we go on, the slot is as it was. There is no depth to keep, because to
//! read back a counter that was just stored is slower than to look at a slot.

use super::block::{BlockRef, SCOPED};
use super::hazard::{Hazard, HazardPointer};
use super::thread;
use crate::asymmetric::Asymmetric;
use percpu::sync::atomic::AtomicPtr;

/// Runs `f` with a hazard slot, which is emptied and taken back afterwards. For one protection,
/// [`read`] is cheaper still.
///
/// # Context
/// Signal-safe in a thread that has used hazard pointers before, or after [`percpu::init`]. No
/// malloc, no lock. A `longjmp` or `pthread_cancel` out of `f` loses the slot. `f` has to end on
/// the stack and thread that it began on: no switch to another coroutine inside.
///
/// # Panics
/// When the thread's first use, or a depth of more than four, finds the kernel without memory for
/// slots.
///
/// # Examples
/// ```
/// use reclaim::hazptr;
/// use std::sync::atomic::AtomicPtr;
///
/// let mut value = 7;
/// let current = AtomicPtr::new(&raw mut value);
/// // SAFETY: what `current` points to outlives everything here.
/// let seen = hazptr::scope(|hp| unsafe { hp.protect(&current) }.copied());
/// assert_eq!(seen, Some(7));
/// ```
///
/// Neither the slot nor what it protects leaves the scope, and slots of two scopes cannot be
/// exchanged:
/// ```compile_fail
/// # use reclaim::hazptr;
/// # use std::sync::atomic::AtomicPtr;
/// # fn f(current: &AtomicPtr<u32>) {
/// let escaped = hazptr::scope(|hp| unsafe { hp.protect(current) });
/// # }
/// ```
/// ```compile_fail
/// # use reclaim::hazptr;
/// hazptr::scope(|outer| hazptr::scope(|inner| std::mem::swap(outer, inner)));
/// ```
#[inline(always)]
pub fn scope<R>(f: impl for<'s> FnOnce(&mut Hazard<'s>) -> R) -> R {
    scope_array(|[hp]| f(hp))
}

/// [`scope`] with `N` slots.
///
/// # Panics
/// As [`scope`].
///
/// # Examples
/// ```
/// use reclaim::hazptr;
///
/// hazptr::scope_array(|[previous, current]| {
///     std::mem::swap(previous, current);
///     current.reset();
/// });
/// ```
#[inline(always)]
pub fn scope_array<const N: usize, R>(f: impl for<'s> FnOnce(&mut [Hazard<'s>; N]) -> R) -> R {
    match thread::fast_block() {
        Some(block) if N <= SCOPED && block.slots[0].is_free() => {
            scope_at(block, 0, Asymmetric::COMPILER, f)
        }
        _ => nested_scope(f),
    }
}

#[inline(always)]
fn scope_at<const N: usize, R>(
    block: BlockRef,
    first: usize,
    fences: Asymmetric,
    f: impl for<'s> FnOnce(&mut [Hazard<'s>; N]) -> R,
) -> R {
    for i in 0..N {
        block.slots[first + i].idle();
    }
    let _leave = Leave::<N> { block, first };
    f(&mut core::array::from_fn(|i| Hazard::new(block, first + i, fences)))
}

/// Protects what `src` points to and calls `f` with it: [`scope`] and [`Hazard::protect`] in one.
///
/// # Context
/// As for [`scope`].
///
/// # Panics
/// As for [`scope`].
///
/// # Safety
/// As for [`Hazard::protect`].
///
/// # Examples
/// ```
/// use reclaim::hazptr;
/// use std::sync::atomic::AtomicPtr;
///
/// let mut value = 7;
/// let current = AtomicPtr::new(&raw mut value);
/// // SAFETY: what `current` points to outlives everything here.
/// let seen = unsafe { hazptr::read(&current, |object| object.copied()) };
/// assert_eq!(seen, Some(7));
/// ```
#[inline(always)]
#[allow(unsafe_code)]
pub unsafe fn read<T, R>(src: &AtomicPtr<T>, f: impl FnOnce(Option<&T>) -> R) -> R {
    match thread::fast_block() {
        // SAFETY: the caller's promise.
        Some(block) if block.slots[0].is_free() => unsafe {
            read_at(block, 0, Asymmetric::COMPILER, src, f)
        },
        // SAFETY: likewise.
        _ => unsafe { nested_read(src, f) },
    }
}

/// # Safety
/// As for [`read`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn read_at<T, R>(
    block: BlockRef,
    first: usize,
    fences: Asymmetric,
    src: &AtomicPtr<T>,
    f: impl FnOnce(Option<&T>) -> R,
) -> R {
    // Not marked as idle first: the announcement does that. If it is null, nothing is protected,
    // and `f` may use the slot for its own scopes.
    let _leave = Leave::<1> { block, first };
    let p = block.slots[first].protect(src, fences);
    // SAFETY: as in `Hazard::protect`; the slot is emptied by `_leave`, after `f`.
    f(unsafe { p.as_ref() })
}

/// Frees the slots of a scope, also when the closure panics.
struct Leave<const N: usize> {
    block: BlockRef,
    first: usize,
}

impl<const N: usize> Drop for Leave<N> {
    #[inline(always)]
    fn drop(&mut self) {
        // From the last: at no moment is there a free slot below one in use.
        for i in (0..N).rev() {
            self.block.slots[self.first + i].free();
        }
    }
}

/// The first of `N` free slots on this thread's stack.
fn free_slots<const N: usize>() -> Option<(BlockRef, usize)> {
    let block = thread::reading_block()?;
    // Slots in use come first, so a free one has only free ones after it.
    (0..(SCOPED + 1).saturating_sub(N)).find(|&i| block.slots[i].is_free()).map(|i| (block, i))
}

/// A scope inside of a scope, or a thread's first, or where `light()` is a full fence. Beyond the
/// stack it pays for kept holders.
#[inline(never)]
fn nested_scope<const N: usize, R>(f: impl for<'s> FnOnce(&mut [Hazard<'s>; N]) -> R) -> R {
    if let Some((block, first)) = free_slots::<N>() {
        return scope_at(block, first, Asymmetric::new(), f);
    }
    let kept = HazardPointer::array::<N>();
    f(&mut core::array::from_fn(|i| Hazard::new(kept[i].block, kept[i].index, Asymmetric::new())))
}

/// # Safety
/// As for [`read`].
#[inline(never)]
#[allow(unsafe_code)]
unsafe fn nested_read<T, R>(src: &AtomicPtr<T>, f: impl FnOnce(Option<&T>) -> R) -> R {
    if let Some((block, first)) = free_slots::<1>() {
        // SAFETY: the caller's promise.
        return unsafe { read_at(block, first, Asymmetric::new(), src, f) };
    }
    let mut kept = HazardPointer::new();
    // SAFETY: the caller of `read` has promised what `protect` asks for.
    f(unsafe { kept.protect(src) })
}
