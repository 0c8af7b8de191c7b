//! The kernel's tracing requests, one function each. Only the thread that seized another may make
//! them of it.
#![allow(unsafe_code)]

use crate::arch::Registers;
use std::io;
use std::mem::size_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A thread's number, as this process sees it.
pub(crate) type Tid = i32;

/// What a thread that was seized is to report.
pub(crate) mod options {
    /// System call stops are told from signals.
    pub(crate) const PLAIN: usize = libc::PTRACE_O_TRACESYSGOOD as usize;
    pub(crate) const CLONE: usize = libc::PTRACE_O_TRACECLONE as usize;
    pub(crate) const EXEC: usize = libc::PTRACE_O_TRACEEXEC as usize;
    pub(crate) const EXIT: usize = libc::PTRACE_O_TRACEEXIT as usize;
    /// The process is killed if its tracer ends.
    pub(crate) const KILL: usize = libc::PTRACE_O_EXITKILL as usize;
}

/// `PTRACE_EVENT_STOP`: what `PTRACE_INTERRUPT` asked for, a job-control stop, or a thread's start.
const EVENT_STOP: i32 = 128;

/// Why a thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Asked for, or a new thread's first one.
    Trap,
    /// The process is stopped by job control.
    Group,
    /// Before or behind a system call.
    Syscall,
    /// `PTRACE_EVENT_...`.
    Event(i32),
    /// A signal is about to be delivered.
    Signal(i32),
}

/// What became of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Running,
    Stopped(Stop),
    Ended,
}

/// A request whose arguments are numbers.
fn request(what: libc::c_uint, tid: Tid, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: no request of this module's callers takes an address of ours in these arguments.
    let done = unsafe { libc::ptrace(what as _, tid, address, data) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A request that reads or writes `data`; `address` is a number.
///
/// # Safety
/// The request takes a `T` as its data, and any bytes are a `T`.
unsafe fn transfer<T>(what: libc::c_uint, tid: Tid, address: usize, data: *mut T) -> io::Result<i64>
where
    T: Copy,
{
    // SAFETY: the caller's: `data` is what the request takes.
    let done = unsafe { libc::ptrace(what as _, tid, address, data) };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

/// How many threads of ours wait in [`seize`].
static SEIZING: AtomicU32 = AtomicU32::new(0);

/// Begins to trace a thread.
///
/// # Context
/// Waits while the process executes a program, and that waits for threads that somebody traces to
/// be reaped: see [`is_seizing`].
pub(crate) fn seize(tid: Tid, options: usize) -> io::Result<()> {
    // Relaxed: it is only looked at for being the same for milliseconds.
    SEIZING.fetch_add(1, Ordering::Relaxed);
    let done = request(libc::PTRACE_SEIZE as _, tid, 0, options);
    SEIZING.fetch_sub(1, Ordering::Relaxed);
    done
}

/// Whether a thread of ours is in [`seize`].
pub(crate) fn is_seizing() -> bool {
    SEIZING.load(Ordering::Relaxed) != 0
}

pub(crate) fn set_options(tid: Tid, options: usize) -> io::Result<()> {
    request(libc::PTRACE_SETOPTIONS as _, tid, 0, options)
}

pub(crate) fn interrupt(tid: Tid) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT as _, tid, 0, 0)
}

/// Goes on; `signal` is delivered if it is not 0.
pub(crate) fn resume(tid: Tid, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_CONT as _, tid, 0, signal as usize)
}

/// As [`resume`], up to the next system call's entry or exit.
pub(crate) fn resume_to_syscall(tid: Tid, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_SYSCALL as _, tid, 0, signal as usize)
}

pub(crate) fn detach(tid: Tid) -> io::Result<()> {
    request(libc::PTRACE_DETACH as _, tid, 0, 0)
}

pub(crate) fn registers(tid: Tid) -> io::Result<Registers> {
    let mut found = std::mem::MaybeUninit::<Registers>::zeroed();
    // SAFETY: the request writes the registers' structure, which consists of numbers.
    unsafe { transfer(libc::PTRACE_GETREGS as _, tid, 0, found.as_mut_ptr().cast::<Registers>()) }?;
    // SAFETY: zeroed, then written by the kernel.
    Ok(unsafe { found.assume_init() })
}

pub(crate) fn set_registers(tid: Tid, registers: &Registers) -> io::Result<()> {
    let mut given = *registers;
    // SAFETY: the request reads the registers' structure.
    unsafe { transfer(libc::PTRACE_SETREGS as _, tid, 0, &raw mut given) }.map(drop)
}

/// The signals that the thread blocks, a bit each. Of a thread in a call that blocks others for its
/// time (`ppoll`): those that it blocks otherwise.
pub(crate) fn mask(tid: Tid) -> io::Result<u64> {
    let mut mask = 0_u64;
    let what = libc::PTRACE_GETSIGMASK as libc::c_uint;
    // SAFETY: the request writes as many bytes as its address says: a u64.
    unsafe { transfer(what, tid, size_of::<u64>(), &raw mut mask) }?;
    Ok(mask)
}

pub(crate) fn set_mask(tid: Tid, mut mask: u64) -> io::Result<()> {
    let what = libc::PTRACE_SETSIGMASK as libc::c_uint;
    // SAFETY: the request reads as many bytes as its address says: a u64.
    unsafe { transfer(what, tid, size_of::<u64>(), &raw mut mask) }.map(drop)
}

/// Whether the signal that the thread stands before comes from what it did itself (a fault), and
/// not from `kill`.
pub(crate) fn is_fault(tid: Tid) -> io::Result<bool> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let what = libc::PTRACE_GETSIGINFO as libc::c_uint;
    // SAFETY: the request writes a siginfo_t, which consists of numbers.
    unsafe { transfer(what, tid, 0, info.as_mut_ptr().cast::<libc::siginfo_t>()) }?;
    // SAFETY: zeroed, then written by the kernel.
    Ok(unsafe { info.assume_init() }.si_code > 0)
}

/// What belongs to the event that the thread stands at: a new thread's number.
pub(crate) fn event_message(tid: Tid) -> io::Result<u64> {
    let mut message = 0_u64;
    let what = libc::PTRACE_GETEVENTMSG as libc::c_uint;
    // SAFETY: the request writes an unsigned long.
    unsafe { transfer(what, tid, 0, &raw mut message) }?;
    Ok(message)
}

/// A set of registers by its note type (`NT_...`).
pub(crate) fn register_set(tid: Tid, note: i32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0_u8; 64 << 10];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let what = libc::PTRACE_GETREGSET as libc::c_uint;
    // SAFETY: the request writes through the vector, which describes `bytes`, and its length.
    unsafe { transfer(what, tid, note as usize, &raw mut part) }?;
    bytes.truncate(part.iov_len);
    Ok(bytes)
}

/// Puts back what [`register_set`] gave.
pub(crate) fn set_register_set(tid: Tid, note: i32, bytes: &[u8]) -> io::Result<()> {
    let base = bytes.as_ptr().cast_mut().cast();
    let mut part = libc::iovec { iov_base: base, iov_len: bytes.len() };
    let what = libc::PTRACE_SETREGSET as libc::c_uint;
    // SAFETY: the request only reads through the vector, which describes `bytes`.
    unsafe { transfer(what, tid, note as usize, &raw mut part) }.map(drop)
}

/// Where the thread's area for restartable sequences is, if it has registered one.
pub(crate) fn rseq_area(tid: Tid) -> Option<u64> {
    /// `struct ptrace_rseq_configuration`.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Configuration {
        area: u64,
        size: u32,
        signature: u32,
        flags: u32,
        pad: u32,
    }
    let mut found = Configuration::default();
    let what = libc::PTRACE_GET_RSEQ_CONFIGURATION as libc::c_uint;
    // SAFETY: the request writes as many bytes as its address says.
    let size = unsafe { transfer(what, tid, size_of::<Configuration>(), &raw mut found) };
    // Kernels before 5.13 do not know the request.
    size.is_ok().then_some(found.area).filter(|area| *area != 0)
}

/// Whether the thread's system calls may become signals (`PR_SET_SYSCALL_USER_DISPATCH`).
pub(crate) fn dispatches_syscalls(tid: Tid) -> bool {
    /// `PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG`; the declarations of some C libraries lack it.
    const GET: libc::c_uint = 0x4211;
    /// `struct ptrace_sud_config`.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Configuration {
        mode: u64,
        selector: u64,
        offset: u64,
        length: u64,
    }
    let mut found = Configuration::default();
    // SAFETY: the request writes as many bytes as its address says.
    let done = unsafe { transfer(GET, tid, size_of::<Configuration>(), &raw mut found) };
    done.is_ok() && found.mode != 0
}

/// Writes a word into the thread's memory, also where it must not write itself.
pub(crate) fn poke(tid: Tid, at: u64, word: u64) -> io::Result<()> {
    request(libc::PTRACE_POKETEXT as _, tid, at as usize, word as usize)
}

/// One `waitid` for a thread of any kind: what it reports and about whom.
fn wait_id(tid: Tid, flags: i32) -> io::Result<Option<(i32, i32)>> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = flags | libc::__WALL;
    // SAFETY: the call writes a siginfo_t.
    let done = unsafe { libc::waitid(libc::P_PID, tid as libc::id_t, info.as_mut_ptr(), flags) };
    if done == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, then written by the kernel; it consists of numbers.
    let info = unsafe { info.assume_init() };
    // SAFETY: the fields of a SIGCHLD, which is what the call writes.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok((pid != 0).then_some((info.si_code, status)))
}

fn stop_of(status: i32) -> Stop {
    let (signal, event) = (status & 0xff, status >> 8);
    match event {
        0 if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
        0 => Stop::Signal(signal),
        EVENT_STOP if signal == libc::SIGTRAP => Stop::Trap,
        EVENT_STOP => Stop::Group,
        event => Stop::Event(event),
    }
}

/// What the thread reports, waiting for it if `block`. The end of a process is left for its parent
/// to see, that of another thread is not.
fn wait(tid: Tid, block: bool) -> Waited {
    // One that is waited for was just told to go on, most often.
    let mut may_stand = !block;
    loop {
        if may_stand && let Ok(Some((_, status))) = wait_id(tid, libc::WSTOPPED | libc::WNOHANG) {
            return Waited::Stopped(stop_of(status));
        }
        may_stand = true;
        let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
        match wait_id(tid, flags | if block { 0 } else { libc::WNOHANG }) {
            Ok(None) => return Waited::Running,
            // Taken in the next turn. It can be gone: a thread that stands can be killed.
            Ok(Some((libc::CLD_TRAPPED | libc::CLD_STOPPED, _))) => {}
            Ok(Some(_)) => return Waited::Ended,
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(_) => return Waited::Ended,
        }
    }
}

/// What the thread reports next.
pub(crate) fn wait_for(tid: Tid) -> Waited {
    wait(tid, true)
}

/// What the thread reports, if it does.
pub(crate) fn poll(tid: Tid) -> Waited {
    wait(tid, false)
}

/// What the thread reports until `give_up` says so, which is asked now and then, after the time
/// that a thread takes that can stop: the kernel has no wait that ends by itself.
pub(crate) fn wait_unless(tid: Tid, give_up: impl Fn() -> bool) -> Waited {
    /// Looks without a pause.
    const EAGER: u32 = 20;
    let (mut tries, began) = (0, Instant::now());
    loop {
        match poll(tid) {
            Waited::Running => {}
            other => return other,
        }
        if tries < EAGER {
            tries += 1;
            std::thread::yield_now();
            continue;
        }
        if give_up() {
            return Waited::Running;
        }
        std::thread::sleep(nap(began));
    }
}

/// How long to sleep before the next look at a thread, where the first was at `began`: so that what
/// took a while is seen not much later.
pub(crate) fn nap(began: Instant) -> Duration {
    (began.elapsed() / 8).clamp(Duration::from_micros(20), Duration::from_millis(1))
}

/// Takes the end of a thread that is not the first of its process; until then the kernel keeps it.
pub(crate) fn reap(tid: Tid) {
    // It is only taken if it has ended; nobody else can have an interest in a thread's end.
    let _ = wait_id(tid, libc::WEXITED | libc::WNOHANG);
}

/// [`reap`] for a thread that may not have ended, and that another thread of ours may wait for: a
/// wait takes the stop of one that is traced, whatever it asks for.
pub(crate) fn reap_if_ended(tid: Tid) {
    let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
    let has_ended = |code| !matches!(code, libc::CLD_TRAPPED | libc::CLD_STOPPED);
    if wait_id(tid, flags).is_ok_and(|seen| seen.is_some_and(|(code, _)| has_ended(code))) {
        reap(tid);
    }
}

/// The calling thread's number.
pub(crate) fn own_tid() -> Tid {
    // SAFETY: takes nothing, and always succeeds.
    unsafe { libc::gettid() }
}

/// Sends a signal to a process.
pub(crate) fn kill(pid: Tid, signal: i32) {
    // SAFETY: numbers only. A process that is gone needs no signal.
    unsafe { libc::kill(pid, signal) };
}
