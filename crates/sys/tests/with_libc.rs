//! Every call beside the C library's: the same answers, the same error numbers, and an `errno` that
//! nobody has touched.

use std::ffi::CStr;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use sys::signal::{Action, Set, Stack};
use sys::{Errno, file, futex, memory, process, random, signal, thread, time};

/// A value, or the number of an error.
type Answer = Result<i64, i32>;

/// What the C library answered.
fn theirs(result: i64) -> Answer {
    match result {
        -1 => Err(io::Error::last_os_error().raw_os_error().unwrap()),
        value => Ok(value),
    }
}

fn set_errno(value: i32) {
    // SAFETY: every thread has one.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: this thread's own.
    unsafe { *errno = value };
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

/// Runs a call of ours, which must leave `errno` alone.
fn ours<T>(call: impl FnOnce() -> Result<T, Errno>) -> Result<T, i32> {
    set_errno(77);
    let result = call();
    assert_eq!(errno(), 77);
    result.map_err(Errno::number)
}

fn stat_of(path: &CStr) -> libc::stat {
    // SAFETY: a stat is plain numbers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a string, and a place for the answer.
    assert_eq!(unsafe { libc::stat(path.as_ptr(), &raw mut stat) }, 0);
    stat
}

const NOWHERE: &CStr = c"/nowhere/at/all";

/// A descriptor that nobody has.
const NO_FD: i32 = 100_000;

#[test]
fn errors_have_their_numbers() {
    let no_pid = 0x3fff_ffff;
    let mut byte = [0_u8; 1];
    let at = byte.as_mut_ptr().cast();
    let odd = ptr::without_provenance_mut::<u8>(1);
    #[rustfmt::skip]
    let table: &[(&str, Answer, Answer)] = &[
        ("open", ours(|| file::openat(file::AT_FDCWD, NOWHERE, 0, 0)).map(i64::from),
            // SAFETY: a string.
            theirs(unsafe { libc::open(NOWHERE.as_ptr(), 0) }.into())),
        ("read", ours(|| file::read(NO_FD, &mut [0])).map(|n| n as i64),
            // SAFETY: one byte.
            theirs(unsafe { libc::read(NO_FD, at, 1) } as i64)),
        ("write", ours(|| file::write(NO_FD, b"x")).map(|n| n as i64),
            // SAFETY: one byte.
            theirs(unsafe { libc::write(NO_FD, at, 1) } as i64)),
        ("pread", ours(|| file::pread(NO_FD, &mut [0], 0)).map(|n| n as i64),
            // SAFETY: one byte.
            theirs(unsafe { libc::pread(NO_FD, at, 1, 0) } as i64)),
        ("pwrite", ours(|| file::pwrite(NO_FD, b"x", 0)).map(|n| n as i64),
            // SAFETY: one byte.
            theirs(unsafe { libc::pwrite(NO_FD, at, 1, 0) } as i64)),
        // SAFETY: there is no such descriptor.
        ("close", ours(|| unsafe { file::close(NO_FD) }).map(|()| 0),
            // SAFETY: as above.
            theirs(unsafe { libc::close(NO_FD) }.into())),
        // SAFETY: as above.
        ("ftruncate", ours(|| unsafe { file::ftruncate(NO_FD, 0) }).map(|()| 0),
            // SAFETY: as above.
            theirs(unsafe { libc::ftruncate(NO_FD, 0) }.into())),
        ("fstat", ours(|| file::fstat(NO_FD)).map(|_| 0), Err(libc::EBADF)),
        ("stat", ours(|| file::fstatat(file::AT_FDCWD, NOWHERE)).map(|_| 0), Err(libc::ENOENT)),
        ("readlink", ours(|| file::readlinkat(file::AT_FDCWD, c"/", &mut [0])).map(|n| n as i64),
            // SAFETY: a string, and one byte.
            theirs(unsafe { libc::readlink(c"/".as_ptr(), at.cast(), 1) } as i64)),
        ("memfd_create", ours(|| file::memfd_create(c"x", u32::MAX)).map(i64::from),
            // SAFETY: a string.
            theirs(unsafe { libc::memfd_create(c"x".as_ptr(), u32::MAX) }.into())),
        ("mmap", ours(|| memory::pages(0)).map(|_| 0), Err(libc::EINVAL)),
        ("mmap, all", ours(|| memory::pages(usize::MAX - 4095)).map(|_| 0), Err(libc::ENOMEM)),
        // SAFETY: not the beginning of a page.
        ("munmap", ours(|| unsafe { memory::munmap(odd, 1) }).map(|()| 0),
            // SAFETY: as above.
            theirs(unsafe { libc::munmap(odd.cast(), 1) }.into())),
        // SAFETY: as above.
        ("mprotect", ours(|| unsafe { memory::mprotect(odd, 1, 0) }).map(|()| 0),
            // SAFETY: as above.
            theirs(unsafe { libc::mprotect(odd.cast(), 1, 0) }.into())),
        // SAFETY: as above.
        ("madvise", ours(|| unsafe { memory::madvise(odd, 1, 4) }).map(|()| 0),
            // SAFETY: as above.
            theirs(unsafe { libc::madvise(odd.cast(), 1, 4) }.into())),
        // SAFETY: as above.
        ("mremap", ours(|| unsafe { memory::mremap(odd, 1, 2, 0, 0) }).map(|_| 0),
            Err(libc::EINVAL)),
        ("munlock", ours(|| memory::munlock(ptr::null_mut(), 1 << 40)).map(|()| 0),
            // SAFETY: nothing is there.
            theirs(unsafe { libc::munlock(ptr::null(), 1 << 40) }.into())),
        ("kill", ours(|| process::kill(no_pid, 0)).map(|()| 0),
            // SAFETY: nobody has the number.
            theirs(unsafe { libc::kill(no_pid, 0) }.into())),
        ("kill, no signal", ours(|| process::kill(process::getpid(), -1)).map(|()| 0),
            Err(libc::EINVAL)),
        ("tgkill", ours(|| process::tgkill(no_pid, no_pid, 0)).map(|()| 0), Err(libc::ESRCH)),
        // SAFETY: there is no such operation.
        ("prctl", ours(|| unsafe { process::prctl(-1, [0; 4]) }).map(|n| n as i64),
            // SAFETY: as above.
            theirs(unsafe { libc::prctl(-1, 0, 0, 0, 0) }.into())),
        ("process_vm_readv", ours(|| process::read_memory(no_pid, 0, &mut [0])).map(|n| n as i64),
            Err(libc::ESRCH)),
        ("getrandom", ours(|| random::getrandom(&mut [0], u32::MAX)).map(|n| n as i64),
            // SAFETY: one byte.
            theirs(unsafe { libc::getrandom(at.cast(), 1, u32::MAX) } as i64)),
        ("membarrier", ours(|| thread::membarrier(-1, 0)).map(|n| n as i64), Err(libc::EINVAL)),
        ("affinity", ours(|| thread::affinity(&mut [])).map(|n| n as i64), Err(libc::EINVAL)),
        // SAFETY: no area has this size.
        ("rseq", ours(|| unsafe { thread::rseq(odd, 1, 0, 0) }).map(|()| 0), Err(libc::EINVAL)),
        ("clock", ours(|| time::clock_gettime(-1000)).map(|_| 0), Err(libc::EINVAL)),
        // SAFETY: SIGKILL has no other disposition.
        ("sigaction", ours(|| unsafe { signal::sigaction(9, Some(&Action::DEFAULT)) }).map(|_| 0),
            Err(libc::EINVAL)),
        // SAFETY: there is no such way.
        ("sigprocmask", ours(|| unsafe { signal::sigprocmask(9, Some(&Set::EMPTY)) }).map(|_| 0),
            Err(libc::EINVAL)),
        // SAFETY: too small.
        ("sigaltstack", ours(|| unsafe {
                signal::sigaltstack(Some(&Stack { base: 0, flags: 0, bytes: 1 }))
            }).map(|_| 0), Err(libc::ENOMEM)),
    ];
    for (name, ours, theirs) in table {
        assert!(ours.is_err(), "{name}");
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn who_and_where_one_is() {
    assert_eq!(process::getpid(), std::process::id().cast_signed());
    // SAFETY: takes nothing.
    assert_eq!(process::getppid(), unsafe { libc::getppid() });
    // SAFETY: takes nothing.
    let (own, other) = (unsafe { libc::gettid() }, std::thread::spawn(thread::gettid));
    assert_eq!(thread::gettid(), own);
    assert_ne!(other.join().unwrap(), own);
    assert_eq!(ours(|| process::tgkill(process::getpid(), own, 0)), Ok(()));

    let mut mask = [0; 128];
    let bytes = ours(|| thread::affinity(&mut mask)).unwrap();
    // SAFETY: a mask is plain bits.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writable for its size.
    unsafe { libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) };
    for cpu in 0..(8 * bytes).min(libc::CPU_SETSIZE as usize) {
        // SAFETY: below the size of the mask.
        let theirs = unsafe { libc::CPU_ISSET(cpu, &allowed) };
        assert_eq!(mask[cpu / 64] & 1 << (cpu % 64) != 0, theirs, "CPU {cpu}");
    }
    let cpu = ours(thread::getcpu).unwrap() as usize;
    assert!(mask[cpu / 64] & 1 << (cpu % 64) != 0, "a CPU that the thread may run on");
    thread::sched_yield();
}

#[test]
fn files_are_those_of_the_c_library() {
    let path = c"/proc/self/exe";
    let fd = ours(|| file::openat(file::AT_FDCWD, path, file::O_RDONLY | file::O_CLOEXEC, 0));
    let fd = fd.unwrap();
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_GETFD) }, libc::FD_CLOEXEC);
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut bytes = [0; 64];
    assert_eq!(ours(|| file::read(fd, &mut bytes)), Ok(64));
    assert_eq!(bytes, own[..64]);
    assert_eq!(ours(|| file::pread(fd, &mut bytes, 100)), Ok(64));
    assert_eq!(bytes, own[100..164]);

    let theirs = stat_of(path);
    for stat in [ours(|| file::fstat(fd)), ours(|| file::fstatat(file::AT_FDCWD, path))] {
        let stat = stat.unwrap();
        assert_eq!((stat.dev, stat.ino), (theirs.st_dev, theirs.st_ino));
        assert_eq!((stat.mode, stat.nlink), (theirs.st_mode, theirs.st_nlink));
        assert_eq!((stat.uid, stat.gid, stat.rdev), (theirs.st_uid, theirs.st_gid, 0));
        assert_eq!((stat.size, stat.blocks), (theirs.st_size, theirs.st_blocks));
        let (mtime, ctime) = (theirs.st_mtime as u64, theirs.st_ctime as u64);
        assert_eq!((stat.mtime[0], stat.ctime[0]), (mtime, ctime));
    }
    let mut name = [0; 4096];
    let len = ours(|| file::readlinkat(file::AT_FDCWD, path, &mut name)).unwrap();
    assert_eq!(name[..len], *std::env::current_exe().unwrap().as_os_str().as_encoded_bytes());
    // SAFETY: opened above.
    assert_eq!(ours(|| unsafe { file::close(fd) }), Ok(()));
    assert_eq!(theirs_of_fd(fd), Err(libc::EBADF));
}

fn theirs_of_fd(fd: i32) -> Answer {
    // SAFETY: takes numbers.
    theirs(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into())
}

#[test]
fn memory_is_mapped_changed_moved_and_gone() {
    use memory::{MAP_SHARED, PAGE, PROT_NONE, PROT_READ, PROT_WRITE};
    let fd = ours(|| file::memfd_create(c"two", file::MFD_CLOEXEC)).unwrap();
    // SAFETY: nobody has mapped it yet.
    assert_eq!(ours(|| unsafe { file::ftruncate(fd, 4 * PAGE as u64) }), Ok(()));
    assert_eq!(ours(|| file::write(fd, b"hullo")), Ok(5));
    assert_eq!(ours(|| file::pwrite(fd, b"e", 1)), Ok(1));
    let (both, shared) = (PROT_READ | PROT_WRITE, MAP_SHARED);
    // SAFETY: a new mapping.
    let at = ours(|| unsafe { memory::mmap(0, PAGE, both, shared, fd, 0) }).unwrap();
    // SAFETY: an old size of 0: the mapping stays, and a second one is made.
    let second =
        ours(|| unsafe { memory::mremap(at, 0, 2 * PAGE, memory::MREMAP_MAYMOVE, 0) }).unwrap();
    assert_ne!(at, second);
    // SAFETY: mapped, and nobody else has it.
    unsafe { at.write(b'j') };
    // SAFETY: mapped.
    let text = unsafe { std::slice::from_raw_parts(second, 5) };
    assert_eq!(text, b"jello");
    assert_eq!(ours(|| process::read_memory(process::getpid(), at.addr(), &mut [0; 5])), Ok(5));
    // SAFETY: ours, and nobody looks meanwhile.
    assert_eq!(ours(|| unsafe { memory::mprotect(at, PAGE, PROT_NONE) }), Ok(()));
    let read = ours(|| process::read_memory(process::getpid(), at.addr(), &mut [0; 5]));
    assert_eq!(read, Err(libc::EFAULT));
    for (at, bytes) in [(at, PAGE), (second, 2 * PAGE)] {
        // SAFETY: ours; contents stay.
        assert_eq!(ours(|| unsafe { memory::madvise(at, bytes, memory::MADV_DONTDUMP) }), Ok(()));
        assert_eq!(ours(|| memory::munlock(at, bytes)), Ok(()));
        // SAFETY: ours, and nothing refers to it any more.
        assert_eq!(ours(|| unsafe { memory::munmap(at, bytes) }), Ok(()));
    }
    // SAFETY: opened above.
    assert_eq!(ours(|| unsafe { file::close(fd) }), Ok(()));
}

#[test]
fn the_heap_ends_where_the_c_library_says() {
    // Other tests' allocations move it meanwhile.
    let same = (0..1000).any(|_| {
        // SAFETY: 0 only asks.
        let theirs = unsafe { libc::sbrk(0) }.addr();
        ours(|| Ok(memory::program_break())) == Ok(theirs)
    });
    assert!(same);
}

#[test]
fn sleepers_are_woken_and_deadlines_end() {
    let word = &AtomicU32::new(0);
    for scope in [futex::Scope::Private, futex::Scope::Shared] {
        assert_eq!(ours(|| futex::wait(word, 1, None, scope)), Err(libc::EAGAIN));
        let now = ours(|| time::clock_gettime(time::CLOCK_MONOTONIC)).unwrap();
        let soon = now.after(Duration::from_millis(2));
        assert_eq!(ours(|| futex::wait(word, 0, Some(&soon), scope)), Err(libc::ETIMEDOUT));
        assert!(time::clock_gettime(time::CLOCK_MONOTONIC).unwrap() >= soon);
        assert_eq!(futex::wake(word, 1, scope), 0, "nobody is there");

        let seen = word.load(Ordering::Relaxed);
        std::thread::scope(|s| {
            s.spawn(|| {
                while word.load(Ordering::Acquire) == seen {
                    let _ = futex::wait(word, seen, None, scope);
                }
            });
            word.store(seen + 1, Ordering::Release);
            futex::wake(word, i32::MAX, scope);
        });
        word.store(0, Ordering::Relaxed);
    }
}

#[test]
fn what_is_random_is_never_the_same() {
    let mut words = [[0; 32]; 2];
    for word in &mut words {
        assert_eq!(ours(|| random::getrandom(word, random::GRND_NONBLOCK)), Ok(32));
    }
    assert_ne!(words[0], words[1]);
    assert!(words.iter().all(|word| *word != [0; 32]));
}

#[test]
fn sleeping_takes_as_long_as_was_said() {
    let before = std::time::Instant::now();
    assert_eq!(ours(|| time::nanosleep(Duration::from_millis(3))), Ok(()));
    assert!(before.elapsed() >= Duration::from_millis(3));
}

static SEEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn note(signal: i32, info: *mut std::ffi::c_void, _context: *mut std::ffi::c_void) {
    // SAFETY: the kernel's, for the time of the handler.
    let info = unsafe { &*info.cast::<libc::siginfo_t>() };
    // SAFETY: sent by a thread.
    let from = unsafe { info.si_pid() };
    SEEN.store(u32::from(from == process::getpid()) << 16 | signal as u32, Ordering::Relaxed);
}

#[test]
fn a_handler_runs_and_returns() {
    let signal_number = libc::SIGUSR2;
    let blocked = Set::of(libc::SIGUSR1);
    let action = Action::new(note, signal::SA_RESTART, blocked);
    // SAFETY: nobody else has to do with this signal.
    let before = ours(|| unsafe { signal::sigaction(signal_number, Some(&action)) }).unwrap();
    assert_eq!(before, Action::DEFAULT);
    // SAFETY: only asks.
    assert_eq!(ours(|| unsafe { signal::sigaction(signal_number, None) }), Ok(action));
    // SAFETY: plain numbers.
    let mut theirs: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks.
    unsafe { libc::sigaction(signal_number, ptr::null(), &raw mut theirs) };
    assert_eq!(theirs.sa_sigaction, note as *const () as usize);
    // SAFETY: the C library's set.
    assert_eq!(unsafe { libc::sigismember(&raw const theirs.sa_mask, libc::SIGUSR1) }, 1);

    // Blocked it waits, unblocked it comes.
    let only = Set::of(signal_number);
    // SAFETY: the handler is there.
    let old = ours(|| unsafe { signal::sigprocmask(signal::SIG_BLOCK, Some(&only)) }).unwrap();
    assert!(!old.contains(signal_number));
    let raised = ours(|| process::tgkill(process::getpid(), thread::gettid(), signal_number));
    assert_eq!(raised, Ok(()));
    assert_eq!(SEEN.load(Ordering::Relaxed), 0);
    assert!(ours(signal::sigpending).unwrap().contains(signal_number));
    // SAFETY: as it was.
    let here = ours(|| unsafe { signal::sigprocmask(signal::SIG_SETMASK, Some(&old)) }).unwrap();
    assert!(here.contains(signal_number));
    assert_eq!(SEEN.load(Ordering::Relaxed), 1 << 16 | signal_number as u32);
    // SAFETY: as it was.
    unsafe { signal::sigaction(signal_number, Some(&before)) }.unwrap();
}

/// Debuggers and libgcc's unwinder know a signal frame by the code that it returns to.
#[test]
#[cfg(target_arch = "x86_64")]
fn unwinders_recognise_the_restorer() {
    let action = Action::new(note, 0, Set::EMPTY);
    let code = ptr::with_exposed_provenance::<[u8; 9]>(action.restorer);
    // SAFETY: code can be read.
    assert_eq!(unsafe { code.read() }, *b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05");
}

#[test]
fn the_signal_stack_is_the_c_librarys() {
    // SAFETY: plain numbers.
    let mut theirs: libc::stack_t = unsafe { std::mem::zeroed() };
    // SAFETY: only asks.
    unsafe { libc::sigaltstack(ptr::null(), &raw mut theirs) };
    // SAFETY: only asks.
    let ours = ours(|| unsafe { signal::sigaltstack(None) }).unwrap();
    assert_eq!((ours.base, ours.flags), (theirs.ss_sp.addr(), theirs.ss_flags));
    assert_eq!(ours.bytes, theirs.ss_size);
}

/// How a child ended that runs `last`.
fn end_of(last: impl FnOnce()) -> i32 {
    // SAFETY: the child makes system calls only.
    let child = unsafe { libc::fork() };
    if child == 0 {
        last();
        // SAFETY: does not come back.
        unsafe { libc::_exit(99) };
    }
    let mut status = 0;
    // SAFETY: a child of ours.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

#[test]
fn ends() {
    assert_eq!(libc::WEXITSTATUS(end_of(|| process::exit_group(7))), 7);
    // SAFETY: the only thread of the child.
    assert_eq!(libc::WEXITSTATUS(end_of(|| unsafe { thread::exit(8) })), 8);
    let stubborn = || {
        let ignored = Action { handler: libc::SIG_IGN, ..Action::DEFAULT };
        // SAFETY: the child's own.
        unsafe { signal::sigaction(signal::SIGABRT, Some(&ignored)) }.unwrap();
        // SAFETY: as above.
        unsafe { signal::sigprocmask(signal::SIG_SETMASK, Some(&Set::ALL)) }.unwrap();
        process::abort();
    };
    for status in [end_of(|| process::abort()), end_of(stubborn)] {
        assert!(libc::WIFSIGNALED(status), "{status:#x}");
        assert_eq!(libc::WTERMSIG(status), libc::SIGABRT);
    }
}

/// Values that differ between C libraries and kernels, or could be mistyped.
#[test]
fn constants() {
    use file::*;
    use memory::*;
    use signal::*;
    let table = [
        (PROT_READ | PROT_WRITE << 8, libc::PROT_READ | libc::PROT_WRITE << 8),
        (PROT_EXEC | PROT_NONE, libc::PROT_EXEC | libc::PROT_NONE),
        (MAP_SHARED, libc::MAP_SHARED),
        (MAP_PRIVATE, libc::MAP_PRIVATE),
        (MAP_FIXED, libc::MAP_FIXED),
        (MAP_ANONYMOUS, libc::MAP_ANONYMOUS),
        (MAP_NORESERVE, libc::MAP_NORESERVE),
        (MAP_FIXED_NOREPLACE, libc::MAP_FIXED_NOREPLACE),
        (MREMAP_MAYMOVE, libc::MREMAP_MAYMOVE),
        (MREMAP_FIXED, libc::MREMAP_FIXED),
        (MADV_DONTNEED, libc::MADV_DONTNEED),
        (MADV_HUGEPAGE, libc::MADV_HUGEPAGE),
        (MADV_DONTDUMP, libc::MADV_DONTDUMP),
        (MADV_WIPEONFORK, libc::MADV_WIPEONFORK),
        (MADV_POPULATE_WRITE, libc::MADV_POPULATE_WRITE),
        (AT_FDCWD, libc::AT_FDCWD),
        (O_RDONLY, libc::O_RDONLY),
        (O_WRONLY, libc::O_WRONLY),
        (O_RDWR, libc::O_RDWR),
        (O_CLOEXEC, libc::O_CLOEXEC),
        (MFD_CLOEXEC.cast_signed(), libc::MFD_CLOEXEC.cast_signed()),
        (SIGILL, libc::SIGILL),
        (SIGTRAP, libc::SIGTRAP),
        (SIGABRT, libc::SIGABRT),
        (SIGSEGV, libc::SIGSEGV),
        (SIGCHLD, libc::SIGCHLD),
        (SIG_BLOCK, libc::SIG_BLOCK),
        (SIG_UNBLOCK, libc::SIG_UNBLOCK),
        (SIG_SETMASK, libc::SIG_SETMASK),
        (SA_SIGINFO as i32, libc::SA_SIGINFO),
        (SA_ONSTACK as i32, libc::SA_ONSTACK),
        (SA_RESTART as i32, libc::SA_RESTART),
        (SA_NODEFER as i32, libc::SA_NODEFER),
        (SA_RESETHAND as i32, libc::SA_RESETHAND),
        (SIG_DFL as i32, libc::SIG_DFL as i32),
        (SIG_IGN as i32, libc::SIG_IGN as i32),
        (SS_DISABLE, libc::SS_DISABLE),
        (time::CLOCK_MONOTONIC, libc::CLOCK_MONOTONIC),
    ];
    for (row, (ours, theirs)) in table.iter().enumerate() {
        assert_eq!(ours, theirs, "row {row}");
    }
}

#[test]
fn numbers() {
    use sys::number::*;
    let table = [
        (READ, libc::SYS_read),
        (WRITE, libc::SYS_write),
        (CLOSE, libc::SYS_close),
        (FSTAT, libc::SYS_fstat),
        (MMAP, libc::SYS_mmap),
        (MPROTECT, libc::SYS_mprotect),
        (MUNMAP, libc::SYS_munmap),
        (BRK, libc::SYS_brk),
        (RT_SIGACTION, libc::SYS_rt_sigaction),
        (RT_SIGPROCMASK, libc::SYS_rt_sigprocmask),
        (RT_SIGRETURN, libc::SYS_rt_sigreturn),
        (PREAD64, libc::SYS_pread64),
        (PWRITE64, libc::SYS_pwrite64),
        (SCHED_YIELD, libc::SYS_sched_yield),
        (MREMAP, libc::SYS_mremap),
        (MADVISE, libc::SYS_madvise),
        (NANOSLEEP, libc::SYS_nanosleep),
        (GETPID, libc::SYS_getpid),
        (CLONE, libc::SYS_clone),
        (EXIT, libc::SYS_exit),
        (KILL, libc::SYS_kill),
        (FTRUNCATE, libc::SYS_ftruncate),
        (GETPPID, libc::SYS_getppid),
        (RT_SIGPENDING, libc::SYS_rt_sigpending),
        (SIGALTSTACK, libc::SYS_sigaltstack),
        (MUNLOCK, libc::SYS_munlock),
        (PRCTL, libc::SYS_prctl),
        (GETTID, libc::SYS_gettid),
        (FUTEX, libc::SYS_futex),
        (SCHED_GETAFFINITY, libc::SYS_sched_getaffinity),
        (CLOCK_GETTIME, libc::SYS_clock_gettime),
        (EXIT_GROUP, libc::SYS_exit_group),
        (TGKILL, libc::SYS_tgkill),
        (NEWFSTATAT, libc::SYS_newfstatat),
        (OPENAT, libc::SYS_openat),
        (READLINKAT, libc::SYS_readlinkat),
        (GETCPU, libc::SYS_getcpu),
        (PROCESS_VM_READV, libc::SYS_process_vm_readv),
        (MEMFD_CREATE, libc::SYS_memfd_create),
        (MEMBARRIER, libc::SYS_membarrier),
        (RSEQ, libc::SYS_rseq),
    ];
    for (ours, theirs) in table {
        assert_eq!(ours as i64, theirs);
    }
}
