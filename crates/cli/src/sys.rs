//! The few system calls that the standard library does not have.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ExitStatus};

/// Effective ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

impl Ids {
    pub(crate) fn current() -> Self {
        // SAFETY: always succeeds and touches no memory.
        let user = unsafe { libc::geteuid() };
        // SAFETY: as above.
        let group = unsafe { libc::getegid() };
        Self { user, group }
    }
}

/// The columns of a terminal.
pub(crate) fn columns(terminal: BorrowedFd<'_>) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open, and the request writes one `winsize`, which `size` is.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0).then_some(usize::from(size.ws_col))
}

/// Memory that there is for this process and all others, in bytes: the machine's, or what its
/// control group (version 2) or one above that may have.
pub(crate) fn memory() -> Option<u64> {
    // SAFETY: a number, which is asked about.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    // SAFETY: as above.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let machine = u64::try_from(pages).ok()?.checked_mul(u64::try_from(page).ok()?)?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let limit = |group: &Path| {
        let file = Path::new("/sys/fs/cgroup").join(group).join("memory.max");
        std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    };
    Path::new(own).ancestors().filter_map(limit).chain([machine]).min()
}

/// Whether the kernel refuses memory that it does not have (`vm.overcommit_memory` = 2).
pub(crate) fn commits_strictly() -> bool {
    std::fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "2")
}

/// Whether this process may execute the file.
pub(crate) fn may_execute(file: &Path) -> bool {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: `path` is a string that ends in a zero byte and outlives the call.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
}

/// Whether the file gives capabilities to who executes it.
pub(crate) fn has_capabilities(file: &Path) -> bool {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: both strings end in a zero byte; a size of zero asks for the length alone and writes
    // nothing.
    unsafe {
        libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) > 0
    }
}

/// `MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE` (linux/membarrier.h).
pub(crate) const MEMBARRIER_SYNC_CORE: i64 = 1 << 5;

/// The commands that the kernel's membarrier has.
pub(crate) fn membarrier_commands() -> Option<i64> {
    // SAFETY: the query (command 0) takes no pointers and changes nothing.
    let commands = unsafe { libc::syscall(libc::SYS_membarrier, 0, 0, 0) };
    (commands >= 0).then_some(commands)
}

/// Whether the kernel has restartable sequences.
pub(crate) fn rseq_known() -> bool {
    // SAFETY: a null area of size zero is refused (EINVAL) before anything is registered; only a
    // kernel without rseq says ENOSYS.
    unsafe { libc::syscall(libc::SYS_rseq, 0, 0, 0, 0) };
    std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// Whether the loader may map the file for execution.
pub(crate) fn can_be_executed(file: BorrowedFd<'_>) -> bool {
    const PAGE: usize = 4096;
    // SAFETY: a new private mapping at an address of the kernel's choice; nobody looks into it.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_EXEC,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: the mapping that was just made.
    unsafe { libc::munmap(at, PAGE) };
    true
}

/// A file in memory with `bytes`, which nobody can change. Programs that are executed do not
/// inherit it.
pub(crate) fn memory_file(name: &CStr, bytes: &[u8]) -> std::io::Result<OwnedFd> {
    /// Linux 6.3: what the file is for is said, where the system wants that (memfd_noexec).
    const MFD_EXEC: libc::c_uint = 0x10;
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let make = |flags| {
        // SAFETY: the name ends in a zero byte.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        if fd < 0 { Err(std::io::Error::last_os_error()) } else { Ok(fd) }
    };
    let fd = make(flags | MFD_EXEC).or_else(|_| make(flags))?;
    // SAFETY: the descriptor was just opened, and nobody else has it.
    let file = unsafe { File::from_raw_fd(fd) };
    (&file).write_all(bytes)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE | libc::F_SEAL_SEAL;
    // SAFETY: takes no pointer.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(file.into())
}

/// An empty file in memory that is sealed later ([`seal`]).
pub(crate) fn growing_memory_file(name: &CStr) -> std::io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name ends in a zero byte.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Forbids changes of a memory file.
pub(crate) fn seal(file: &File, seals: libc::c_int) -> std::io::Result<()> {
    // SAFETY: takes no pointer.
    let failed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0;
    if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Another opening of the same file that can only be read.
pub(crate) fn read_only(file: &File) -> std::io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Runs `f` with the largest file size that this process may allow itself, and says what that is:
/// beyond it the kernel sends SIGXFSZ.
pub(crate) fn with_file_size<R>(f: impl FnOnce(u64) -> R) -> R {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a place for the answer.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    let most = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: a limit that lives through the call; it is not above the hard one.
    unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const most) };
    let result = f(limit.rlim_max);
    // SAFETY: as above: the program is to have what trapline was given.
    unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    result
}

/// The parts of `range` of a file that are not holes, rounded as the file system does. All of it
/// where it cannot tell.
pub(crate) fn data(file: &File, range: Range<u64>) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let Some(start) = seek(file, at, libc::SEEK_DATA) else {
            let nothing_more = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO);
            if !nothing_more {
                found.push(at..range.end);
            }
            break;
        };
        if start >= range.end {
            break;
        }
        let end = seek(file, start, libc::SEEK_HOLE).unwrap_or(range.end).min(range.end);
        if end <= start {
            break;
        }
        found.push(start..end);
        at = end;
    }
    found
}

fn seek(file: &File, from: u64, what: libc::c_int) -> Option<u64> {
    // SAFETY: the descriptor is the file's own; the call touches no memory. Nobody reads or writes
    // at the file's position.
    let at = unsafe { libc::lseek(file.as_raw_fd(), from.cast_signed(), what) };
    u64::try_from(at).ok()
}

/// Gives the pages in `range` of a file back: they read as zeros.
pub(crate) fn punch(file: &File, range: Range<u64>) -> bool {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (from, bytes) = (range.start.cast_signed(), (range.end - range.start).cast_signed());
    // SAFETY: takes no pointer.
    unsafe { libc::fallocate(file.as_raw_fd(), mode, from, bytes) == 0 }
}

/// Whether a process is gone, or only waits for its parent to hear of its end.
pub(crate) fn is_dead(pid: u32) -> bool {
    // SAFETY: signal 0 is sent to nobody.
    let failed = unsafe { libc::kill(pid.cast_signed(), 0) } != 0;
    if failed {
        return std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
    }
    // The kernel says it of all threads at once: a list of them has not those that come meanwhile.
    if let Ok(handle) = process_handle(pid.cast_signed()) {
        return has_ended_by(&handle);
    }
    // A kernel before 5.3. The first thread may have ended before others.
    has_ended(&format!("/proc/{pid}/stat"))
        && std::fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
            .all(|task| has_ended(&task.path().join("stat")))
}

/// Whether a process has threads, and its first one is none of them any more.
pub(crate) fn goes_on_without_its_first_thread(pid: u32) -> bool {
    has_ended(&format!("/proc/{pid}/stat")) && !is_dead(pid)
}

/// Whether this is of a thread that has ended.
fn has_ended(stat: &(impl AsRef<Path> + ?Sized)) -> bool {
    // The state stands behind the name, which is in parentheses and may hold more of them.
    let Ok(stat) = std::fs::read(stat) else { return true };
    let behind = stat.iter().rposition(|byte| *byte == b')').and_then(|at| stat.get(at + 2));
    behind.is_some_and(|state| b"ZX".contains(state))
}

/// How a child has ended, if it has. A thread of this process may trace it: a wait would take the
/// stop from that which it waits for, whatever the wait asks for.
pub(crate) fn end_of(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let mut seen = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: a place for the answer, which lives through the call.
    let done = unsafe { libc::waitid(libc::P_PID, child.id(), seen.as_mut_ptr(), flags) };
    // SAFETY: zeros are one, and the kernel has written another, or has left them.
    let code = unsafe { seen.assume_init() }.si_code;
    let has_ended = [libc::CLD_EXITED, libc::CLD_KILLED, libc::CLD_DUMPED].contains(&code);
    // Otherwise it was waited for already.
    if done == 0 && !has_ended { Ok(None) } else { child.try_wait() }
}

/// A handle of a process, whoever has started it.
pub(crate) fn process_handle(pid: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: takes numbers.
    let handle = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let handle = libc::c_int::try_from(handle).unwrap_or(-1);
    if handle < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(handle) })
}

/// Whether a process has ended: all of its threads have.
fn has_ended_by(handle: &OwnedFd) -> bool {
    let mut polled = libc::pollfd { fd: handle.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one place, which lives through the call.
    unsafe { libc::poll(&raw mut polled, 1, 0) > 0 }
}

/// Waits until at least one of the processes has ended: the others.
pub(crate) fn wait_for_end<'h>(handles: &[&'h OwnedFd]) -> Vec<&'h OwnedFd> {
    let of = |handle: &&OwnedFd| libc::pollfd {
        fd: handle.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled: Vec<libc::pollfd> = handles.iter().map(of).collect();
    loop {
        let count = polled.len() as libc::nfds_t;
        // SAFETY: so many places, which live through the call.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, -1) };
        if ready > 0 {
            let runs = |(_, polled): &(&&'h OwnedFd, &libc::pollfd)| polled.revents == 0;
            return handles.iter().zip(&polled).filter(runs).map(|(handle, _)| *handle).collect();
        }
    }
}

/// Has this process told that a child has changed its state, as if one had.
pub(crate) fn ring_for_children() {
    // SAFETY: takes no arguments.
    let own = unsafe { libc::getpid() };
    // SAFETY: takes numbers.
    unsafe { libc::kill(own, libc::SIGCHLD) };
}

#[cfg(test)]
mod tests {
    use super::{data, goes_on_without_its_first_thread, is_dead, process_handle, wait_for_end};
    use std::os::unix::fs::FileExt;

    #[test]
    fn holes_are_left_out() {
        for directory in ["/dev/shm", "/tmp"] {
            let Ok(file) = tempfile::tempfile_in(directory) else { continue };
            file.set_len(1 << 30).unwrap();
            file.write_all_at(b"x", 123_456_789).unwrap();
            let found = data(&file, 4096..1 << 30);
            assert!(found.iter().any(|part| part.contains(&123_456_789)), "{found:?}");
            assert!(
                found.iter().map(|part| part.end - part.start).sum::<u64>() <= 1 << 20,
                "{directory}: {found:?}"
            );
            assert_eq!(data(&file, 200_000_000..1 << 30), []);
            // A part that begins inside data.
            let inside = 123_456_790..123_456_791;
            assert_eq!(data(&file, inside.clone()), vec![inside; 1]);
        }
    }

    #[test]
    fn ends_of_processes_are_waited_for() {
        let child =
            || std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn();
        let (mut one, mut two) = (child().unwrap(), child().unwrap());
        let handle = |child: &std::process::Child| process_handle(child.id().cast_signed());
        let (first, second) = (handle(&one).unwrap(), handle(&two).unwrap());
        drop(one.stdin.take());
        let left = wait_for_end(&[&first, &second]);
        assert!(left.len() == 1 && std::ptr::eq(left[0], &second));
        drop(two.stdin.take());
        assert!(wait_for_end(&left).is_empty());
        one.wait().unwrap();
        two.wait().unwrap();
        assert!(process_handle(-1).is_err());
    }

    /// A process whose first thread has ended, and each other one starts the next before it ends.
    #[test]
    fn one_of_short_threads_is_not_dead() {
        extern "C" fn leg(_: *mut libc::c_void) -> *mut libc::c_void {
            let (mut thread, none) = (0, std::ptr::null_mut::<libc::c_void>());
            // SAFETY: a place for the answer, and a function that takes anything.
            while unsafe { libc::pthread_create(&raw mut thread, none.cast(), leg, none) } != 0 {}
            // SAFETY: just started, and nobody waits for it.
            unsafe { libc::pthread_detach(thread) };
            none
        }
        // SAFETY: the child starts threads, which do nothing but that.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // If nobody kills it.
            // SAFETY: takes a number.
            unsafe { libc::alarm(300) };
            leg(std::ptr::null_mut());
            // SAFETY: nothing of this thread is used any more.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        let pid = child.cast_unsigned();
        while !goes_on_without_its_first_thread(pid) {
            assert!(!is_dead(pid));
            std::thread::yield_now();
        }
        let dead = (0..1000).filter(|_| is_dead(pid)).count();
        let unseen = (0..100).filter(|_| crate::processes::maps(child).unwrap().is_empty()).count();
        // SAFETY: ours.
        unsafe { libc::kill(child, libc::SIGKILL) };
        // SAFETY: ours, and a null pointer for what is not wanted.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        assert_eq!((dead, unseen), (0, 0));
        assert!(is_dead(pid) && !goes_on_without_its_first_thread(pid));
    }

    #[test]
    fn the_dead() {
        let mut child = std::process::Command::new("cat");
        let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        assert!(!is_dead(pid) && !is_dead(std::process::id()));
        let handle = process_handle(pid.cast_signed()).unwrap();
        drop(child.stdin.take());
        wait_for_end(&[&handle]);
        assert!(is_dead(pid), "nobody has heard of its end yet");
        child.wait().unwrap();
        assert!(is_dead(pid));
    }
}
