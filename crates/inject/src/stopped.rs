//! Threads of a process that stand.
//!
//! A signal that the program ignores (the end of a child, most often) is thrown away when it is
//! sent, but not if the thread that it is sent to is traced; then the kernel looks for a thread
//! that takes it, and if that one runs untraced, a call of its ends with `EINTR` for nothing. So
//! all threads are traced before the first is stopped, those that signals are sent to are let go
//! first, one thread stands alone only if no child's end is sent to it, and a parent in `vfork` is
//! traced only where it must not wake up, for it can be let go only with the end of all tracing.

use crate::arch::{self, Registers, restart, rseq};
use crate::aside::Aside;
use crate::error::Error;
use crate::memory::Memory;
use crate::proc::{self, Call};
use crate::ptrace::{self, Tid};
use crate::tracer::{Thread, Tracer, is_in_vfork};
use std::collections::HashSet;

/// Threads of a process that stand, until this is dropped. They then go on as if nothing had been:
/// system calls that were interrupted go on or are made again, signals that came are delivered, a
/// process that is stopped by job control stays so.
pub struct Stopped<'t> {
    pub(crate) tracer: &'t mut Tracer,
    pub(crate) threads: Vec<Thread>,
    /// Those on which system calls may be made; any of them, if empty.
    pub(crate) chosen: Vec<Tid>,
    /// All threads that were looked at.
    known: HashSet<Tid>,
    /// Threads that have child processes.
    parents: HashSet<Tid>,
    /// Parents in `vfork` that are not traced.
    aside: Vec<Tid>,
    /// Those that must not wake up.
    kept: Option<Aside>,
    /// Whether no thread of the process runs.
    all: bool,
}

/// How often a thread is let go that a killed tracer has left in a call of its own, which takes
/// microseconds.
const TRIES: usize = 1000;
/// Threads that are looked at to find one to be stopped.
const LOOKED_AT: usize = 64;

impl Tracer {
    /// Stops all threads, but a parent in `vfork`, which cannot be stopped before its child is
    /// done: that one only waits, and [`Stopped::patch`] sees to it that it goes on doing so. One
    /// whose disk does not answer for a tenth of a second stops before it runs code of the
    /// program's.
    ///
    /// # Errors
    /// [`Error::Gone`]; [`Error::Refused`] if another tracer was faster; [`Error::Busy`].
    ///
    /// # Context
    /// Blocks until they stand: half a millisecond with a few threads, 8 ms with 500.
    pub fn stop_all(&mut self) -> Result<Stopped<'_>, Error> {
        Stopped::none(self).with(Stopped::gather_all)
    }

    /// Stops one thread that system calls can be made on, preferably one that sleeps, and the
    /// process's first one, whose stack is borrowed. If that one has child processes, all threads.
    ///
    /// # Errors
    /// As [`Tracer::stop_all`].
    ///
    /// # Context
    /// Blocks until it stands: a fifth of a millisecond.
    pub fn stop_one(&mut self) -> Result<Stopped<'_>, Error> {
        Stopped::none(self).with(Stopped::gather_one)
    }
}

impl<'t> Stopped<'t> {
    pub(crate) fn none(tracer: &'t mut Tracer) -> Self {
        Self {
            tracer,
            threads: Vec::new(),
            chosen: Vec::new(),
            known: HashSet::new(),
            parents: HashSet::new(),
            aside: Vec::new(),
            kept: None,
            all: false,
        }
    }

    /// A thread that stands already, the only one of a program that has just been executed.
    pub(crate) fn only(tracer: &'t mut Tracer, thread: Thread) -> Self {
        let mut stopped = Self::none(tracer);
        stopped.known.insert(thread.tid);
        stopped.threads.push(thread);
        stopped.all = true;
        stopped
    }

    fn with(mut self, gather: impl Fn(&mut Self) -> Result<(), Error>) -> Result<Self, Error> {
        for _ in 0..TRIES {
            gather(&mut self)?;
            if !self.threads.iter().any(|thread| self.tracer.is_in_gadget(&thread.registers)) {
                return if self.threads.is_empty() { Err(Error::Busy) } else { Ok(self) };
            }
            self.release();
            std::thread::yield_now();
        }
        Err(Error::Busy)
    }

    fn gather_all(&mut self) -> Result<(), Error> {
        let pid = self.tracer.pid();
        self.parents = self.listed()?.into_iter().filter(|t| proc::has_children(pid, *t)).collect();
        self.aside = self.parents.iter().copied().filter(|tid| is_in_vfork(pid, *tid)).collect();
        self.known = self.aside.iter().copied().collect();
        self.gather_new()?;
        self.all = true;
        Ok(())
    }

    /// Keeps those from running, too, that wait for the child of a `vfork`, and stops what they may
    /// have started before.
    pub(crate) fn gather_aside(&mut self) -> Result<(), Error> {
        let aside = std::mem::take(&mut self.aside);
        if !aside.is_empty() {
            self.kept = Some(Aside::keep(self.tracer.pid(), aside));
        }
        self.gather_new()
    }

    fn gather_new(&mut self) -> Result<(), Error> {
        loop {
            // Again and again: until it stands, a thread may start others, also one that ends
            // before it is traced.
            let (mut new, mut all_known) = (Vec::new(), true);
            for tid in self.listed()? {
                if self.known.insert(tid) {
                    all_known = false;
                    if self.tracer.seize(tid)? {
                        new.push(tid);
                    }
                }
            }
            if all_known {
                return Ok(());
            }
            new.iter().for_each(|tid| self.tracer.interrupt(*tid));
            for tid in new {
                self.settle(tid);
            }
        }
    }

    fn gather_one(&mut self) -> Result<(), Error> {
        let first = self.tracer.pid();
        if proc::has_children(first, first) {
            return self.gather_all();
        }
        let mut threads = self.listed()?;
        threads.truncate(LOOKED_AT);
        threads.retain(|tid| !proc::has_children(first, *tid));
        let rank = |tid: &Tid| {
            let call = Call::read(first, *tid);
            (restart::rank(call.and_then(|call| call.number)), *tid)
        };
        threads.sort_by_cached_key(rank);
        for tid in threads {
            if !self.stop(tid)? {
                continue;
            }
            let usable = self.threads.last().is_some_and(Thread::is_usable);
            if usable && self.tracer.target().lets_call(tid) {
                break;
            }
            self.release();
        }
        let stands = |threads: &[Thread]| threads.iter().any(|thread| thread.tid == first);
        if !stands(&self.threads) {
            self.stop(first)?;
        }
        self.all = self.waiting().is_empty() && self.listed()?.len() == self.threads.len();
        Ok(())
    }

    /// The process's threads, but for those of the image's.
    fn listed(&self) -> Result<Vec<Tid>, Error> {
        let mut found = proc::threads(self.tracer.pid()).map_err(|_| Error::Gone)?;
        found.retain(|tid| !self.tracer.helpers.contains(tid));
        Ok(found)
    }

    /// Stops one thread: whether it came to stand.
    fn stop(&mut self, tid: Tid) -> Result<bool, Error> {
        if !self.tracer.seize(tid)? {
            return Ok(false);
        }
        self.known.insert(tid);
        self.tracer.interrupt(tid);
        Ok(self.settle(tid))
    }

    /// Whether the thread came to stand.
    fn settle(&mut self, tid: Tid) -> bool {
        let thread = self.tracer.settle(tid);
        let stands = thread.is_some();
        self.threads.extend(thread);
        stands
    }

    fn release(&mut self) {
        // First: while they are traced, their children's ends would disturb the others.
        self.kept = None;
        let (first, parents) = (self.tracer.pid(), std::mem::take(&mut self.parents));
        self.threads.sort_by_key(|thread| thread.tid != first && !parents.contains(&thread.tid));
        for thread in self.threads.drain(..) {
            self.tracer.release(thread.tid);
        }
        self.tracer.release_late();
        self.known.clear();
        self.aside.clear();
        self.all = false;
    }

    /// The threads that stand.
    pub fn threads(&self) -> impl Iterator<Item = i32> {
        self.threads.iter().map(|thread| thread.tid)
    }

    /// Threads that could not be stopped, as they wait in the kernel.
    #[must_use]
    pub fn waiting(&self) -> Vec<i32> {
        let kept = self.kept.as_ref().map_or(&[][..], Aside::tids);
        [&self.aside, kept, self.tracer.late()].concat()
    }

    /// Whether all threads stand, but those that wait in the kernel.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Has system calls made only on threads that are chosen: see [`Stopped::remote`]. Otherwise a
    /// thread is taken that sleeps.
    pub fn use_for_calls(&mut self, chosen: impl Fn(i32) -> bool) {
        self.chosen = self.threads().filter(|tid| chosen(*tid)).collect();
    }

    /// What a thread goes on with.
    #[must_use]
    pub fn registers(&self, tid: i32) -> Option<Registers> {
        self.threads.iter().find(|thread| thread.tid == tid).map(|thread| thread.registers)
    }

    /// Changes what a thread goes on with.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn set_registers(&mut self, tid: i32, registers: Registers) -> Result<(), Error> {
        let thread = self.threads.iter_mut().find(|thread| thread.tid == tid);
        thread.ok_or(Error::Gone)?.set_registers(registers)
    }

    /// Sees to it that a thread that stands does not block a signal: whether it did.
    ///
    /// # Errors
    /// [`Error::Gone`], and errors of the system.
    pub fn unblock(&mut self, tid: i32, signal: i32) -> Result<bool, Error> {
        let stands = self.threads.iter().any(|thread| thread.tid == tid);
        let mask = ptrace::mask(tid).map_err(Error::own("reading blocked signals"));
        let (mask, bit) = (if stands { mask? } else { return Err(Error::Gone) }, 1 << (signal - 1));
        if mask & bit == 0 {
            return Ok(false);
        }
        ptrace::set_mask(tid, mask & !bit).map_err(Error::own("unblocking a signal"))?;
        Ok(true)
    }

    /// Reads memory of the process.
    ///
    /// # Errors
    /// If not all of it is mapped.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let what = "reading the process's memory";
        self.memory().read(address, bytes).map_err(Error::own(what))
    }

    /// Writes memory of the process, whatever its rights.
    ///
    /// # Errors
    /// If not all of it is mapped, or the kernel refuses.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        let standing = self.threads.first().ok_or(Error::Gone)?.tid;
        let what = "writing the process's memory";
        self.memory().write(standing, address, bytes).map_err(Error::own(what))
    }

    /// Where a thread that stands goes on if it is taken somewhere else: inside a restartable
    /// sequence, at its abort handler.
    pub(crate) fn outside_sequence(&self, thread: &Thread) -> u64 {
        let at = arch::instruction(&thread.registers);
        let word = |at| self.memory().word(at).ok();
        let area = ptrace::rseq_area(thread.tid);
        area.and_then(|area| rseq::abort_of(area, at, word)).unwrap_or(at)
    }

    pub(crate) fn memory(&self) -> &Memory {
        self.tracer.memory()
    }

    /// Where each thread goes on, with its number: in the program's code, whatever call it is in.
    pub(crate) fn positions(&self) -> Vec<(Tid, u64)> {
        let pid = self.tracer.pid();
        let stand = self.threads.iter().map(|t| (t.tid, restart::next_instruction(&t.registers).0));
        let at = |tid| Call::read(pid, tid).map(|call| (tid, call.instruction));
        stand.chain(self.waiting().into_iter().filter_map(at)).collect()
    }

    /// The stack pointers of the threads that stand.
    pub(crate) fn stacks(&self) -> impl Iterator<Item = u64> {
        self.threads.iter().map(Thread::stack)
    }

    /// The stack pointer of the process's first thread, and whether it stands. `None` if it has
    /// ended.
    pub(crate) fn first_stack(&self) -> Option<(u64, bool)> {
        let first = self.tracer.pid();
        match self.registers(first) {
            Some(registers) => Some((arch::stack(&registers), true)),
            None => Call::read(first, first).map(|call| (call.stack, false)),
        }
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.release();
    }
}
