//! A process that is not ours: what the image that was put into it knows of its threads.
#![allow(unsafe_code)]

mod blocks;
mod words;

use crate::arch::words as beside;
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicIsize, AtomicPtr, Ordering};
use sys::Errno;

pub use words::Words;

/// Where a thread's [`Words`] are found.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Their address, which is below 4 GiB, is in a word of 32 bits at this distance from the
    /// thread pointer; 0 there: the thread has had no use for them, or it is not known that it had.
    /// x86-64 only, with assembly.
    ///
    /// Words belong to control blocks, which are told by their address (the first word at the
    /// thread pointer), and lie where [`supply`] has mapped them. A C library that gives a control
    /// block to another thread gives it the words, too, whether it clears the word or not.
    Beside(i32),
    /// As [`Place::Beside`], but the first word at the thread pointer says nothing (Go without cgo
    /// keeps no control block): the thread pointer itself stands for the thread, and is asked of
    /// the kernel where words are sought.
    BesidePointer(i32),
    /// This is asked each time, and answers with the same words throughout a thread's life, that no
    /// other living thread has: those of a new thread, or of one that is gone. They lie in private
    /// memory that a fork child finds wiped (`MADV_WIPEONFORK`).
    Asked(extern "C" fn() -> NonNull<Words>),
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
    /// `None`: there are no restartable sequences, and what stands on them takes its other path. An
    /// image registers no area of its own: the program's code may want to later.
    pub area: Option<Area>,
}

/// No word lies there.
const NOWHERE: isize = isize::MIN;

static OFFSET: AtomicIsize = AtomicIsize::new(NOWHERE);
static HOST: AtomicPtr<Host> = AtomicPtr::new(ptr::null_mut());

/// Says what the process is like: once, before anything else of this crate or of one that stands on
/// it is used. Maps the memory for the words of [`Place::Beside`] and [`Place::BesidePointer`].
///
/// # Errors
/// The kernel gives no memory below 4 GiB, or none that is wiped in fork children (Linux 4.14).
/// Then nothing was said.
///
/// # Safety
/// - The word at [`Place::Beside`] or [`Place::BesidePointer`] can be read and written in every
///   thread, nobody else uses it, and it is 0 in all threads now.
/// - With [`Place::Beside`] the first word at the thread pointer is its own address.
/// - [`Place::Asked`] keeps what is asked for there.
/// - Every thread's area is at [`Host::area`], if it has one, and was registered with the signature
///   that C libraries use (0x53053053).
///
/// # Context
/// Signal-safe; some system calls (up to 240 where memory below 4 GiB is scarce).
pub unsafe fn supply(host: &'static Host) -> Result<(), Errno> {
    let offset = match host.place {
        Place::Beside(offset) | Place::BesidePointer(offset) => {
            blocks::map()?;
            offset as isize
        }
        Place::Asked(_) => NOWHERE,
    };
    HOST.store(ptr::from_ref(host).cast_mut(), Ordering::Relaxed);
    // Release pairs with the Acquire in `known`: who sees the place also finds the host.
    OFFSET.store(offset, Ordering::Release);
    Ok(())
}

fn host() -> &'static Host {
    // Acquire: the image has stored it before it let other threads in, see `supply`.
    // SAFETY: null, or a host for ever.
    match unsafe { HOST.load(Ordering::Acquire).as_ref() } {
        Some(host) => host,
        None => impossible(b"percpu: used in an image that has not called percpu::host::supply\n"),
    }
}

#[cold]
#[inline(never)]
fn impossible(why: &[u8]) -> ! {
    let _ = sys::file::write(2, why);
    sys::process::abort()
}

/// The distance of [`Place::Beside`] or [`Place::BesidePointer`].
pub fn distance() -> Option<i32> {
    // Only `supply` writes it, from 32 bits.
    Some(OFFSET.load(Ordering::Acquire)).filter(|d| *d != NOWHERE).map(|d| d as i32)
}

/// This thread's words, if they are known without a search: a thread that has had no use for them
/// has none.
///
/// # Context
/// Signal-safe; no system call.
#[inline(always)]
pub fn known_words() -> Option<&'static Words> {
    // Acquire pairs with the Release in `supply`.
    let offset = OFFSET.load(Ordering::Acquire);
    if offset == NOWHERE {
        return asked();
    }
    let at = beside::read(offset);
    // SAFETY: 0, or what `find` has written, since the word is ours alone (the promise to
    // `supply`): words in memory that stays.
    unsafe { ptr::with_exposed_provenance::<Words>(at as usize).as_ref() }
}

fn asked() -> Option<&'static Words> {
    match host().place {
        // SAFETY: this thread's words, which are never given back to the kernel.
        Place::Asked(ask) => Some(unsafe { ask().as_ref() }),
        Place::Beside(_) | Place::BesidePointer(_) => None,
    }
}

/// This thread's words; makes them. `None`: there are as many control blocks already as there is
/// room for words (131,072), and the thread has to do without: it must use nothing of this crate.
///
/// # Context
/// Signal-safe; at a [`Place::BesidePointer`] one system call, unless they are known.
#[inline(always)]
pub fn own_words() -> Option<&'static Words> {
    known_words().or_else(find)
}

/// The words of all threads beside their thread pointers that have had some, of those that are
/// gone, too.
///
/// # Context
/// Signal-safe; no system call. Looks at 131,072 places.
pub fn all_words() -> impl Iterator<Item = &'static Words> {
    blocks::all()
}

#[cold]
#[inline(never)]
fn find() -> Option<&'static Words> {
    let (offset, control_block) = match host().place {
        Place::Beside(offset) => (offset, beside::control_block()),
        Place::BesidePointer(offset) => (offset, beside::thread_pointer()),
        Place::Asked(_) => return asked(),
    };
    let Some(control_block) = control_block else {
        impossible(b"percpu: the words beside the thread pointer cannot be found\n")
    };
    let (address, words) = blocks::of(control_block)?;
    beside::write(offset as isize, address);
    Some(words)
}

/// The thread's pointers, as [`crate::arch`] has them where there is a C library.
pub(crate) mod slots {
    use super::{Ordering, Words, impossible, own_words};

    pub(crate) use super::words::SLOTS;

    #[inline(always)]
    fn own() -> &'static Words {
        match own_words() {
            Some(words) => words,
            None => impossible(b"percpu: more threads than there can be\n"),
        }
    }

    // Relaxed: only the thread itself and its signal handlers come here, and the next owner of the
    // words after it, to whom the C library has given the control block.
    #[inline(always)]
    pub(crate) fn get(slot: usize) -> *mut () {
        own().slots[slot].load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub(crate) fn set(slot: usize, value: *mut ()) {
        own().slots[slot].store(value, Ordering::Relaxed);
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
