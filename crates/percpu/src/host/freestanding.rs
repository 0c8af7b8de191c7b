//! A process that is not ours: what the image that was put into it knows of its threads.
#![allow(unsafe_code)]

use crate::arch::words;
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicIsize, AtomicPtr, Ordering};

/// What the primitives keep for a thread: pointers, all null at first.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Words([AtomicPtr<()>; slots::SLOTS]);

impl Words {
    /// Those of a new thread.
    pub const fn new() -> Self {
        Self([const { AtomicPtr::new(ptr::null_mut()) }; slots::SLOTS])
    }
}

/// Where a thread's [`Words`] are found.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Their address is in a word at this distance from the thread pointer, or null there: then
    /// [`Host::find`] is asked. (Without assembly it is always asked.)
    Beside(isize),
    /// [`Host::find`] is asked each time.
    Unknown,
}

/// Where the C library of the process has each thread's restartable-sequence area.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// Distance from the thread pointer.
    pub offset: isize,
    /// How many bytes of it the kernel fills in (the auxiliary vector's `AT_RSEQ_FEATURE_SIZE`, or
    /// 0).
    pub features: usize,
}

/// What an image knows of the process that it is in.
#[derive(Debug)]
pub struct Host {
    /// Where words are.
    pub place: Place,
    /// This thread's words; makes them, and writes their address to [`Place::Beside`], where they
    /// are not there.
    pub find: extern "C" fn() -> NonNull<Words>,
    /// `None`: there are no restartable sequences, and what stands on them takes its other path. An
    /// image registers no area of its own: the program's code may want to later.
    pub area: Option<Area>,
}

/// No word lies there.
const NOWHERE: isize = isize::MIN;

static OFFSET: AtomicIsize = AtomicIsize::new(NOWHERE);
static HOST: AtomicPtr<Host> = AtomicPtr::new(ptr::null_mut());

/// Says what the process is like: once, before anything else of this crate or of one that stands on
/// it is used.
///
/// # Safety
/// - `find` answers with the same words throughout a thread's life, and with words that no other
///   living thread has: those of a new thread, or of one that is gone. So does the word at
///   [`Place::Beside`], where it is not null; it can be read in every thread.
/// - All words are in private memory that a fork child finds wiped (`MADV_WIPEONFORK`); a child
///   made by `vfork` shares its parent's.
/// - Every thread's area is at [`Host::area`], if it has one, and was registered with the signature
///   that C libraries use (0x53053053).
///
/// # Context
/// Signal-safe; no system call.
pub unsafe fn supply(host: &'static Host) {
    HOST.store(ptr::from_ref(host).cast_mut(), Ordering::Relaxed);
    let offset = match host.place {
        Place::Beside(offset) => offset,
        Place::Unknown => NOWHERE,
    };
    // Release pairs with the Acquire in `words`: who sees the place also finds the host.
    OFFSET.store(offset, Ordering::Release);
}

fn host() -> &'static Host {
    // Acquire: the image has stored it before it let other threads in, see `supply`.
    // SAFETY: null, or a host for ever.
    match unsafe { HOST.load(Ordering::Acquire).as_ref() } {
        Some(host) => host,
        None => nobody_has_said(),
    }
}

#[cold]
#[inline(never)]
fn nobody_has_said() -> ! {
    let text = b"percpu: used in an image that has not called percpu::host::supply\n";
    let _ = sys::file::write(2, text);
    sys::process::abort()
}

/// The thread's pointers, as [`crate::arch`] has them where there is a C library.
pub(crate) mod slots {
    use super::{NOWHERE, OFFSET, Ordering, Words, host, words};

    /// Pointers per thread.
    pub(crate) const SLOTS: usize = 8;

    #[inline(always)]
    fn own() -> &'static Words {
        // Acquire pairs with the Release in `supply`.
        let offset = OFFSET.load(Ordering::Acquire);
        if offset != NOWHERE {
            // SAFETY: null, or this thread's words (the promise to `supply`).
            if let Some(words) = unsafe { words::beside(offset).cast::<Words>().as_ref() } {
                return words;
            }
        }
        find()
    }

    #[cold]
    #[inline(never)]
    fn find() -> &'static Words {
        // SAFETY: this thread's words, which are never given back to the kernel.
        unsafe { (host().find)().as_ref() }
    }

    // Relaxed: only the thread itself and its signal handlers come here, and the next owner of the
    // words after it, whom `find` lets in.
    #[inline(always)]
    pub(crate) fn get(slot: usize) -> *mut () {
        own().0[slot].load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set(slot: usize, value: *mut ()) {
        own().0[slot].store(value, Ordering::Relaxed);
    }
}

/// Where this thread runs: a system call.
#[cold]
pub(crate) fn cpu() -> usize {
    sys::thread::getcpu().map_or(0, |cpu| cpu as usize)
}

/// The area of the C library.
pub(crate) fn area() -> Option<Area> {
    host().area
}

/// The end of threads, of which nobody hears: see [`crate::tls::thread_has_ended`].
pub(crate) struct ThreadEnd;

impl ThreadEnd {
    pub(crate) const fn new(_run: extern "C" fn(*mut c_void)) -> Self {
        Self
    }

    /// Whoever depends on the function does without: the thread's words live on.
    pub(crate) fn create(&self) -> bool {
        true
    }

    pub(crate) fn arm(&self) -> bool {
        true
    }
}
