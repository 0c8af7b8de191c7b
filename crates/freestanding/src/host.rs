//! What `percpu` has to know, and control blocks as a C library has them.
#![allow(unsafe_code)]

use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use percpu::host::{Area, Host, Place};
use sys::{raw, thread};

/// A thread's, at its thread pointer.
#[repr(C, align(64))]
pub(crate) struct ControlBlock {
    /// Its own address, as the x86-64 ABI has it.
    own: AtomicPtr<ControlBlock>,
    /// Nobody uses it but the image.
    word: AtomicU32,
    /// `struct rseq`.
    area: Rseq,
}

#[repr(C, align(32))]
struct Rseq([u32; 8]);

impl ControlBlock {
    pub(crate) const fn new() -> Self {
        Self {
            own: AtomicPtr::new(ptr::null_mut()),
            word: AtomicU32::new(0),
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
    Host { place: Place::Beside(offset_of!(ControlBlock, word) as i32), area }
}

static BARE: Host = host(None);
static WITH_AREA: Host = host(Some(AREA));

static MAIN: ControlBlock = ControlBlock::new();
/// Whether threads register their areas.
static REGISTERS: AtomicUsize = AtomicUsize::new(0);

const ARCH_PRCTL: usize = 158;
const ARCH_SET_FS: usize = 0x1002;

/// Gives the first thread a control block, and `percpu` what it needs.
pub(crate) fn begin(with_area: bool) {
    let main = MAIN.prepare().expose_provenance();
    // SAFETY: nobody has had a thread pointer before.
    unsafe { raw::syscall2(ARCH_PRCTL, ARCH_SET_FS, main) }.expect("a thread pointer");
    REGISTERS.store(usize::from(with_area), Ordering::Relaxed);
    begin_thread();
    let host = if with_area { &WITH_AREA } else { &BARE };
    // SAFETY: the word in control blocks is nobody else's, and 0; areas are where they are said to
    // be.
    unsafe { percpu::host::supply(host) }.expect("memory below 4 GiB");
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
