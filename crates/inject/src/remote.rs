//! System calls made in the process, on a thread that stands.
//!
//! The thread is sent to a `syscall` instruction with another one behind it: `rt_sigreturn`, on a
//! signal frame that was written beforehand and holds all that the thread had. While this tracer
//! lives it catches the thread between the two, by system call stops, which involve no signal. If
//! it is killed at any moment, the thread goes on, puts itself back, and continues the program.
//!
//! The order of the steps follows from that. To begin: the frame, the code, the registers, and then
//! the blocked signals, which the frame has. To end: the blocked signals, the registers, the code.

use crate::arch::{self, Registers, frame, gadget, restart};
use crate::error::Error;
use crate::left::{NOTE, Note, PAIR};
use crate::maps;
use crate::proc;
use crate::ptrace::{self, Stop, Tid, Waited};
use crate::refusal::{Refusal, Refused};
use crate::stopped::Stopped;
use std::time::Instant;

/// The signals that stay deliverable during a call: the answer of a filter.
const SIGSYS: u64 = 1 << (libc::SIGSYS - 1);

/// Room in front of the frame for a few bytes that a call takes a pointer to.
const SCRATCH: u64 = 128;

/// Where system calls are made in the process. When it is dropped, the thread that they were made
/// on is as it was.
pub struct Remote<'s, 't> {
    pub(crate) stopped: &'s mut Stopped<'t>,
    /// Which of the threads.
    victim: usize,
    saved: Saved,
    /// What was overwritten: address, bytes.
    overwritten: Vec<(u64, Vec<u8>)>,
    /// The address of the note.
    note: u64,
    /// The address of [`SCRATCH`] bytes.
    scratch: u64,
    /// The stack pointer with which the thread would put itself back.
    pub(crate) frame: u64,
    /// Whether the thread's registers are ours.
    entered: bool,
    /// Whether it has run more than system calls.
    pub(crate) calculated: bool,
    /// Whether it runs still: a function that took too long.
    runs: bool,
    /// The thread that a call has started.
    pub(crate) born: Option<Tid>,
}

/// What the thread had.
struct Saved {
    registers: Registers,
    mask: u64,
    vectors: Vec<u8>,
}

impl<'t> Stopped<'t> {
    /// Prepares a thread for system calls.
    ///
    /// # Errors
    /// [`Error::Busy`] if none of those that stand can be used, or the place for its frame is in
    /// use; [`Error::Refused`] if all of them filter their system calls by now, and that was not
    /// forced; [`Error::Gone`].
    ///
    /// # Context
    /// About 20 system calls.
    pub fn remote(&mut self) -> Result<Remote<'_, 't>, Error> {
        let chosen = |tid| self.chosen.is_empty() || self.chosen.contains(tid);
        let mut ranked: Vec<usize> = (0..self.threads.len()).collect();
        ranked.retain(|index| chosen(&self.threads[*index].tid));
        ranked.sort_by_key(|n| restart::rank(arch::call_number(&self.threads[*n].registers)));
        ranked.retain(|index| self.threads[*index].is_usable());
        let target = self.tracer.target();
        let calls = |index: &usize| target.lets_call(self.threads[*index].tid);
        let victim = match (ranked.first(), ranked.iter().copied().find(calls)) {
            (None, _) => return Err(Error::Busy),
            (_, None) => return Err(Refused { pid: target.pid(), why: Refusal::Seccomp }.into()),
            (_, Some(victim)) => victim,
        };
        let thread = &self.threads[victim];
        let (tid, mut registers) = (thread.tid, thread.registers);
        let mask = ptrace::mask(tid).map_err(Error::own("reading blocked signals"))?;
        let vectors = ptrace::register_set(tid, frame::XSTATE);
        let vectors = vectors.map_err(Error::own("reading vector registers"))?;
        arch::go_to(&mut registers, self.outside_sequence(thread));
        let note = self.place(NOTE + SCRATCH + frame::room(&vectors) as u64)?;
        let left = self.note_at(note);
        let place = note + NOTE;
        let again = restart::by_hand(&registers);
        let made = frame::build(place + SCRATCH, &again, mask, Some(&vectors));
        let gadget = self.tracer.gadget();
        let mut code = [0; gadget::CALL_AND_RETURN.len()];
        self.read(gadget, &mut code)?;
        if let Some(left) = left.filter(|_| code == gadget::CALL_AND_RETURN) {
            code = left.code;
        }
        let mut remote = Remote {
            victim,
            saved: Saved { registers, mask, vectors },
            overwritten: Vec::new(),
            note,
            scratch: place,
            frame: made.stack,
            entered: false,
            calculated: false,
            runs: false,
            born: None,
            stopped: self,
        };
        // What a tracer that was killed has left was never the program's.
        let is_ours = left.is_some();
        remote.overwrite(note, &Note::bytes(&code), is_ours)?;
        remote.overwrite(place, &[0; SCRATCH as usize], is_ours)?;
        remote.overwrite(place + SCRATCH, &made.bytes, is_ours)?;
        remote.overwritten.push((gadget, code.to_vec()));
        remote.stopped.write(gadget, &gadget::CALL_AND_RETURN)?;
        if let Some(pair) = left.and_then(|left| left.pair) {
            remote.close_left(pair)?;
        }
        Ok(remote)
    }

    /// A place of `size` bytes that holds nothing: at the low end of the first thread's stack. That
    /// may be shared by all threads, but it is none of theirs.
    fn place(&self, size: u64) -> Result<u64, Error> {
        /// Below its stack pointer a thread keeps things, too.
        const STANDS: u64 = 4096;
        /// What somebody who runs on the stack may need meanwhile: the child of a `vfork`.
        const RUNS: u64 = 64 << 10;
        let tid = self.threads.first().ok_or(Error::Gone)?.tid;
        let mappings = maps::read(self.tracer.pid(), tid);
        let mappings = mappings.map_err(Error::own("reading the process's mappings"))?;
        let stack = mappings.iter().find(|m| m.name == "[stack]").ok_or(Error::Busy)?.range.clone();
        let place = stack.start + arch::PAGE;
        let end = place + size;
        if end > stack.end {
            return Err(Error::Busy);
        }
        let is_below = match self.first_stack() {
            Some((pointer, stands)) if stack.contains(&pointer) => {
                end + if stands { STANDS } else { RUNS } <= pointer
            }
            _ => false,
        };
        // Otherwise, or if the first thread runs on a stack of its own making: what was never used,
        // but by one like this who was killed.
        let unused = || {
            if self.note_at(place).is_some() {
                return true;
            }
            let mut bytes = vec![1; size as usize];
            self.memory().read(place, &mut bytes).is_ok() && bytes.iter().all(|byte| *byte == 0)
        };
        if is_below || unused() { Ok(place) } else { Err(Error::Busy) }
    }
}

impl Stopped<'_> {
    /// What a tracer that was killed has left there.
    fn note_at(&self, place: u64) -> Option<Note> {
        let mut bytes = [0; NOTE as usize];
        self.memory().read(place, &mut bytes).ok()?;
        Note::parse(&bytes)
    }
}

impl Remote<'_, '_> {
    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.stopped.tracer.pid()
    }

    /// Reads memory of the process.
    ///
    /// # Errors
    /// If not all of it is mapped.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.stopped.read(address, bytes)
    }

    pub(crate) fn tid(&self) -> Tid {
        self.stopped.threads[self.victim].tid
    }

    pub(crate) fn saved_registers(&self) -> &Registers {
        &self.saved.registers
    }

    /// Writes, remembering what was there: nothing, if that was ours.
    fn overwrite(&mut self, at: u64, bytes: &[u8], is_ours: bool) -> Result<(), Error> {
        let mut old = vec![0; bytes.len()];
        if !is_ours {
            self.stopped.read(at, &mut old)?;
        }
        // First noted: if the writing fails in the middle, everything is put back.
        self.overwritten.push((at, old));
        self.stopped.write(at, bytes)
    }

    /// Where two descriptors are written that are to be closed if this process is killed.
    pub(crate) fn pair(&self) -> u64 {
        self.note + PAIR
    }

    /// Writes a few bytes that a call can take a pointer to: the pointer.
    pub(crate) fn scratch(&self, bytes: &[u8]) -> Result<u64, Error> {
        assert!(bytes.len() as u64 <= SCRATCH, "few bytes");
        self.stopped.write(self.scratch, bytes)?;
        Ok(self.scratch)
    }

    /// As [`Remote::scratch`], for words that depend on where they are.
    pub(crate) fn scratch_at(&self, words: impl Fn(u64) -> [u64; 14]) -> Result<u64, Error> {
        let bytes: Vec<u8> = words(self.scratch).iter().flat_map(|w| w.to_ne_bytes()).collect();
        self.scratch(&bytes)
    }

    /// Makes a system call in the process: what it gives, or the number of its error.
    ///
    /// Not for calls that wait: other threads may stand, and whom it would wait for with them.
    /// Calls that sleep for a time change how the thread's own sleep goes on.
    ///
    /// # Errors
    /// [`Error::Gone`] if the process ends meanwhile, be it that a filter has killed it.
    ///
    /// # Context
    /// Two stops: some 10 µs.
    pub fn call(&mut self, number: i64, arguments: [u64; 6]) -> Result<Result<u64, i32>, Error> {
        loop {
            let given = self.call_once(number, arguments)?;
            if !given.is_err_and(restart::is_to_be_repeated) {
                return Ok(given);
            }
        }
    }

    fn call_once(&mut self, number: i64, arguments: [u64; 6]) -> Result<Result<u64, i32>, Error> {
        let at = self.stopped.tracer.gadget();
        let ours =
            arch::begin_call(&self.saved.registers, at, self.frame, number as u64, arguments);
        self.enter(&ours, !SIGSYS)?;
        self.reach_syscall_stop()?;
        self.reach_syscall_stop()?;
        let tid = self.tid();
        let registers = ptrace::registers(tid).map_err(Error::own("reading registers"))?;
        // A filter that answers by a signal leaves the registers as if nothing had been called.
        let pid = self.stopped.tracer.pid();
        if self.stopped.tracer.target().is_forced() && proc::pending(pid, tid) & SIGSYS != 0 {
            self.take_answer()?;
            return Ok(Err(libc::ENOSYS));
        }
        Ok(arch::result(&registers))
    }

    /// Takes the signal by which a filter has answered. The program does not see it.
    fn take_answer(&mut self) -> Result<(), Error> {
        let tid = self.tid();
        loop {
            ptrace::resume_to_syscall(tid, 0).map_err(Error::own("going on"))?;
            match ptrace::wait_for(tid) {
                Waited::Ended | Waited::Running => return Err(Error::Gone),
                Waited::Stopped(Stop::Signal(libc::SIGSYS)) => return Ok(()),
                Waited::Stopped(_) => {}
            }
        }
    }

    /// Sends the thread on its way with registers of ours, and other signals blocked.
    pub(crate) fn enter(&mut self, ours: &Registers, mask: u64) -> Result<(), Error> {
        let tid = self.tid();
        ptrace::set_registers(tid, ours).map_err(Error::own("setting registers"))?;
        self.entered = true;
        ptrace::set_mask(tid, mask).map_err(Error::own("blocking signals"))
    }

    /// Lets the thread run up to the entry or exit of a system call.
    pub(crate) fn reach_syscall_stop(&mut self) -> Result<(), Error> {
        match self.run(ptrace::resume_to_syscall, None)? {
            Stop::Syscall => Ok(()),
            Stop::Signal(signal) => Err(self.fault(signal)),
            _ => Err(Error::Gone),
        }
    }

    pub(crate) fn fault(&self, signal: i32) -> Error {
        let at = ptrace::registers(self.tid()).map_or(0, |r| arch::instruction(&r));
        Error::Fault { signal, address: at }
    }

    /// Lets the thread run up to the end or beginning of a system call, a fault of its own, or, if
    /// it was asked to stop, to where it stands.
    pub(crate) fn run(
        &mut self,
        resume: impl Fn(Tid, i32) -> std::io::Result<()>,
        deadline: Option<Instant>,
    ) -> Result<Stop, Error> {
        let tid = self.tid();
        let wait = || match deadline {
            Some(deadline) => ptrace::wait_unless(tid, || Instant::now() >= deadline),
            None => ptrace::wait_for(tid),
        };
        let mut signal = 0;
        loop {
            resume(tid, signal).map_err(Error::own("going on"))?;
            signal = 0;
            match wait() {
                Waited::Ended => return Err(Error::Gone),
                Waited::Running => {
                    self.runs = true;
                    return Err(Error::TimedOut);
                }
                Waited::Stopped(Stop::Syscall) => return Ok(Stop::Syscall),
                // The answer of a filter to a call that a function of an image has made.
                Waited::Stopped(Stop::Signal(libc::SIGSYS)) if is_fault(tid) => {}
                Waited::Stopped(Stop::Signal(fault)) if is_fault(tid) => {
                    return Ok(Stop::Signal(fault));
                }
                // Job control reaches everybody; what it stops, it stops behind this call.
                Waited::Stopped(Stop::Signal(other)) => signal = other,
                Waited::Stopped(Stop::Event(libc::PTRACE_EVENT_CLONE)) => {
                    self.born = ptrace::event_message(tid).ok().map(|tid| tid as Tid);
                }
                Waited::Stopped(_) => {}
            }
        }
    }

    /// Brings the thread from wherever it is in the gadget to a stop at which the kernel has yet to
    /// look at its registers, for signals and for system calls to be restarted.
    fn reach_plain_stop(&mut self) -> Result<(), Error> {
        let tid = self.tid();
        ptrace::interrupt(tid).map_err(Error::own("stopping a thread"))?;
        let mut signal = 0;
        loop {
            // Not one that runs: it may be about to stop as it was asked to, and would go on.
            if !std::mem::take(&mut self.runs) {
                // It can have been killed: the wait says so.
                let _ = ptrace::resume(tid, signal);
            }
            signal = 0;
            match ptrace::wait_for(tid) {
                Waited::Ended | Waited::Running => return Err(Error::Gone),
                Waited::Stopped(Stop::Trap | Stop::Group) => return Ok(()),
                Waited::Stopped(Stop::Signal(other)) => signal = other,
                Waited::Stopped(_) => {}
            }
        }
    }

    /// Blocks signals again that the thread would take as soon as it went on.
    pub(crate) fn keep_blocked(&self) -> Result<(), Error> {
        ptrace::set_mask(self.tid(), !SIGSYS).map_err(Error::own("blocking signals"))
    }

    /// The kernel has forgotten what it had noted of the thread's call.
    pub(crate) fn forget_block(&mut self) {
        restart::forget_block(&mut self.saved.registers);
    }

    fn put_back(&mut self) -> Result<(), Error> {
        let tid = self.tid();
        if self.entered {
            self.reach_plain_stop()?;
            if self.calculated {
                let vectors = ptrace::set_register_set(tid, frame::XSTATE, &self.saved.vectors);
                vectors.map_err(Error::own("setting vector registers"))?;
            }
            ptrace::set_mask(tid, self.saved.mask).map_err(Error::own("blocking signals"))?;
            self.stopped.threads[self.victim].set_registers(self.saved.registers)?;
        }
        for (at, old) in std::mem::take(&mut self.overwritten).into_iter().rev() {
            self.stopped.write(at, &old)?;
        }
        Ok(())
    }
}

impl Drop for Remote<'_, '_> {
    fn drop(&mut self) {
        // An error here is that the process has ended.
        let _ = self.put_back();
    }
}

/// Whether the signal that the thread stands before is an answer to what it did.
fn is_fault(tid: Tid) -> bool {
    ptrace::is_fault(tid).unwrap_or(false)
}
