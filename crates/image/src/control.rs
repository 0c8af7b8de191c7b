//! A thread pointer of the image's own.
//!
//! Functions of the image run on a thread that was made for them, with the thread pointer of the
//! one that it was made from, or on a thread of the program's that stands. In both cases what lies
//! beside the thread pointer is another thread's. So they run with one that leads to a control
//! block here, which looks like a C library's to whoever asks for the thread's words.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use sys::Errno;
use sys::raw::syscall2;

const ARCH_PRCTL: usize = 158;
const ARCH_SET_FS: usize = 0x1002;
const ARCH_GET_FS: usize = 0x1003;
/// Bytes on both sides of the thread pointer: words are at most so far away.
const ROOM: usize = 1024;

/// The first word at the thread pointer is its own address, by the x86-64 TLS ABI; the rest is 0.
#[repr(C, align(64))]
pub(crate) struct ControlBlock(UnsafeCell<[usize; 2 * ROOM / 8]>);

// SAFETY: one call of the image at a time (`wire::image`) uses it.
unsafe impl Sync for ControlBlock {}

static OWN: ControlBlock = ControlBlock(UnsafeCell::new([0; 2 * ROOM / 8]));

/// One for a program's first thread, which hits probes before the C library has made its own.
/// Whoever has put the image there writes its address into it and has the thread pointer lead
/// there.
#[unsafe(no_mangle)]
#[used]
static trapline_early: ControlBlock = ControlBlock(UnsafeCell::new([0; 2 * ROOM / 8]));

/// Where the image's own thread pointer leads.
fn own() -> *mut u8 {
    OWN.0.get().cast::<u8>().wrapping_add(ROOM)
}

/// Runs `f` with the image's own thread pointer.
///
/// # Errors
/// The kernel does not let the thread pointer be changed.
///
/// # Context
/// With signals blocked, and one at a time: handlers of the program's would not find their thread.
pub(crate) fn with_own_thread<R>(f: impl FnOnce() -> R) -> Result<R, Errno> {
    let mut before = 0_usize;
    let place = (&raw mut before).expose_provenance();
    // SAFETY: a place for the answer, which lives through the call.
    unsafe { syscall2(ARCH_PRCTL, ARCH_GET_FS, place) }?;
    let own = own();
    let address = own.expose_provenance();
    // SAFETY: inside the block, aligned, and nobody else's.
    unsafe { own.cast::<usize>().write(address) };
    // SAFETY: no code of the program's runs on this thread until it is put back.
    unsafe { syscall2(ARCH_PRCTL, ARCH_SET_FS, address) }?;
    let result = f();
    // SAFETY: what it was.
    unsafe { syscall2(ARCH_PRCTL, ARCH_SET_FS, before) }?;
    Ok(result)
}

/// Whether the calling thread is one that was made for a call of the image. A call runs on a thread
/// of the program's where none can be made; that one has its thread pointer changed, too, and is
/// not told from it: it stands, and nobody else could end it.
pub(crate) fn is_own_thread() -> bool {
    let mut pointer = 0_usize;
    let place = (&raw mut pointer).expose_provenance();
    // SAFETY: a place for the answer, which lives through the call.
    let known = unsafe { syscall2(ARCH_PRCTL, ARCH_GET_FS, place) };
    known.is_ok() && pointer == own().expose_provenance()
}
