//! Pointer-sized thread-local slots that can be read anywhere, and functions that run when a thread
//! exits.
//!
//! On x86-64 a slot is one load at a fixed distance from the thread pointer: no call to
//! `__tls_get_addr`, hence no malloc at a thread's first access, also when this code is in a shared
//! object. Elsewhere they come from `thread_local!`. Without the feature `std` they lie where the
//! image says (`crate::host`).
//!
//! A slot holds a pointer whose meaning belongs to the crate that the [`Key`] names. It is null
//! when a thread starts; in a fork child the surviving thread keeps its values (in a freestanding
//! image it finds null).

#[cfg(any(feature = "std", loom, simulated))]
pub(crate) use crate::arch::tls as slots;
#[cfg(not(any(feature = "std", loom, simulated)))]
pub(crate) use crate::host::slots;

/// Which slot. Each belongs to one user, because there is no run-time registration to get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Key {
    /// `reclaim::rcu`.
    Rcu = 0,
    /// `reclaim::hazptr`.
    Hazptr = 1,
    /// `reclaim::cached`.
    CachedRef = 2,
    /// `objpool`.
    Pool = 3,
    /// Free for the program.
    User0 = 4,
    /// The agent: the environment of an exec in progress.
    User1 = 5,
    /// The probe engine: its execution slots.
    User2 = 6,
}

/// The slot after the public keys: the thread's number.
pub(crate) const THREAD_ID_SLOT: usize = 7;

const _: () =
    assert!(THREAD_ID_SLOT < slots::SLOTS, "the block holds every key and the thread number");

/// This thread's value of `key`.
///
/// # Context
/// Signal-safe, never allocates, never blocks.
#[inline(always)]
pub fn get(key: Key) -> *mut () {
    slots::get(key as usize)
}

/// Sets this thread's value of `key`.
///
/// Unsafe, because the owner of a key follows the pointer that it finds there:
/// ```compile_fail,E0133
/// use percpu::tls::{self, Key};
/// tls::set(Key::Hazptr, std::ptr::without_provenance_mut(0x4141_4140));
/// ```
///
/// # Safety
/// The caller is the one user of `key` in this process (see [`Key`]), and `value` is what that user
/// expects there: each of its readers in this thread, and in signal handlers over it, may follow
/// it.
///
/// # Context
/// Signal-safe, never allocates, never blocks.
#[inline(always)]
#[allow(unsafe_code)]
pub unsafe fn set(key: Key, value: *mut ()) {
    slots::set(key as usize, value);
}

/// Makes `f` run in every thread that exits after it called [`arm_exit`]. Any number of functions;
/// registering the same one again changes nothing.
///
/// Functions run in the order of registration, after the destructors of Rust and C++
/// thread-locals, and again (at most four times, as POSIX has it) if one of them armed the exit
/// anew. False: nothing was registered, because the process has no pthread key left, or the
/// kernel no memory for more functions than 8 (one page for each further 511). What depends on
/// the function then has to do without the thread's end, or fail.
///
/// # Context
/// Signal-safe after [`crate::init`]; lock-free; no malloc, at most one `mmap` system call.
#[must_use = "without the function nobody cleans up after the thread"]
pub fn on_thread_exit(f: extern "C" fn()) -> bool {
    exit::register(f)
}

/// This thread will run the functions of [`on_thread_exit`] when it ends by returning or by
/// `pthread_exit`. `_exit` and a fatal signal skip them. False: the C library has no memory for
/// the thread's value of the key, and the functions will not run. In a freestanding image, which
/// sees no thread's end, they run in `thread_has_ended`.
///
/// # Context
/// Signal-safe after [`crate::init`]; never blocks.
#[allow(clippy::must_use_candidate, reason = "arming again, in an exit function, cannot fail")]
pub fn arm_exit() -> bool {
    exit::arm()
}

pub(crate) fn prepare() {
    exit::prepare();
}

/// Runs the functions of [`on_thread_exit`] for a thread that is gone, whose words the calling
/// thread has now: afterwards they are as a new thread's.
///
/// For freestanding images that give words from one thread to the next and can tell. One that
/// cannot leaves this out: the next thread then goes on as if it were the one before.
///
/// # Safety
/// The thread that used the words before runs no more.
///
/// # Context
/// Signals are blocked; what the functions do (drop objects, give records back).
#[cfg(not(any(feature = "std", loom, simulated)))]
#[allow(unsafe_code)]
pub unsafe fn thread_has_ended() {
    exit::run_all(core::ptr::null_mut());
    slots::set(THREAD_ID_SLOT, core::ptr::null_mut());
}

#[cfg(not(loom))]
mod exit {
    #![allow(unsafe_code)]
    use crate::host::ThreadEnd;
    use core::ptr;
    use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
    use sys::memory;

    /// In the chunk that is always there. Most processes need no other.
    const FIRST: usize = 8;
    const PAGE: usize = 4096;
    /// In each further chunk, which is a page.
    const MORE: usize = PAGE / size_of::<usize>() - 1;

    const _: () = assert!(size_of::<Chunk<MORE>>() == PAGE, "a further chunk fills its page");

    /// A part of the table. An entry is 0, or a function's address. Entries are filled from the
    /// front by compare-and-swap and never emptied, chunks are added at the end and never freed:
    /// so all see the functions in one order, and the same function never takes two entries.
    #[repr(C)]
    struct Chunk<const N: usize> {
        functions: [AtomicUsize; N],
        /// Null while the entries before it suffice.
        next: AtomicPtr<Chunk<MORE>>,
    }

    static TABLE: Chunk<FIRST> = Chunk {
        functions: [const { AtomicUsize::new(0) }; FIRST],
        next: AtomicPtr::new(ptr::null_mut()),
    };
    static END: ThreadEnd = ThreadEnd::new(run_all);

    pub(super) fn register(f: extern "C" fn()) -> bool {
        if !END.create() {
            return false;
        }
        let address = f as usize;
        let (mut functions, mut next) = (&TABLE.functions[..], &TABLE.next);
        loop {
            if functions.iter().any(|entry| put(entry, address)) {
                return true;
            }
            let Some(chunk) = following(next).or_else(|| extend(next)) else { return false };
            (functions, next) = (&chunk.functions[..], &chunk.next);
        }
    }

    /// Whether the entry holds the function now.
    fn put(entry: &AtomicUsize, address: usize) -> bool {
        // Relaxed: the entry is code, nothing was written for its reader.
        match entry.compare_exchange(0, address, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => true,
            Err(there) => there == address,
        }
    }

    fn following(next: &AtomicPtr<Chunk<MORE>>) -> Option<&'static Chunk<MORE>> {
        // Acquire pairs with the Release in `extend`: the chunk is seen as it was mapped.
        let chunk = next.load(Ordering::Acquire);
        // SAFETY: null, or a chunk that `extend` has published; those are never freed.
        unsafe { chunk.as_ref() }
    }

    /// Adds a chunk behind `next`, or finds the one that somebody else has added meanwhile.
    #[cold]
    fn extend(next: &AtomicPtr<Chunk<MORE>>) -> Option<&'static Chunk<MORE>> {
        let page = memory::pages(PAGE).ok()?;
        // Fresh pages are zero: no function, and no chunk after it. Release pairs with the
        // Acquire in `following`.
        let new = page.cast::<Chunk<MORE>>().as_ptr();
        if next
            .compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            // SAFETY: just mapped with this size, and published nowhere.
            let _ = unsafe { memory::munmap(page.as_ptr(), PAGE) };
        }
        following(next)
    }

    pub(super) fn arm() -> bool {
        END.arm()
    }

    pub(super) fn prepare() {
        END.create();
    }

    pub(super) extern "C" fn run_all(_value: *mut core::ffi::c_void) {
        TABLE.functions.iter().for_each(call);
        let mut next = &TABLE.next;
        while let Some(chunk) = following(next) {
            chunk.functions.iter().for_each(call);
            next = &chunk.next;
        }
    }

    fn call(entry: &AtomicUsize) {
        let address = entry.load(Ordering::Relaxed);
        if address != 0 {
            // SAFETY: `register` stored the address of an `extern "C" fn()`.
            let f: extern "C" fn() = unsafe { core::mem::transmute(address) };
            f();
        }
    }
}

/// Thread exit is not modelled: a model calls the exit function by hand.
#[cfg(loom)]
mod exit {
    pub(super) fn register(_f: extern "C" fn()) -> bool {
        true
    }

    pub(super) fn arm() -> bool {
        true
    }

    pub(super) fn prepare() {}
}
