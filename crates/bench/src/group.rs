//! Child processes that never outlive the benchmark: each leads a process group, and every group is
//! killed when its owner is dropped, when a signal ends the benchmark, and when it dies.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// Groups at a time: a server and what measures or traces it.
const MOST: usize = 8;
/// Leaders of the running groups, 0 where free: all that the signal handler reads.
static LEADERS: [AtomicI32; MOST] = [const { AtomicI32::new(0) }; MOST];

/// A running command and everything that it starts.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    place: usize,
}

impl Group {
    /// Starts `command` at the head of a group of its own.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        static HANDLERS: Once = Once::new();
        HANDLERS.call_once(install_handlers);
        // A free place is taken before there is a process, so that no signal can come in between
        // with the process unknown for long. Relaxed throughout: each number stands for itself.
        let free = |leader: &AtomicI32| {
            leader.compare_exchange(0, -1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let place =
            LEADERS.iter().position(free).ok_or_else(|| io::Error::other("too many children"))?;
        command.process_group(0);
        // SAFETY: the closure makes one system call, which is allowed between fork and exec.
        unsafe { command.pre_exec(die_with_parent) };
        match command.spawn() {
            Ok(child) => {
                LEADERS[place].store(child.id() as i32, Ordering::Relaxed);
                Ok(Self { child, place })
            }
            Err(error) => {
                LEADERS[place].store(0, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// The leader.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends `signal` to the leader alone.
    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: the child has not been waited for without leaving its place, so its number is
        // still its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Waits for the leader to end by itself; `None` when it has not within `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.wait_by_steps(limit, Duration::from_millis(5))
    }

    /// The same, with steps short enough to take the time.
    pub(crate) fn wait_closely(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.wait_by_steps(limit, Duration::from_micros(50))
    }

    /// Waits for something that the leader does: a minute at most.
    ///
    /// # Errors
    /// It has ended, or takes longer.
    pub(crate) fn await_that(&mut self, is_done: impl Fn() -> bool) -> io::Result<()> {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_done() {
            if let Some(status) = self.wait(Duration::from_millis(10)) {
                return Err(io::Error::other(format!("ended with {status}")));
            }
            if Instant::now() > end {
                return Err(io::Error::other("takes too long"));
            }
        }
        Ok(())
    }

    fn wait_by_steps(&mut self, limit: Duration, step: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < end => std::thread::sleep(step),
                _ => return None,
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: a plain system call; the group's number stays taken while a member lives, and its
        // leader has not been reaped or was the last.
        unsafe { libc::killpg(self.child.id() as i32, libc::SIGKILL) };
        // Already gone is as good as killed.
        let _ = self.child.wait();
        LEADERS[self.place].store(0, Ordering::Relaxed);
    }
}

fn die_with_parent() -> io::Result<()> {
    // SAFETY: takes two numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
    Ok(())
}

fn install_handlers() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler makes system calls only.
        unsafe { libc::signal(signal, kill_all as *const () as libc::sighandler_t) };
    }
}

/// Ends every group, then the benchmark as the signal would have.
extern "C" fn kill_all(signal: libc::c_int) {
    for leader in &LEADERS {
        let leader = leader.load(Ordering::Relaxed);
        if leader > 0 {
            // SAFETY: a plain system call.
            unsafe { libc::killpg(leader, libc::SIGKILL) };
        }
    }
    // SAFETY: ends the process at once, without anything that is not allowed in a handler.
    unsafe { libc::_exit(128 + signal) };
}
