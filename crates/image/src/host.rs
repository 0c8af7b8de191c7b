//! What the engine and the primitives have to know of the process.
#![allow(unsafe_code)]

use crate::segment;
use alloc::boxed::Box;
use alloc::vec;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicI64, Ordering};
use percpu::host::{self, Host, Place};
use sys::mappings::{Mapping, read};
use wire::image::{Failure, GLIBC_WORD, GO_WORD, MUSL_WORD};

/// Restartable sequences are the program's business: not every thread has registered an area, and
/// the image registers none.
const fn at(place: Place) -> Host {
    Host { place, area: None }
}

static GLIBC: Host = at(Place::Beside(GLIBC_WORD as i32));
static MUSL: Host = at(Place::Beside(MUSL_WORD as i32));
static GO: Host = at(Place::BesidePointer(GO_WORD as i32));
/// The distance that was said. 0: none was.
static DISTANCE: AtomicI64 = AtomicI64::new(0);

/// Says where the threads' words are. A process has one C library: the distance stays.
///
/// # Errors
/// [`Failure::Word`]: another distance. [`Failure::Memory`].
///
/// # Context
/// One call at a time.
pub(crate) fn supply(distance: i64) -> Result<(), Failure> {
    let host = match distance {
        GLIBC_WORD => &GLIBC,
        MUSL_WORD => &MUSL,
        GO_WORD => &GO,
        _ => return Err(Failure::Word),
    };
    match DISTANCE.load(Ordering::Relaxed) {
        0 => {}
        said if said == distance => return Ok(()),
        _ => return Err(Failure::Word),
    }
    // SAFETY: whoever has put the image there has seen the word 0 in all threads, and the first
    // word at their thread pointers lead to itself where that is asked for; it belongs to no field
    // of the C library's or of Go's runtime.
    unsafe { host::supply(host) }.map_err(|_| Failure::Memory)?;
    let first_stack_end = first_stack_end();
    let host = uprobe::host::Host { first_stack_end, forked: segment::forked };
    uprobe::host::supply(Box::leak(Box::new(host)));
    DISTANCE.store(distance, Ordering::Relaxed);
    Ok(())
}

/// The end of the first thread's stack, as the kernel calls it; 0: there is none.
fn first_stack_end() -> u64 {
    let mut end = 0;
    // Without a list there is nothing to arm either, and that is said then.
    let _ = read(&mut vec![0; 4096], |line| match Mapping::parse(line) {
        Some(mapping) if mapping.path == b"[stack]" => {
            end = mapping.range.end;
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    end
}
