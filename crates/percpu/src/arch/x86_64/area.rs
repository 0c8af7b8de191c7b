//! The thread's restartable-sequence area: the C library's, or one of our own.
//!
//! The process's state is decided once ([`State`]). In `Library` and `Own` the area of every thread
//! lies at the same distance from its thread pointer, `OFFSET`. Where none is registered a sequence
//! is refused: by the own area, whose `cpu_id` stays -1 (`c_library`), or before it begins
//! ([`is_missing`]), since a freestanding image has no place for an area (`freestanding`).
#![allow(unsafe_code)]

#[cfg(feature = "std")]
mod c_library;
#[cfg(not(feature = "std"))]
mod freestanding;
mod state;

#[cfg(feature = "std")]
use c_library as place;
#[cfg(not(feature = "std"))]
use freestanding as place;

use super::rseq_abi::{self, CPU_ID, MM_CID, SIGNATURE, SIZE, UNREGISTERED};
use crate::kernel::membarrier;
use core::sync::atomic::{AtomicIsize, AtomicU8, Ordering};
use state::State;
use sys::Errno;

/// A [`State`], or 0 until that is known. Written by [`detect`]; all racing writers write the same
/// values, `OFFSET` last.
static STATE: AtomicU8 = AtomicU8::new(0);
/// Whether the kernel fills in `mm_cid`.
static HAS_MM_CID: AtomicU8 = AtomicU8::new(0);
/// 0 until detected: no area lies at the thread pointer itself, which is the ABI's own word.
static OFFSET: AtomicIsize = AtomicIsize::new(0);

#[inline]
pub(crate) fn available() -> bool {
    !is(State::Off)
}

#[inline]
fn is(state: State) -> bool {
    offset();
    STATE.load(Ordering::Relaxed) == state as u8
}

/// Whether there is nothing at [`offset`], not even what refuses a sequence. Never with a C
/// library.
#[inline(always)]
pub(crate) fn is_missing() -> bool {
    place::MAY_BE_MISSING && is(State::Off)
}

/// Distance of the area from the thread pointer.
#[inline(always)]
pub(crate) fn offset() -> isize {
    // Acquire pairs with the Release in `detect`: the other two are there.
    match OFFSET.load(Ordering::Acquire) {
        0 => detect(),
        offset => offset,
    }
}

#[cold]
#[inline(never)]
fn detect() -> isize {
    let (state, offset) = place::find();
    let has_mm_cid = place::features() as usize >= MM_CID + 4;
    HAS_MM_CID.store(u8::from(has_mm_cid), Ordering::Relaxed);
    STATE.store(state as u8, Ordering::Relaxed);
    // Release pairs with the Acquire in `offset`.
    OFFSET.store(offset, Ordering::Release);
    if state == State::Own {
        place::forget_at_exit();
    }
    offset
}

#[inline]
pub(crate) fn cpu_id() -> Option<u32> {
    if is_missing() {
        return None;
    }
    rseq_abi::cpu_id(offset())
}

#[inline]
pub(crate) fn mm_cid() -> Option<u32> {
    let registered = cpu_id().is_some();
    (registered && HAS_MM_CID.load(Ordering::Relaxed) != 0)
        .then(|| rseq_abi::read_u32(offset(), MM_CID))
}

pub(crate) fn fence() {
    if available() {
        membarrier::rseq();
    }
}

/// See [`crate::rseq::register_thread`].
#[cold]
pub(crate) fn register_thread() -> bool {
    if is(State::Own) && cpu_id().is_none() && place::register_own() {
        place::forget_at_exit();
    }
    available() && cpu_id().is_some()
}

/// See [`crate::rseq::check_thread`].
#[cold]
pub(crate) fn check_thread() {
    if !is(State::Library) || cpu_id().is_none() {
        return;
    }
    // The kernel refuses to unregister with a wrong signature, but only what is registered. It
    // compares the size first, which newer C libraries take from the kernel.
    let refused = |size: u32| {
        // SAFETY: with a wrong signature nothing is unregistered.
        let answer = unsafe { rseq_abi::unregister(offset(), size, !SIGNATURE) };
        answer == Err(Errno::EPERM)
    };
    if !refused(SIZE) && !refused(place::features().next_multiple_of(SIZE)) {
        rseq_abi::write_u32(offset(), CPU_ID, UNREGISTERED);
    }
}

#[cfg(all(test, feature = "std", not(loom)))]
mod tests {
    use super::rseq_abi::{self, CPU_ID, SIGNATURE, SIZE};
    use super::{State, check_thread, cpu_id, is, offset};

    #[test]
    fn an_area_that_only_looks_registered_is_found_out() {
        let alone = std::thread::spawn(|| {
            let before = cpu_id();
            check_thread();
            assert_eq!(cpu_id().is_some(), before.is_some(), "what is registered stays");
            // SAFETY: this thread's, which uses no sequence any more.
            let gone = || unsafe { rseq_abi::unregister(offset(), SIZE, SIGNATURE) }.is_ok();
            if !is(State::Library) || !gone() {
                return;
            }
            // As it is in a thread whose C library has not come to it yet.
            rseq_abi::write_u32(offset(), CPU_ID, 0);
            assert_eq!(cpu_id(), Some(0));
            check_thread();
            assert_eq!(cpu_id(), None);
        });
        alone.join().expect("no panic");
    }
}
