//! Call stacks: the recorder of a segment that wants them.
//!
//! A recorder belongs to one segment, and ends with it. What its unwinder has learned of the code
//! of this process stays for the next.
#![allow(unsafe_code)]

use crate::objects::Object;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use recorder::{Loaded, Probe, Recorder, StartError};
use unwind::{Module, Unwinder};
use uprobe::Action;
use wire::Segment;
use wire::image::Failure;

/// Null: there has been no segment with stacks.
static UNWINDER: AtomicPtr<Unwinder> = AtomicPtr::new(ptr::null_mut());

/// Makes the recorder that a segment asks for; none if it has no stacks. `grown` hears of threads
/// that take more memory.
///
/// # Errors
/// There is no memory, or the segment's room for stacks cannot be used.
///
/// # Context
/// One call at a time.
pub(crate) fn start(
    segment: &'static Segment,
    grown: fn(),
) -> Result<Option<&'static Recorder>, Failure> {
    if segment.stacks().is_none() {
        return Ok(None);
    }
    let unwinder = unwinder().ok_or(Failure::Memory)?;
    match Recorder::start_with(unwinder, segment, grown) {
        Ok(recorder) => Ok(Some(recorder)),
        Err(StartError::Memory) => Err(Failure::Memory),
        Err(StartError::NoStacks | StartError::Depot(_)) => Err(Failure::Segment),
    }
}

fn unwinder() -> Option<&'static Unwinder> {
    let mut known = UNWINDER.load(Ordering::Acquire);
    if known.is_null() {
        known = Box::into_raw(Box::new(Unwinder::new()?));
        UNWINDER.store(known, Ordering::Release);
    }
    // SAFETY: never freed.
    unsafe { known.as_ref() }
}

/// Memory for what was learned of this process's code, in bytes.
pub(crate) fn unwinder_bytes() -> u64 {
    // SAFETY: null, or never freed.
    let known = unsafe { UNWINDER.load(Ordering::Acquire).as_ref() };
    known.map_or(0, |unwinder| unwinder.bytes() as u64)
}

/// In a fork child, before its first hit.
pub(crate) fn forked() {
    // SAFETY: null, or never freed.
    if let Some(unwinder) = unsafe { UNWINDER.load(Ordering::Acquire).as_ref() } {
        unwinder.forked();
    }
}

/// Says what is loaded.
pub(crate) fn loaded(recorder: &Recorder, segment: &Segment, objects: &[Object]) {
    let loaded = |object: &Object| {
        let name = object.file.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        // Musl's loader is its C library, and is called by programs.
        let begins = name.starts_with(b"ld-") && !name.starts_with(b"ld-musl");
        let known = segment.find_object(&object.file).map(|index| segment.unwind_tables(index));
        let eh_frame = known.filter(|place| !place.is_empty()).map_or(0..0, |place| {
            place.start.wrapping_add(object.bias)..place.end.wrapping_add(object.bias)
        });
        let module = Module { begins, unseen: object.is_own, eh_frame, ..object.module.clone() };
        Loaded { module, file: object.file.clone() }
    };
    recorder.loaded(objects.iter().map(loaded).collect::<Vec<_>>());
}

/// What a probe at `offset` in the function at `function` does.
pub(crate) fn action(
    recorder: &'static Recorder,
    function: u64,
    offset: u32,
    cell: u32,
    timed: bool,
) -> Action {
    let address = function.wrapping_add(u64::from(offset));
    Action::Call(recorder.consumer(Probe { address, entry: offset == 0, cell, timed }))
}
