//! General allocators: what one would use without a pool.
#![allow(unsafe_code)]

use super::case::OBJECT_SIZE;
use super::source::RawSource;
use std::hint::black_box;
use std::ptr::NonNull;

/// The C library's malloc.
pub(super) struct Malloc;

impl RawSource for Malloc {
    #[inline(always)]
    fn take(&self) -> Option<NonNull<u64>> {
        // SAFETY: any size may be asked for. black_box: the compiler knows malloc and free by name
        // and may drop the pair.
        NonNull::new(black_box(unsafe { libc::malloc(OBJECT_SIZE) }).cast())
    }

    #[inline(always)]
    fn give(&self, object: NonNull<u64>) {
        // SAFETY: came from malloc and is given back once.
        unsafe { libc::free(object.as_ptr().cast()) };
    }
}

/// jemalloc under its own names, beside the process's allocator.
pub(super) struct Jemalloc;

impl RawSource for Jemalloc {
    #[inline(always)]
    fn take(&self) -> Option<NonNull<u64>> {
        // SAFETY: any size may be asked for.
        NonNull::new(unsafe { tikv_jemalloc_sys::malloc(OBJECT_SIZE) }.cast())
    }

    #[inline(always)]
    fn give(&self, object: NonNull<u64>) {
        // SAFETY: came from this malloc and is given back once.
        unsafe { tikv_jemalloc_sys::free(object.as_ptr().cast()) };
    }
}

/// mimalloc under its own names.
pub(super) struct Mimalloc;

impl RawSource for Mimalloc {
    #[inline(always)]
    fn take(&self) -> Option<NonNull<u64>> {
        // SAFETY: any size may be asked for.
        NonNull::new(unsafe { libmimalloc_sys::mi_malloc(OBJECT_SIZE) }.cast())
    }

    #[inline(always)]
    fn give(&self, object: NonNull<u64>) {
        // SAFETY: came from mi_malloc and is given back once.
        unsafe { libmimalloc_sys::mi_free(object.as_ptr().cast()) };
    }
}
