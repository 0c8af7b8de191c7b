//! Calling a function of an image in its process.

use crate::arch::{self, Registers, frame, gadget};
use crate::error::Error;
use crate::mapped::Mapped;
use crate::ptrace::{self, Stop, Tid, Waited, options};
use crate::remote::Remote;
use crate::tracer::Tracer;
use std::time::{Duration, Instant};

/// Signals that a fault of the thread's own gives. They are not blocked, for a blocked one would
/// take the program's handler away from it before anybody could see that.
const FAULTS: u64 = 1 << (libc::SIGSEGV - 1)
    | 1 << (libc::SIGBUS - 1)
    | 1 << (libc::SIGILL - 1)
    | 1 << (libc::SIGFPE - 1)
    | 1 << (libc::SIGTRAP - 1)
    | 1 << (libc::SIGSYS - 1);
const BLOCKED: u64 = !FAULTS;

/// A thread like those of the process, that nobody waits for.
const SHARED: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM;

/// Places at the high end of the stack, from there down: result and a 1 when there is one; the
/// return address, so that the stack is aligned as at a call; a frame.
const RESULT: u64 = 16;
const RETURN: u64 = 40;
const FRAME: u64 = 1024;

/// A thread of its own that runs a function of an image.
pub(crate) struct Helper {
    tid: Tid,
    /// Where the result will be.
    result: u64,
    /// Where it ends.
    end: u64,
}

impl Tracer {
    /// Ends functions of an image that take longer: 10 s, until this is called.
    pub fn limit_calls(&mut self, limit: Duration) {
        self.call_limit = limit;
    }

    /// Calls a function of an image with up to six words, on a thread of its own, while the program
    /// goes on: only one thread stands, for as long as it takes to start the other. Where no thread
    /// can be started (a filter, a limit), it runs on the one that stands.
    ///
    /// The function has a stack of 256 KiB and no thread-local storage; all signals but faults are
    /// blocked. A fault ends it, and not the process. One call at a time.
    ///
    /// # Errors
    /// [`Error::Fault`]; [`Error::TimedOut`], see [`Tracer::limit_calls`]; those of
    /// [`Tracer::stop_one`] and [`crate::Stopped::remote`].
    pub fn call(&mut self, image: &Mapped, function: u64, arguments: &[u64]) -> Result<u64, Error> {
        let mut stopped = self.stop_one()?;
        let mut remote = stopped.remote()?;
        let helper = match remote.start(image, function, arguments)? {
            Ok(helper) => helper,
            Err(_) => return remote.run_function(image, function, arguments),
        };
        drop(remote);
        drop(stopped);
        self.join(&helper, true)
    }

    /// Waits for the function; the program may run meanwhile, or stands.
    fn join(&mut self, helper: &Helper, runs: bool) -> Result<u64, Error> {
        let done = self.watch(helper, runs);
        match done {
            Err(Error::TimedOut) => self.end(helper, false),
            Err(Error::Fault { .. }) => self.end(helper, true),
            _ => {}
        }
        self.helpers.retain(|tid| *tid != helper.tid);
        done
    }

    fn watch(&mut self, helper: &Helper, runs: bool) -> Result<u64, Error> {
        let (tid, deadline) = (helper.tid, Instant::now() + self.call_limit);
        let mut result = Err(Error::Gone);
        loop {
            let others = || runs && !self.late().is_empty();
            match ptrace::wait_unless(tid, || others() || Instant::now() >= deadline) {
                Waited::Ended => {
                    ptrace::reap(tid);
                    return result;
                }
                Waited::Running => {
                    if runs {
                        self.release_late();
                    }
                    if Instant::now() >= deadline {
                        return Err(Error::TimedOut);
                    }
                    continue;
                }
                Waited::Stopped(Stop::Event(libc::PTRACE_EVENT_EXIT)) => {
                    // Also where the whole process ends: then there is none.
                    let word = |at| self.memory().word(at).map_err(|_| Error::Gone);
                    if word(helper.result + 8)? == 1 {
                        result = word(helper.result);
                    }
                }
                Waited::Stopped(Stop::Signal(fault)) => {
                    if ptrace::is_fault(tid).unwrap_or(false) {
                        let at = ptrace::registers(tid).map_or(0, |r| arch::instruction(&r));
                        return Err(Error::Fault { signal: fault, address: at });
                    }
                    // Sent to the process from elsewhere: for another thread.
                    let _ = ptrace::set_mask(tid, u64::MAX);
                    ptrace::kill(self.pid(), fault);
                }
                Waited::Stopped(_) => {}
            }
            // It can have been killed: the next wait says so.
            let _ = ptrace::resume(tid, 0);
        }
    }

    /// Ends the function's thread wherever it is. An error is that it has ended.
    fn end(&mut self, helper: &Helper, mut stands: bool) {
        let tid = helper.tid;
        if !stands {
            let _ = ptrace::interrupt(tid);
        }
        loop {
            let ends =
                match if stands { Waited::Stopped(Stop::Trap) } else { ptrace::wait_for(tid) } {
                    Waited::Ended | Waited::Running => break,
                    Waited::Stopped(stop) => matches!(stop, Stop::Event(_)),
                };
            if let (false, Ok(mut registers)) = (ends, ptrace::registers(tid)) {
                arch::go_to(&mut registers, helper.end);
                arch::forget_call(&mut registers);
                let _ = ptrace::set_registers(tid, &registers);
            }
            let _ = ptrace::resume(tid, 0);
            stands = false;
        }
        ptrace::reap(tid);
    }
}

impl Remote<'_, '_> {
    /// As [`Tracer::call`], while the threads stand: for a program that must not go on yet.
    ///
    /// # Errors
    /// As [`Tracer::call`].
    pub fn call_function(
        &mut self,
        image: &Mapped,
        function: u64,
        arguments: &[u64],
    ) -> Result<u64, Error> {
        match self.start(image, function, arguments)? {
            Ok(helper) => self.stopped.tracer.join(&helper, false),
            Err(_) => self.run_function(image, function, arguments),
        }
    }

    /// Prepares the stack: the registers with which the function starts.
    fn prepare(
        &self,
        image: &Mapped,
        function: u64,
        arguments: &[u64],
        returns: u64,
    ) -> Result<Registers, Error> {
        assert!(arguments.len() <= 6, "only what goes in registers");
        let end = image.stack_end();
        self.stopped.write(end - RESULT, &[0; RESULT as usize])?;
        self.stopped.write(end - RETURN, &returns.to_le_bytes())?;
        let mut six = [0; 6];
        six[..arguments.len()].copy_from_slice(arguments);
        let kept = [end - RESULT, self.frame];
        let thread = self.saved_registers();
        Ok(arch::arguments_of_function(thread, function, end - RETURN, six, kept))
    }

    /// Starts a thread that runs the function; inside, the number of the error with which the
    /// process may not.
    fn start(
        &mut self,
        image: &Mapped,
        function: u64,
        arguments: &[u64],
    ) -> Result<Result<Helper, i32>, Error> {
        let returns = image.returns();
        let registers = self.prepare(image, function, arguments, returns)?;
        let place = image.stack_end() - FRAME;
        let made = frame::build(place, &registers, BLOCKED, None);
        self.stopped.write(place, &made.bytes)?;
        let victim = self.tid();
        let plain = self.stopped.tracer.options;
        let set =
            |tid, options| ptrace::set_options(tid, options).map_err(Error::own("setting options"));
        self.born = None;
        set(victim, plain | options::CLONE)?;
        // The new thread goes on behind the call, and so to `rt_sigreturn` on its own frame.
        let cloned = self.call(libc::SYS_clone, [SHARED as u64, made.stack, 0, 0, 0, 0]);
        set(victim, plain)?;
        if let Err(errno) = cloned? {
            return Ok(Err(errno));
        }
        let tid = self.born.ok_or(Error::Gone)?;
        self.stopped.tracer.helpers.push(tid);
        // Its first stop; then, as the code that it starts in is about to be put back, out of that.
        let mut stops = vec![Stop::Syscall, Stop::Syscall, Stop::Trap];
        while let Some(next) = stops.last() {
            match ptrace::wait_for(tid) {
                // In a process that is stopped, a new thread starts so, too.
                Waited::Stopped(Stop::Group) if *next == Stop::Trap => drop(stops.pop()),
                Waited::Stopped(stop) if stop == *next => drop(stops.pop()),
                Waited::Stopped(_) => {}
                Waited::Ended | Waited::Running => return Err(Error::Gone),
            }
            if !stops.is_empty() {
                ptrace::resume_to_syscall(tid, 0).map_err(Error::own("going on"))?;
            }
        }
        set(tid, plain | options::EXIT)?;
        ptrace::resume(tid, 0).map_err(Error::own("going on"))?;
        let result = image.stack_end() - RESULT;
        Ok(Ok(Helper { tid, result, end: returns + gadget::END_THREAD }))
    }

    /// Runs the function on the thread that stands.
    fn run_function(
        &mut self,
        image: &Mapped,
        function: u64,
        arguments: &[u64],
    ) -> Result<u64, Error> {
        let returns = image.returns() + gadget::TO_FRAME;
        let registers = self.prepare(image, function, arguments, returns)?;
        let result = image.stack_end() - RESULT;
        self.calculated = true;
        self.enter(&registers, BLOCKED)?;
        let deadline = Instant::now() + self.stopped.tracer.call_limit;
        // Its own system calls, and at last the entry of that which would put the thread back.
        loop {
            match self.run(ptrace::resume_to_syscall, Some(deadline))? {
                Stop::Syscall => {}
                Stop::Signal(signal) => return Err(self.fault(signal)),
                _ => return Err(Error::Gone),
            }
            if self.stopped.memory().word(result + 8).map_err(|_| Error::Gone)? == 1 {
                break;
            }
        }
        // That call is made: a filter must be expected to allow it, and no other. What it forgets
        // is how long the thread still had to sleep.
        self.reach_syscall_stop()?;
        self.keep_blocked()?;
        self.forget_block();
        self.stopped.memory().word(result).map_err(|_| Error::Gone)
    }
}
