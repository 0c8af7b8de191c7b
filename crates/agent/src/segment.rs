//! The mapped segment, and the blocks that threads of this process count in.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use wire::Segment;

static SEGMENT: OnceLock<Segment> = OnceLock::new();
/// This process, without a system call.
static PID: AtomicU32 = AtomicU32::new(0);

/// The segment, once it is open.
pub(crate) fn get() -> Option<&'static Segment> {
    SEGMENT.get()
}

/// Opens the segment at `path`.
pub(crate) fn open(path: &[u8]) -> Result<&'static Segment, wire::Error> {
    let segment = Segment::open(Path::new(OsStr::from_bytes(path)))?;
    set_pid();
    Ok(SEGMENT.get_or_init(|| segment))
}

/// In a new process.
pub(crate) fn set_pid() {
    PID.store(std::process::id(), Ordering::Relaxed);
}

pub(crate) fn pid() -> u32 {
    PID.load(Ordering::Relaxed)
}

/// A block for the calling thread.
pub(crate) fn thread_start() -> *mut u8 {
    let Some(segment) = get() else { return ptr::null_mut() };
    let tid = thread_id();
    let Some(block) = segment.take_block(pid(), tid) else { return ptr::null_mut() };
    segment.name_block(block, tid, &thread_name());
    segment.cells(block).map_or(ptr::null_mut(), |(cells, _)| cells.as_ptr())
}

/// The calling thread counts no more.
pub(crate) fn thread_exit(cells: *mut u8) {
    if let Some((segment, block)) = get().and_then(|s| Some((s, s.block_at(cells.addr())?))) {
        segment.release_block(block);
    }
}

/// A hit was lost.
pub(crate) fn lost(loss: uprobe::Loss) {
    let reason = match loss {
        uprobe::Loss::Recursion => wire::Loss::Recursion,
        uprobe::Loss::Depth => wire::Loss::Depth,
        uprobe::Loss::Capacity => wire::Loss::Threads,
        uprobe::Loss::Disabled => wire::Loss::Disabled,
    };
    if let Some(segment) = get() {
        segment.lose(reason, 1);
    }
}

#[allow(unsafe_code)]
fn thread_id() -> u32 {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// The name without the terminating zeros.
#[allow(unsafe_code)]
fn thread_name() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: the kernel writes at most 16 bytes.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}
