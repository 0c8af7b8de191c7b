//! Programs that a process executes, worked on before their first instruction.

use crate::arch;
use crate::error::Error;
use crate::proc::{Auxiliary, Status};
use crate::ptrace::{self, Stop, Tid, Waited, options};
use crate::stopped::Stopped;
use crate::target::{Force, Target};
use crate::tracer::{Thread, Tracer, await_end, pass_on, pass_on_by, stand};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

/// A process that has executed a program and stands where that has yet to run.
pub(crate) struct Executed {
    tracer: Tracer,
    thread: Thread,
}

impl Executed {
    /// From the event of the execution, which the process stands at.
    pub(crate) fn new(pid: Tid, force: Force, options: usize) -> Result<Self, Error> {
        // Before the system call has returned, no other can be made.
        to(pid, Stop::Syscall, ptrace::resume_to_syscall)?;
        ptrace::interrupt(pid).map_err(Error::own("stopping the program"))?;
        to(pid, Stop::Trap, ptrace::resume)?;
        let tracer = Tracer::with_options(Target::traced(pid, force)?, options)?;
        let registers = ptrace::registers(pid).map_err(Error::own("reading registers"))?;
        Ok(Self { tracer, thread: Thread { tid: pid, registers } })
    }

    /// The program goes on when what this gives is dropped.
    pub(crate) fn stopped(&mut self) -> Stopped<'_> {
        Stopped::only(&mut self.tracer, self.thread.clone())
    }
}

impl Stopped<'_> {
    /// Lets a program that was just executed run to its first own instruction: its dynamic linker
    /// has loaded what it was linked with by then, and has called the functions that libraries have
    /// for that (glibc's; musl's calls them later). A static program stands there already.
    ///
    /// # Errors
    /// [`Error::Gone`] if it ends before; [`Error::Busy`] if not all of it stands.
    ///
    /// # Context
    /// As long as the dynamic linker takes, with two stops for each of its system calls.
    pub fn run_to_entry(&mut self) -> Result<(), Error> {
        let [thread] = &self.threads[..] else { return Err(Error::Busy) };
        let tid = thread.tid;
        let auxiliary = Auxiliary::read(tid, tid).map_err(|_| Error::Gone)?;
        let entry = auxiliary.get(libc::AT_ENTRY).ok_or(Error::Gone)?;
        let mut old = [0; arch::CALL.len()];
        self.read(entry, &mut old)?;
        // A system call, whatever it is: none is made, for it is seen before.
        self.write(entry, &arch::CALL)?;
        let behind = entry + arch::CALL.len() as u64;
        let mut registers = loop {
            to(tid, Stop::Syscall, ptrace::resume_to_syscall)?;
            let registers = ptrace::registers(tid).map_err(Error::own("reading registers"))?;
            if arch::instruction(&registers) == behind {
                break registers;
            }
        };
        let before = registers;
        arch::forget_call(&mut registers);
        ptrace::set_registers(tid, &registers).map_err(Error::own("setting registers"))?;
        to(tid, Stop::Syscall, ptrace::resume_to_syscall)?;
        self.write(entry, &old)?;
        let mut registers = before;
        arch::uncall(&mut registers, entry);
        ptrace::set_registers(tid, &registers).map_err(Error::own("setting registers"))?;
        ptrace::interrupt(tid).map_err(Error::own("stopping the program"))?;
        to(tid, Stop::Trap, ptrace::resume)?;
        let registers = ptrace::registers(tid).map_err(Error::own("reading registers"))?;
        self.set_registers(tid, registers)
    }
}

impl Stopped<'_> {
    /// Lets a program that was just executed run until its dynamic linker has given it a thread
    /// pointer. By then glibc's has mapped all that the program is linked with, and has relocated
    /// none of it: no function of those libraries has run, not even one that chooses another
    /// (`STT_GNU_IFUNC`). musl's has mapped itself. Nothing is written into the program.
    ///
    /// # Errors
    /// [`Error::Gone`] if it ends before; [`Error::Busy`] if not all of it stands.
    ///
    /// # Context
    /// Two stops for each system call that the dynamic linker makes until then. For a program that
    /// has one: a static one may never get here.
    pub fn run_to_thread_pointer(&mut self) -> Result<(), Error> {
        let [thread] = &self.threads[..] else { return Err(Error::Busy) };
        let tid = thread.tid;
        let read = || ptrace::registers(tid).map_err(Error::own("reading registers"));
        while !arch::has_thread_pointer(&read()?) {
            to(tid, Stop::Syscall, ptrace::resume_to_syscall)?;
        }
        ptrace::interrupt(tid).map_err(Error::own("stopping the program"))?;
        to(tid, Stop::Trap, ptrace::resume)?;
        let registers = read()?;
        self.set_registers(tid, registers)
    }
}

/// Lets the process run to a stop.
fn to(
    pid: Tid,
    wanted: Stop,
    resume: impl Fn(Tid, i32) -> std::io::Result<()>,
) -> Result<(), Error> {
    let mut signal = 0;
    loop {
        resume(pid, signal).map_err(Error::own("going on"))?;
        signal = 0;
        match ptrace::wait_for(pid) {
            Waited::Ended | Waited::Running => return Err(Error::Gone),
            Waited::Stopped(stop) if stop == wanted || stop == Stop::Group => return Ok(()),
            Waited::Stopped(Stop::Signal(arrived)) => signal = arrived,
            Waited::Stopped(_) => {}
        }
    }
}

/// A thread that is about to execute a program, see [`follow_exec`].
#[derive(Debug)]
pub struct Follower<R> {
    thread: JoinHandle<Result<Option<R>, Error>>,
    tracer: Tid,
    cancelled: Arc<Cancelled>,
}

#[derive(Debug, Default)]
struct Cancelled {
    is: Mutex<bool>,
    changed: Condvar,
}

/// Traces the thread `tid` of the process `pid`, which is about to execute a program, and runs
/// `work` on that before its first instruction. Then nobody traces it any more, and no more either
/// when the kernel has refused to execute the program, or the thread does other things for long. It
/// is stopped for a moment at first, and may be told to go on when this returns.
///
/// If `work` fails or the program may not be worked on, it runs all the same. Not for set-user-ID
/// programs: without privileges of this process's, they have none either while they are traced.
///
/// # Errors
/// If the thread cannot be traced.
///
/// # Context
/// Starts a thread, which asks the kernel every millisecond at the latest. Each system call that
/// the other makes until then stops it twice.
pub fn follow_exec<R: Send + 'static>(
    pid: i32,
    tid: i32,
    force: Force,
    work: impl FnOnce(&mut Stopped<'_>) -> Result<R, Error> + Send + 'static,
) -> Result<Follower<R>, Error> {
    let cancelled = Arc::new(Cancelled::default());
    let (ready, is_ready) = mpsc::sync_channel(1);
    let flag = Arc::clone(&cancelled);
    let thread = std::thread::spawn(move || {
        let wanted = options::PLAIN | options::EXEC;
        let seized = ptrace::seize(tid, wanted).map_err(Error::own("tracing a thread"));
        let seized = seized.and_then(|()| watch_calls(tid));
        let traced = seized.is_ok();
        // Whoever asked waits for this.
        let _ = ready.send(seized.map(|()| ptrace::own_tid()));
        if !traced || !flag.until_exec(pid, tid) {
            return Ok(None);
        }
        let mut executed = Executed::new(pid, force, wanted)?;
        work(&mut executed.stopped()).map(Some)
    });
    let tracer = is_ready.recv().map_err(|_| Error::Gone)??;
    Ok(Follower { thread, tracer, cancelled })
}

impl<R> Follower<R> {
    /// The thread will execute nothing: it is let go.
    pub fn cancel(&self) {
        *self.cancelled.is.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.cancelled.changed.notify_one();
    }

    /// Waits until the program has been executed and worked on: what `work` gave. `None` if it was
    /// cancelled, the kernel has refused to execute it, or the thread has ended before.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Refused`].
    ///
    /// # Panics
    /// If `work` did.
    pub fn join(self) -> Result<Option<R>, Error> {
        let result = self.thread.join();
        await_end(self.tracer);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Stops a thread that was seized, and has it go on to its next system call.
fn watch_calls(tid: Tid) -> Result<(), Error> {
    ptrace::interrupt(tid).map_err(Error::own("stopping a thread"))?;
    loop {
        match ptrace::wait_for(tid) {
            Waited::Ended | Waited::Running => return Err(Error::Gone),
            Waited::Stopped(stop @ (Stop::Trap | Stop::Group)) => {
                // An error here and below is that it has been killed, which the next wait says.
                let _ = stand(tid, stop);
                let _ = ptrace::resume_to_syscall(tid, 0);
                return Ok(());
            }
            Waited::Stopped(other) => pass_on(tid, other),
        }
    }
}

/// The system calls of a thread that is about to execute a program.
#[derive(Debug, Default)]
struct Calls {
    /// Whether the last stop was at the beginning of one.
    inside: bool,
    seen: usize,
}

impl Calls {
    /// Most calls before the one that executes: signals that arrive have handlers.
    const MOST: usize = 1 << 10;

    /// At a stop at the beginning or the end of one: whether the program may still come.
    fn may_come(&mut self, tid: Tid) -> bool {
        self.inside = !self.inside;
        if self.inside {
            self.seen += 1;
            return self.seen <= Self::MOST;
        }
        // Of one that was killed nothing is to be read, and the next wait says so.
        ptrace::registers(tid).is_ok_and(|registers| !arch::has_failed_to_execute(&registers))
    }
}

impl Cancelled {
    /// Whether the thread has executed a program. If not, nobody traces it any more, or the end of
    /// the calling thread lets it go.
    fn until_exec(&self, pid: Tid, mut tid: Tid) -> bool {
        /// Looks without a pause: a call takes microseconds.
        const EAGER: usize = 100;
        let (mut began, mut looks, mut calls) = (Instant::now(), 0, Calls::default());
        loop {
            match ptrace::poll(tid) {
                // The thread that executes becomes the first of its process, with that number.
                Waited::Ended if tid != pid && is_ours(pid) => tid = pid,
                Waited::Ended => return false,
                Waited::Stopped(Stop::Event(libc::PTRACE_EVENT_EXEC)) => return true,
                Waited::Stopped(stop) => {
                    if stop == Stop::Syscall && !calls.may_come(tid) {
                        let _ = ptrace::detach(tid);
                        return false;
                    }
                    pass_on_by(tid, stop, ptrace::resume_to_syscall);
                    (began, looks) = (Instant::now(), 0);
                }
                Waited::Running if looks < EAGER => {
                    looks += 1;
                    std::thread::yield_now();
                }
                Waited::Running => {
                    let is = self.is.lock().unwrap_or_else(PoisonError::into_inner);
                    if *is {
                        return false;
                    }
                    drop(self.changed.wait_timeout(is, ptrace::nap(began)));
                }
            }
        }
    }
}

/// Whether this thread traces the first thread of a process.
fn is_ours(pid: Tid) -> bool {
    Status::read(pid, pid).is_ok_and(|status| status.tracer == ptrace::own_tid())
}
