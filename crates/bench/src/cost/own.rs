//! CPU time and memory of one process, without those of the processes that it starts.
//!
//! `wait4` adds the children that were waited for, and its peak is the largest of all of them. So
//! the process is traced, itself alone, and stopped where it has begun (after `exec`) and where it
//! ends: there its memory still stands, with the peak. Its CPU clock is read once more when it has
//! ended and has not been reaped: all its threads are in it then, no child is, and the unit is the
//! scheduler's nanosecond.
#![allow(unsafe_code)]

use crate::group::Group;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

/// What a process used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    /// CPU time of all its threads from its `exec` to its end, user and system, in milliseconds.
    pub(super) cpu_ms: f64,
    /// Peak resident memory in KiB (`VmHWM`; the kernel may lag behind by 64 pages a thread).
    pub(super) peak_kib: f64,
    /// CPU time of the children that it has waited for, in milliseconds.
    pub(super) children_ms: f64,
}

/// Where a process that was asked about is.
enum State {
    Running,
    /// Stopped, with the signal and, above it, the event of ptrace.
    Stopped(i32),
    /// Ended: whether well, and the CPU time of it and of the children that it waited for, in
    /// nanoseconds.
    Ended {
        well: bool,
        with_children_ns: u64,
    },
}

/// Runs a command to its end, without standard streams.
///
/// # Errors
/// In words: it does not start, does not end within `limit`, or does not end well.
pub(super) fn run(command: &mut Command, limit: Duration) -> Result<Own, String> {
    const AT_END: i32 = libc::SIGTRAP | libc::PTRACE_EVENT_EXIT << 8;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: the closure makes one system call, which is allowed between fork and exec.
    unsafe { command.pre_exec(be_traced) };
    let words = |error: io::Error| error.to_string();
    let mut group = Group::spawn(command).map_err(words)?;
    let pid = group.child().id().cast_signed();
    let mut clock = 0;
    // SAFETY: a place for the answer.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error).to_string());
    }
    let end = Instant::now() + limit;
    let (mut before_ns, mut peak_kib) = (None, None);
    loop {
        match state(pid).map_err(words)? {
            State::Running if Instant::now() > end => return Err("did not end".to_owned()),
            State::Running => std::thread::sleep(Duration::from_millis(1)),
            State::Stopped(_) if before_ns.is_none() => {
                before_ns = Some(cpu_ns(clock).map_err(words)?);
                let options = libc::PTRACE_O_TRACEEXIT | libc::PTRACE_O_EXITKILL;
                ptrace(libc::PTRACE_SETOPTIONS, pid, options).map_err(words)?;
                ptrace(libc::PTRACE_CONT, pid, 0).map_err(words)?;
            }
            State::Stopped(AT_END) => {
                peak_kib = Some(peak(pid)?);
                ptrace(libc::PTRACE_CONT, pid, 0).map_err(words)?;
            }
            State::Stopped(signal) => {
                // SIGTRAP stands for another exec, and nobody has sent it.
                let passed = if signal == libc::SIGTRAP { 0 } else { signal & 0x7f };
                ptrace(libc::PTRACE_CONT, pid, passed).map_err(words)?;
            }
            State::Ended { well, with_children_ns } => {
                let own_ns = cpu_ns(clock).map_err(words)?;
                let status = group.child().wait().map_err(words)?;
                if !well {
                    return Err(status.to_string());
                }
                let (Some(before_ns), Some(peak_kib)) = (before_ns, peak_kib) else {
                    return Err("ended unseen".to_owned());
                };
                let ms = |ns: u64| ns as f64 / 1e6;
                return Ok(Own {
                    cpu_ms: ms(own_ns.saturating_sub(before_ns)),
                    peak_kib,
                    children_ms: ms(with_children_ns.saturating_sub(own_ns)),
                });
            }
        }
    }
}

fn be_traced() -> io::Result<()> {
    // SAFETY: this request uses none of its arguments.
    let failed = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A request whose data is a number, to a process that is stopped for this thread.
fn ptrace(request: libc::c_uint, pid: i32, data: i32) -> io::Result<()> {
    let data = data as usize as *mut libc::c_void;
    // SAFETY: the requests used here take the data as a number.
    let failed = unsafe { libc::ptrace(request, pid, null_mut::<libc::c_void>(), data) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Looks at a child: its stops are seen once, and where it has ended it is left unreaped.
fn state(pid: i32) -> io::Result<State> {
    match wait(pid, libc::WSTOPPED) {
        Ok(State::Stopped(status)) => Ok(State::Stopped(status)),
        // There is nothing to wait for in this way where it has ended.
        _ => wait(pid, libc::WEXITED | libc::WNOWAIT),
    }
}

fn wait(pid: i32, what: i32) -> io::Result<State> {
    let flags = what | libc::WNOHANG | libc::__WALL;
    // SAFETY: all zeros is a value of this plain struct.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    let (info_at, used_at) = (&raw mut info, &raw mut used);
    // The C library's waitid has no place for the usage.
    // SAFETY: places for both answers.
    let failed =
        unsafe { libc::syscall(libc::SYS_waitid, libc::P_PID, pid, info_at, flags, used_at) } != 0;
    if failed {
        return Err(io::Error::last_os_error());
    }
    if info.si_signo == 0 {
        return Ok(State::Running);
    }
    // SAFETY: waitid has filled the part for SIGCHLD.
    let status = unsafe { info.si_status() };
    Ok(match info.si_code {
        libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED => State::Ended {
            well: info.si_code == libc::CLD_EXITED && status == 0,
            with_children_ns: ns(used.ru_utime) + ns(used.ru_stime),
        },
        _ => State::Stopped(status),
    })
}

fn ns(time: libc::timeval) -> u64 {
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_usec.cast_unsigned() * 1_000
}

fn cpu_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) } != 0;
    if failed {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned())
}

/// Peak resident memory of a process that is stopped before its end, in KiB.
fn peak(pid: i32) -> Result<f64, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| e.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
        .ok_or_else(|| "no VmHWM in /proc/PID/status".to_owned())
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::programs::binary;
    use std::process::Command;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(60);

    /// What a child uses is not its parent's, and the other way round.
    #[test]
    fn a_process_is_measured_without_its_children() {
        let Some(awk) = binary("mawk").or_else(|| binary("gawk")) else {
            eprintln!("skipped: no mawk and no gawk");
            return;
        };
        let awk = awk.display();
        // About 50 MiB and some 100 ms in awk.
        let busy = format!(
            "{awk} 'BEGIN {{ s = \"x\"; for (i = 0; i < 24; i++) s = s s; \
                for (i = 0; i < 3000000; i++) n += i }}'"
        );
        let of = |script: &str| {
            run(Command::new("sh").args(["-c", script]), LIMIT).expect("it runs to its end")
        };
        // The shell starts a child, or becomes it.
        let parent = of(&format!("{busy}; true"));
        let same = of(&format!("exec {busy}"));
        assert!(parent.peak_kib < 10_000.0 && same.peak_kib > 16_384.0, "{parent:?} {same:?}");
        assert!(parent.children_ms > 4.0 * parent.cpu_ms, "{parent:?}");
        assert!(same.children_ms < 1.0 && same.cpu_ms > 0.0, "{same:?}");
    }

    #[test]
    fn what_fails_is_said() {
        let of = |script: &str, limit| run(Command::new("sh").args(["-c", script]), limit);
        let said = |script: &str, limit| of(script, limit).expect_err("fails");
        assert!(said("exit 3", LIMIT).contains('3'));
        assert!(said("kill -TERM $$", LIMIT).contains("15"));
        assert_eq!(said("exec sleep 60", Duration::from_millis(50)), "did not end");
        assert!(run(&mut Command::new("/nonexistent"), LIMIT).is_err());
    }
}
