//! Programs that are about to give up system calls: what is in memory has to do from then on.
//!
//! A filter that kills for none of our calls changes nothing. For any other, room is made that can
//! still be made, and then the engine and the segment are told to do without
//! ([`uprobe::seal`]). Where the program installs its filter by a system call of its own, or in a
//! child of `vfork`, we do not hear of it.
#![allow(unsafe_code)]

use crate::{MEMORY, bpf, control_block, segment, stacks};
use libc::{c_long, sock_filter};

/// Calls that are made in threads that begin and end, for libraries that come and go, for stacks
/// that are seen for the first time, in fork children, and for programs that are executed.
const OURS: [c_long; 29] = [
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_kill,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munlock,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlink,
    libc::SYS_rt_sigaction,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_tgkill,
    libc::SYS_write,
];

/// The program is about to install this filter; none: the kernel's strict one.
///
/// # Context
/// System calls, and memory from the kernel.
pub(crate) fn enter(filter: Option<&[sock_filter]>) {
    let spares = |number| filter.is_some_and(|filter| bpf::spares(filter, number));
    let masks = spares(libc::SYS_rt_sigprocmask);
    if masks && OURS.into_iter().all(spares) {
        return;
    }
    if !uprobe::is_sealed() {
        if !segment::is_own() {
            // The filter is not for the process whose memory this is.
            return;
        }
        uprobe::own_code(|| {
            MEMORY.reserve();
            uprobe::put_aside();
            stacks::seal();
            if let Some(segment) = segment::get() {
                segment.seal(segment::owner());
            }
            // SAFETY: no arguments.
            control_block::compare(unsafe { libc::syscall(libc::SYS_gettid) } as u32);
        });
    }
    uprobe::seal(masks);
}
