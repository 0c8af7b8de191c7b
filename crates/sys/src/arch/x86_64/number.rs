//! System call numbers (Linux `arch/x86/entry/syscalls/syscall_64.tbl`) of the wrappers, and of
//! a few calls that have none.

/// `read(2)`.
pub const READ: usize = 0;
/// `write(2)`.
pub const WRITE: usize = 1;
/// `close(2)`.
pub const CLOSE: usize = 3;
/// `fstat(2)`.
pub const FSTAT: usize = 5;
/// `mmap(2)`.
pub const MMAP: usize = 9;
/// `mprotect(2)`.
pub const MPROTECT: usize = 10;
/// `munmap(2)`.
pub const MUNMAP: usize = 11;
/// `brk(2)`.
pub const BRK: usize = 12;
/// `rt_sigaction(2)`.
pub const RT_SIGACTION: usize = 13;
/// `rt_sigprocmask(2)`.
pub const RT_SIGPROCMASK: usize = 14;
/// `rt_sigreturn(2)`.
pub const RT_SIGRETURN: usize = 15;
/// `pread64(2)`.
pub const PREAD64: usize = 17;
/// `pwrite64(2)`.
pub const PWRITE64: usize = 18;
/// `sched_yield(2)`.
pub const SCHED_YIELD: usize = 24;
/// `mremap(2)`.
pub const MREMAP: usize = 25;
/// `madvise(2)`.
pub const MADVISE: usize = 28;
/// `nanosleep(2)`.
pub const NANOSLEEP: usize = 35;
/// `getpid(2)`.
pub const GETPID: usize = 39;
/// `clone(2)`.
pub const CLONE: usize = 56;
/// `exit(2)`.
pub const EXIT: usize = 60;
/// `kill(2)`.
pub const KILL: usize = 62;
/// `ftruncate(2)`.
pub const FTRUNCATE: usize = 77;
/// `getppid(2)`.
pub const GETPPID: usize = 110;
/// `rt_sigpending(2)`.
pub const RT_SIGPENDING: usize = 127;
/// `sigaltstack(2)`.
pub const SIGALTSTACK: usize = 131;
/// `munlock(2)`.
pub const MUNLOCK: usize = 150;
/// `prctl(2)`.
pub const PRCTL: usize = 157;
/// `gettid(2)`.
pub const GETTID: usize = 186;
/// `futex(2)`.
pub const FUTEX: usize = 202;
/// `sched_getaffinity(2)`.
pub const SCHED_GETAFFINITY: usize = 204;
/// `clock_gettime(2)`.
pub const CLOCK_GETTIME: usize = 228;
/// `exit_group(2)`.
pub const EXIT_GROUP: usize = 231;
/// `tgkill(2)`.
pub const TGKILL: usize = 234;
/// `openat(2)`.
pub const OPENAT: usize = 257;
/// `newfstatat(2)`.
pub const NEWFSTATAT: usize = 262;
/// `readlinkat(2)`.
pub const READLINKAT: usize = 267;
/// `faccessat(2)`.
pub const FACCESSAT: usize = 269;
/// `prlimit64(2)`.
pub const PRLIMIT64: usize = 302;
/// `getcpu(2)`.
pub const GETCPU: usize = 309;
/// `process_vm_readv(2)`.
pub const PROCESS_VM_READV: usize = 310;
/// `getrandom(2)`.
pub const GETRANDOM: usize = 318;
/// `memfd_create(2)`.
pub const MEMFD_CREATE: usize = 319;
/// `membarrier(2)`.
pub const MEMBARRIER: usize = 324;
/// `rseq(2)`.
pub const RSEQ: usize = 334;
