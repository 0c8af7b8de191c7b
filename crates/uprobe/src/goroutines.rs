//! Shadow stacks of goroutines.
//!
//! A goroutine goes on in any thread, and its stack is copied to where it has more room. So each
//! has a shadow stack of its own, found by the address of the runtime's descriptor (`g`, which r14
//! leads to in every function of Go's compiler), and a slot on it is how far below the end of the
//! goroutine's stack a return address lies: a copy keeps that. Counted down from zero, slots are
//! ordered as addresses are: older calls have higher ones.
//!
//! The runtime never gives descriptors back, and uses them again, so the table only grows. It is
//! found in by whoever hits, without a lock; only the thread that runs a goroutine touches its
//! shadow stack, and signal handlers, which run no function of a goroutine's, do not. So a shadow
//! stack that is full is moved to where it has more room, as Go does.
#![allow(unsafe_code)]

use crate::mapping::zeros;
use crate::shadow::{ENTRY, Stack};
use crate::wipe_on_fork::Lock;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Address of a goroutine's descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct G(pub(crate) u64);

/// Where a descriptor has the end of the goroutine's stack (`stack.hi`), in all versions so far.
pub(crate) const STACK_END: usize = 8;

impl G {
    /// Where the goroutine's stack ends now.
    pub(crate) fn stack_end(self) -> u64 {
        let place = ptr::with_exposed_provenance::<AtomicU64>(self.0 as usize + STACK_END);
        // SAFETY: r14 of a function of Go's compiler, which has just used it itself; descriptors
        // live for ever.
        unsafe { &*place }.load(Ordering::Relaxed)
    }

    /// The slot of a return address at this address of the goroutine's stack.
    pub(crate) fn slot(self, at: u64) -> u64 {
        at.wrapping_sub(self.stack_end())
    }
}

/// What is known of a goroutine. The assembly knows the offsets.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Goroutine {
    /// Address of the runtime's descriptor.
    pub(crate) g: AtomicU64,
    /// Address of its shadow stack.
    pub(crate) stack: AtomicUsize,
    /// Where the assembly keeps rax, rcx and rdx of the program, and the site's number.
    pub(crate) saved: [AtomicU64; 4],
    /// The shadow stack has `SMALLEST << class` bytes.
    class: AtomicU32,
}

const _: () = assert!(size_of::<Goroutine>() == 64 && offset_of!(Goroutine, saved) == 16);

/// Goroutines that there can be at one time.
const MOST: usize = 1 << 17;
/// Places of the table.
pub(crate) const PLACES: usize = 2 * MOST;
/// How many places are looked at for a goroutine. The assembly looks at fewer.
const LOOKED_AT: usize = 64;
/// The hash is `(g * MULTIPLIER) >> SHIFT`: descriptors lie near each other, so that their low bits
/// tell them apart. (The constant is the golden ratio's, as a negative number of 32 bits.)
pub(crate) const MULTIPLIER: i32 = 0x9e37_79b9_u32.cast_signed();
pub(crate) const SHIFT: u32 = 20;

/// Addresses of what is known of goroutines; null before [`prepare`]. The assembly reads it.
pub(crate) static TABLE: AtomicPtr<AtomicUsize> = AtomicPtr::new(ptr::null_mut());

/// Bytes of a new shadow stack.
const SMALLEST: usize = 1 << 10;
/// How often one can be doubled: to 64 MiB, for 1.4 million pending calls.
const CLASSES: usize = 17;
/// Memory is taken from the kernel in pieces of so many bytes.
const PIECE: usize = 1 << 20;

/// For whoever takes memory, or gives it back, or adds a goroutine.
const LOCK: Lock = Lock::new(1000);
/// How many goroutines are known.
static KNOWN: AtomicUsize = AtomicUsize::new(0);
/// The piece that memory is taken from, and how much of it is taken.
static CURRENT: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static USED: AtomicUsize = AtomicUsize::new(PIECE);
/// Shadow stacks that were given back, by class; the first word of one leads to the next.
static FREE: [AtomicUsize; CLASSES] = [const { AtomicUsize::new(0) }; CLASSES];

/// Maps the table, once. False: there is no memory. Under the engine's lock.
///
/// # Context
/// A system call the first time.
pub(crate) fn prepare() -> bool {
    if TABLE.load(Ordering::Relaxed).is_null() {
        let table = zeros(PLACES * size_of::<AtomicUsize>()).unwrap_or(ptr::null_mut());
        // Stubs that need it are written afterwards.
        TABLE.store(table.cast(), Ordering::Release);
    }
    !TABLE.load(Ordering::Relaxed).is_null()
}

/// What is known of a goroutine; it is made known. None: there are too many, or no memory.
///
/// # Context
/// Signal-safe, with signals blocked. Rarely a system call.
pub(crate) fn of(g: G) -> Option<&'static Goroutine> {
    find(g).or_else(|| LOCK.with(|| add(g)))
}

fn places(g: G) -> impl Iterator<Item = &'static AtomicUsize> {
    let table = TABLE.load(Ordering::Acquire);
    let hash = g.0.wrapping_mul(i64::from(MULTIPLIER).cast_unsigned()) >> SHIFT;
    let count = if table.is_null() { 0 } else { LOOKED_AT };
    (0..count).map(move |n| {
        // SAFETY: inside the table.
        let place = unsafe { table.add((hash as usize + n) % PLACES) };
        // SAFETY: all of the table is atomics, and it is never unmapped.
        unsafe { &*place }
    })
}

fn at(address: usize) -> Option<&'static Goroutine> {
    // SAFETY: 0, or that of one that was made, which live for ever.
    unsafe { ptr::with_exposed_provenance::<Goroutine>(address).as_ref() }
}

fn find(g: G) -> Option<&'static Goroutine> {
    for place in places(g) {
        // Acquire pairs with the Release in `add`. A place that is in use stays so, so behind a
        // free one there is none with this hash.
        let there = at(place.load(Ordering::Acquire))?;
        if there.g.load(Ordering::Relaxed) == g.0 {
            return Some(there);
        }
    }
    None
}

/// With the lock. Nobody else adds this goroutine, which only the calling thread runs.
fn add(g: G) -> Option<&'static Goroutine> {
    let mut free = places(g).filter(|place| place.load(Ordering::Relaxed) == 0);
    let place = free.next().filter(|_| KNOWN.load(Ordering::Relaxed) < MOST)?;
    let stack = take(0)?;
    let memory = part(size_of::<Goroutine>())?;
    // SAFETY: zeros of our own, aligned to 64, which are valid for its fields and never unmapped.
    let new = unsafe { &*memory.cast_const().cast::<Goroutine>() };
    new.g.store(g.0, Ordering::Relaxed);
    new.stack.store(stack.address(), Ordering::Relaxed);
    KNOWN.fetch_add(1, Ordering::Relaxed);
    // Release pairs with the Acquire in `find`, and with the loads of the assembly.
    place.store(memory.expose_provenance(), Ordering::Release);
    Some(new)
}

impl Goroutine {
    /// Its shadow stack. To be asked for again behind [`Goroutine::grow`].
    pub(crate) fn stack(&self) -> &'static Stack {
        let at = ptr::with_exposed_provenance::<Stack>(self.stack.load(Ordering::Relaxed));
        // SAFETY: one that was made before what is known of it could be found; they live for ever.
        unsafe { &*at }
    }

    /// Moves what is pending to a shadow stack with more room. False: there is none.
    ///
    /// # Context
    /// As [`of`]. In the thread that runs the goroutine.
    pub(crate) fn grow(&self) -> bool {
        let class = self.class.load(Ordering::Relaxed);
        let next = class as usize + 1;
        let Some(new) = (next < CLASSES).then(|| LOCK.with(|| take(next))).flatten() else {
            return false;
        };
        let old = self.stack();
        let words = (old.top() + ENTRY - old.bottom()) / size_of::<AtomicU64>();
        // Word by word: a copy may be a call of the C library's memcpy.
        for n in 0..words {
            let word = |bottom: usize| {
                let at = ptr::with_exposed_provenance::<AtomicU64>(bottom).wrapping_add(n);
                // SAFETY: inside both, up to the newest entry's end; all of it is words.
                unsafe { &*at }
            };
            word(new.bottom()).store(word(old.bottom()).load(Ordering::Relaxed), Ordering::Relaxed);
        }
        new.top.store(new.bottom() + old.top() - old.bottom(), Ordering::Relaxed);
        self.stack.store(new.address(), Ordering::Relaxed);
        self.class.store(class + 1, Ordering::Relaxed);
        LOCK.with(|| put_back(old, class as usize));
        true
    }
}

/// A shadow stack of that class, empty. With the lock.
fn take(class: usize) -> Option<&'static Stack> {
    let bytes = SMALLEST << class;
    let free = &FREE[class];
    let memory = match free.load(Ordering::Relaxed) {
        0 if bytes < PIECE => part(bytes)?,
        0 => zeros(bytes)?,
        given_back => {
            let memory = ptr::with_exposed_provenance_mut::<u8>(given_back);
            let words = memory.cast_const().cast::<AtomicUsize>();
            let word = |n: usize| {
                // SAFETY: inside what was given back, which is nobody's now.
                unsafe { &*words.wrapping_add(n) }
            };
            free.store(word(0).load(Ordering::Relaxed), Ordering::Relaxed);
            // Word by word, as in `grow`.
            (0..bytes / size_of::<usize>()).for_each(|n| word(n).store(0, Ordering::Relaxed));
            memory
        }
    };
    // SAFETY: zeros of our own, aligned to a power of two, which are never unmapped.
    Some(unsafe { Stack::new(memory, bytes) })
}

/// Nobody uses that shadow stack any more. With the lock.
fn put_back(stack: &Stack, class: usize) {
    let free = &FREE[class];
    let first = ptr::with_exposed_provenance::<AtomicUsize>(stack.address());
    // SAFETY: the first word of memory that is nobody's now.
    unsafe { &*first }.store(free.load(Ordering::Relaxed), Ordering::Relaxed);
    free.store(stack.address(), Ordering::Relaxed);
}

/// Zeros of our own, of a size that is a power of two and below a piece's, aligned to 64 at least.
/// With the lock.
fn part(bytes: usize) -> Option<*mut u8> {
    if USED.load(Ordering::Relaxed) + bytes > PIECE {
        CURRENT.store(zeros(PIECE)?, Ordering::Relaxed);
        USED.store(0, Ordering::Relaxed);
    }
    let from = USED.fetch_add(bytes, Ordering::Relaxed);
    Some(CURRENT.load(Ordering::Relaxed).wrapping_add(from))
}
