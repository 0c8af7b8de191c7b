//! System call numbers (Linux `include/uapi/asm-generic/unistd.h`) of the wrappers, and of
//! a few calls that have none.

/// `ftruncate(2)`.
pub const FTRUNCATE: usize = 46;
/// `faccessat(2)`.
pub const FACCESSAT: usize = 48;
/// `openat(2)`.
pub const OPENAT: usize = 56;
/// `close(2)`.
pub const CLOSE: usize = 57;
/// `read(2)`.
pub const READ: usize = 63;
/// `write(2)`.
pub const WRITE: usize = 64;
/// `pread64(2)`.
pub const PREAD64: usize = 67;
/// `pwrite64(2)`.
pub const PWRITE64: usize = 68;
/// `readlinkat(2)`.
pub const READLINKAT: usize = 78;
/// `newfstatat(2)`.
pub const NEWFSTATAT: usize = 79;
/// `fstat(2)`.
pub const FSTAT: usize = 80;
/// `exit(2)`.
pub const EXIT: usize = 93;
/// `exit_group(2)`.
pub const EXIT_GROUP: usize = 94;
/// `futex(2)`.
pub const FUTEX: usize = 98;
/// `nanosleep(2)`.
pub const NANOSLEEP: usize = 101;
/// `clock_gettime(2)`.
pub const CLOCK_GETTIME: usize = 113;
/// `sched_getaffinity(2)`.
pub const SCHED_GETAFFINITY: usize = 123;
/// `sched_yield(2)`.
pub const SCHED_YIELD: usize = 124;
/// `kill(2)`.
pub const KILL: usize = 129;
/// `tgkill(2)`.
pub const TGKILL: usize = 131;
/// `sigaltstack(2)`.
pub const SIGALTSTACK: usize = 132;
/// `rt_sigaction(2)`.
pub const RT_SIGACTION: usize = 134;
/// `rt_sigprocmask(2)`.
pub const RT_SIGPROCMASK: usize = 135;
/// `rt_sigpending(2)`.
pub const RT_SIGPENDING: usize = 136;
/// `rt_sigreturn(2)`.
pub const RT_SIGRETURN: usize = 139;
/// `prctl(2)`.
pub const PRCTL: usize = 167;
/// `getcpu(2)`.
pub const GETCPU: usize = 168;
/// `getpid(2)`.
pub const GETPID: usize = 172;
/// `getppid(2)`.
pub const GETPPID: usize = 173;
/// `gettid(2)`.
pub const GETTID: usize = 178;
/// `brk(2)`.
pub const BRK: usize = 214;
/// `munmap(2)`.
pub const MUNMAP: usize = 215;
/// `mremap(2)`.
pub const MREMAP: usize = 216;
/// `clone(2)`.
pub const CLONE: usize = 220;
/// `mmap(2)`.
pub const MMAP: usize = 222;
/// `mprotect(2)`.
pub const MPROTECT: usize = 226;
/// `munlock(2)`.
pub const MUNLOCK: usize = 229;
/// `madvise(2)`.
pub const MADVISE: usize = 233;
/// `prlimit64(2)`.
pub const PRLIMIT64: usize = 261;
/// `process_vm_readv(2)`.
pub const PROCESS_VM_READV: usize = 270;
/// `getrandom(2)`.
pub const GETRANDOM: usize = 278;
/// `memfd_create(2)`.
pub const MEMFD_CREATE: usize = 279;
/// `membarrier(2)`.
pub const MEMBARRIER: usize = 283;
/// `rseq(2)`.
pub const RSEQ: usize = 293;
