//! What `percpu` has to know, and control blocks as a C library has them.
#![allow(unsafe_code)]

use core::mem::offset_of;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use percpu::host::{Area, Host, Place, Words};
use sys::memory::{self, MADV_WIPEONFORK};
use sys::{raw, thread};

/// A thread's, at its thread pointer.
#[repr(C, align(64))]
pub(crate) struct ControlBlock {
    /// Its own address, as the x86-64 ABI has it.
    own: AtomicPtr<ControlBlock>,
    words: AtomicPtr<Words>,
    /// `struct rseq`.
    area: Rseq,
}

#[repr(C, align(32))]
struct Rseq([u32; 8]);

impl ControlBlock {
    pub(crate) const fn new() -> Self {
        Self {
            own: AtomicPtr::new(ptr::null_mut()),
            words: AtomicPtr::new(ptr::null_mut()),
            area: Rseq([0, u32::MAX, 0, 0, 0, 0, 0, 0]),
        }
    }

    /// Makes it ready for a thread; what an earlier one has left there stays.
    pub(crate) fn prepare(&self) -> *const Self {
        self.own.store(ptr::from_ref(self).cast_mut(), Ordering::Relaxed);
        self
    }
}

const AREA: Area = Area { offset: offset_of!(ControlBlock, area) as isize, features: 0 };

const fn host(area: Option<Area>) -> Host {
    Host { place: Place::Beside(offset_of!(ControlBlock, words) as isize), find, area }
}

static BARE: Host = host(None);
static WITH_AREA: Host = host(Some(AREA));

static MAIN: ControlBlock = ControlBlock::new();
/// Whether threads register their areas.
static REGISTERS: AtomicUsize = AtomicUsize::new(0);

/// All words, in memory that a child finds wiped: the first is how many were given out.
static WORDS: AtomicPtr<Words> = AtomicPtr::new(ptr::null_mut());
const ROOM: usize = 1 << 16;

const ARCH_PRCTL: usize = 158;
const ARCH_SET_FS: usize = 0x1002;

/// Gives the first thread a control block, and `percpu` what it needs.
pub(crate) fn begin(with_area: bool) {
    let main = MAIN.prepare().expose_provenance();
    // SAFETY: nobody has had a thread pointer before.
    unsafe { raw::syscall2(ARCH_PRCTL, ARCH_SET_FS, main) }.expect("a thread pointer");
    let words = memory::pages(ROOM).expect("memory").as_ptr();
    // SAFETY: fresh pages.
    unsafe { memory::madvise(words, ROOM, MADV_WIPEONFORK) }.expect("Linux 4.14");
    WORDS.store(words.cast(), Ordering::Relaxed);
    REGISTERS.store(usize::from(with_area), Ordering::Relaxed);
    begin_thread();
    // SAFETY: `find` and the word in the control block keep what is asked for; the words lie in
    // memory that is wiped; areas are where they are said to be.
    unsafe { percpu::host::supply(if with_area { &WITH_AREA } else { &BARE }) };
}

/// What a C library does at a thread's start.
pub(crate) fn begin_thread() {
    if REGISTERS.load(Ordering::Relaxed) != 0 {
        let area = (&raw const own().area).cast_mut().cast();
        // SAFETY: 32 bytes in the control block, which outlives the thread.
        unsafe { thread::rseq(area, 32, 0, 0x5305_3053) }.expect("not registered yet");
    }
}

fn own() -> &'static ControlBlock {
    let own: *const ControlBlock;
    // SAFETY: fs:0 is the control block's own address.
    unsafe {
        core::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) own, options(nostack, readonly));
    }
    // SAFETY: a static one.
    unsafe { &*own }
}

extern "C" fn find() -> NonNull<Words> {
    let all = WORDS.load(Ordering::Relaxed);
    // SAFETY: the first words are the counter, and nobody else's.
    let given = unsafe { AtomicUsize::from_ptr(all.cast()) };
    let index = given.fetch_add(1, Ordering::Relaxed) + 1;
    assert!((index + 1) * size_of::<Words>() <= ROOM, "more threads than words");
    // SAFETY: inside the pages.
    let words = unsafe { all.add(index) };
    own().words.store(words, Ordering::Relaxed);
    NonNull::new(words).expect("inside the pages")
}
