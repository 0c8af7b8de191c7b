//! A process, looked at from outside.

use crate::arch::MACHINE;
use crate::error::Error;
use crate::memory::Memory;
use crate::proc::{self, Stat, Status};
use crate::ptrace::Tid;
use crate::refusal::{Refusal, Refused};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::iter;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

/// What is done to a process in spite of a doubt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Force {
    /// Make system calls in a process that filters them. If a filter kills for one, the process is
    /// killed.
    pub seccomp: bool,
}

/// A process that may be worked on, as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Target {
    pid: Tid,
    /// A thread that had not ended.
    living: Tid,
    threads: usize,
    stopped: bool,
    /// Whether system calls may be made in spite of a filter.
    forced: bool,
}

impl Target {
    /// Looks at the process `pid`, or the one that the thread `pid` belongs to. Nothing is done to
    /// it.
    ///
    /// # Errors
    /// Why it is left alone.
    ///
    /// # Context
    /// Reads files in /proc: tens of microseconds, and more with many threads.
    pub fn probe(pid: i32, force: Force) -> Result<Self, Refused> {
        /// Where the first thread has ended, those that were looked at instead may, too.
        const TRIES: usize = 20;
        let mut tries = 0;
        loop {
            match Self::look(pid, force, false) {
                Err(Refusal::Gone | Refusal::Ended)
                    if tries < TRIES && proc::threads(pid).is_ok() =>
                {
                    tries += 1;
                }
                looked => return looked.map_err(|why| Refused { pid, why }),
            }
        }
    }

    /// As [`Target::probe`], for a process that this thread traces.
    pub(crate) fn traced(pid: Tid, force: Force) -> Result<Self, Refused> {
        Self::look(pid, force, true).map_err(|why| Refused { pid, why })
    }

    fn look(pid: Tid, force: Force, is_traced: bool) -> Result<Self, Refusal> {
        let pid = Status::read(pid, pid).map_err(|_| Refusal::Gone)?.process;
        if pid == std::process::id() as Tid {
            return Err(Refusal::Itself);
        }
        let threads = proc::threads(pid).map_err(|_| Refusal::Gone)?;
        let status = |tid: &Tid| Status::read(pid, *tid).ok().map(|status| (*tid, status));
        let mut living: Vec<_> = threads.iter().filter_map(status).collect();
        living.retain(|(_, status)| !status.has_ended());
        // Others may come and go, and have lower numbers once those are given again.
        living.sort_by_key(|(tid, _)| *tid != pid);
        let (first, status) = living.first().ok_or(Refusal::Ended)?;
        if Stat::read(pid, *first).map_err(|_| Refusal::Gone)?.is_kernel_thread() {
            return Err(Refusal::KernelThread);
        }
        if let Some((_, traced)) = living.iter().find(|(_, status)| status.tracer != 0)
            && !is_traced
        {
            let tracer = traced.tracer;
            let name = proc::name(tracer).unwrap_or_else(|| "another process".to_owned());
            return Err(Refusal::Traced { tracer, name });
        }
        if let Err(error) = Memory::open(pid, *first) {
            return Err(why_forbidden(pid, status, &error));
        }
        let seccomp = living.iter().map(|(_, status)| status.seccomp).max().unwrap_or(0);
        let strict = living.iter().any(|(_, status)| status.seccomp == 1);
        match seccomp {
            0 => {}
            _ if strict => return Err(Refusal::SeccompStrict),
            _ if !force.seccomp => return Err(Refusal::Seccomp),
            _ => {}
        }
        if !is_native(pid, *first) {
            return Err(Refusal::ThirtyTwoBit);
        }
        if living.iter().any(|(_, status)| status.shadow_stack) {
            return Err(Refusal::ShadowStack);
        }
        Ok(Self {
            pid,
            living: *first,
            threads: living.len(),
            stopped: living.iter().any(|(_, status)| status.state == 'T'),
            forced: force.seccomp,
        })
    }

    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How many threads it had.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Whether it was stopped by job control (SIGSTOP, ^Z). It can be worked on, and stays stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// What `look` gives of a thread of the process that lives. Any thread may end between being
    /// seen and being looked at, also while others of the process go on: then it is another's turn,
    /// until nobody has been there for a while.
    ///
    /// # Errors
    /// [`Error::Gone`]: all threads have ended. Otherwise those of `look`.
    pub(crate) fn of_living<R>(
        &self,
        what: &'static str,
        look: impl Fn(Tid) -> io::Result<R>,
    ) -> Result<R, Error> {
        /// What was listed may all have ended, having started what is listed next.
        const ROUNDS: usize = 20;
        const PAUSE: Duration = Duration::from_millis(1);
        let pid = self.pid;
        for _ in 0..ROUNDS {
            let threads = proc::threads(pid).map_err(|_| Error::Gone)?;
            for tid in iter::once(self.living).chain(threads.iter().copied()) {
                match look(tid) {
                    Err(error) if proc::is_of_ended(&error) => {}
                    looked => return looked.map_err(Error::own(what)),
                }
            }
            std::thread::sleep(PAUSE);
        }
        Err(Error::Gone)
    }

    /// Whether system calls may be answered by a filter.
    pub(crate) fn is_forced(&self) -> bool {
        self.forced
    }

    /// Whether a thread may make system calls for us. Filters are a thread's own, and one may have
    /// got some since the process was looked at.
    pub(crate) fn lets_call(&self, tid: Tid) -> bool {
        match Status::read(self.pid, tid).map(|status| status.seccomp) {
            Ok(0) => true,
            Ok(2) => self.forced,
            _ => false,
        }
    }
}

/// Why the memory of a process could not be opened, which asks the kernel what tracing asks.
fn why_forbidden(pid: Tid, status: &Status, error: &io::Error) -> Refusal {
    if proc::is_of_ended(error) {
        return Refusal::Gone;
    }
    /// `CAP_SYS_PTRACE`.
    const TRACES_ALL: u64 = 1 << 19;
    let own = Status::read(std::process::id() as Tid, std::process::id() as Tid);
    let own = own.unwrap_or_default();
    let privileged = own.capabilities & TRACES_ALL != 0;
    if let Some(user) = status.users.into_iter().find(|user| *user != own.users[1])
        && !privileged
    {
        return Refusal::OtherUser { user };
    }
    // What the kernel shows of a process that is not dumpable belongs to root.
    let owner = fs::metadata(format!("/proc/{pid}/status")).map(|file| file.uid());
    if !privileged && owner.is_ok_and(|owner| owner != own.users[1]) {
        return Refusal::NotDumpable;
    }
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match scope.trim().parse() {
        Ok(scope) if scope > 0 => Refusal::Yama { scope },
        _ => Refusal::Forbidden,
    }
}

/// Whether the program is one for this processor's own mode.
fn is_native(pid: Tid, tid: Tid) -> bool {
    let mut header = [0; 20];
    let read = File::open(proc::path(pid, tid, "exe")).and_then(|mut f| f.read_exact(&mut header));
    // What cannot be read is seen when its threads stand.
    read.is_err()
        || header[..5] == [0x7f, b'E', b'L', b'F', object::elf::ELFCLASS64.0]
            && u16::from_le_bytes([header[18], header[19]]) == MACHINE
}

#[cfg(test)]
mod tests {
    use super::{Force, Target};
    use crate::refusal::Refusal;

    #[test]
    fn what_is_no_process_and_this_one() {
        let why = |pid| Target::probe(pid, Force::default()).unwrap_err().why;
        assert_eq!(why(i32::MAX), Refusal::Gone);
        assert_eq!(why(-1), Refusal::Gone);
        assert_eq!(why(std::process::id() as i32), Refusal::Itself);
    }
}
