//! The thread that traces.
//!
//! The kernel ties tracing to one thread, and lets everything go that a thread traces when it ends.
//! So each piece of work on a process has a thread of its own: whatever happens to the work, its
//! end is the end of the tracing, also for threads of the target that could not be stopped, which
//! cannot be let go in any other way.

use crate::arch::{self, Registers, gadget, restart};
use crate::error::Error;
use crate::memory::Memory;
use crate::proc::{self, Auxiliary, Call, Status};
use crate::ptrace::{self, Stop, Tid, Waited, options};
use crate::refusal::{Refusal, Refused};
use crate::target::Target;
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// How long a thread that cannot be interrupted is waited for, while others stand.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long a process may take to execute a program, on a busy machine.
const EXECUTES: Duration = Duration::from_secs(5);

/// How long a function of an image may take, unless told otherwise.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The tracing of one process. Made by [`Target::trace`].
pub struct Tracer {
    target: Target,
    memory: Memory,
    /// Where a few bytes of code can be, that nothing of the program's ever runs through.
    gadget: u64,
    /// Threads that were asked to stop and have not: they will before they run code of the program.
    late: Vec<Tid>,
    /// Threads of the image's that are traced.
    pub(crate) helpers: Vec<Tid>,
    /// What threads were seized with.
    pub(crate) options: usize,
    /// How long a function of an image may take.
    pub(crate) call_limit: Duration,
    /// Requests may be made by the thread that made this, and no other.
    not_send: PhantomData<*const ()>,
}

/// A thread that stands.
#[derive(Clone)]
pub(crate) struct Thread {
    pub(crate) tid: Tid,
    /// What it goes on with.
    pub(crate) registers: Registers,
}

impl Thread {
    /// Whether system calls can be made on it.
    pub(crate) fn is_usable(&self) -> bool {
        arch::is_native(&self.registers) && !ptrace::dispatches_syscalls(self.tid)
    }

    pub(crate) fn stack(&self) -> u64 {
        arch::stack(&self.registers)
    }

    pub(crate) fn set_registers(&mut self, registers: Registers) -> Result<(), Error> {
        ptrace::set_registers(self.tid, &registers).map_err(Error::own("setting registers"))?;
        self.registers = registers;
        Ok(())
    }
}

impl Target {
    /// Runs `work` on a thread of its own, which may stop this process's threads. However `work`
    /// ends, nothing of the process is stopped or traced afterwards.
    ///
    /// # Errors
    /// What `work` gives; an error of the system; [`Error::Gone`].
    ///
    /// # Panics
    /// If `work` does, after everything was put back.
    pub fn trace<R: Send>(
        &self,
        work: impl FnOnce(&mut Tracer) -> Result<R, Error> + Send,
    ) -> Result<R, Error> {
        let tid = AtomicI32::new(0);
        let result = std::thread::scope(|scope| {
            let over = Over { is: AtomicBool::new(false), waits: std::thread::current() };
            let end = AtEnd(Arc::new(over));
            let over = Arc::clone(&end.0);
            let tid = &tid;
            let traces = move || {
                let _end = end;
                // Relaxed: read behind the end of this thread.
                tid.store(ptrace::own_tid(), Ordering::Relaxed);
                work(&mut Tracer::new(self.clone())?)
            };
            let thread = scope.spawn(traces);
            over.wait(self.pid());
            thread.join()
        });
        await_end(tid.into_inner());
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Whether a thread that traces has done its work, and who waits for that.
struct Over {
    is: AtomicBool,
    waits: std::thread::Thread,
}

/// Says so, however the work ends.
struct AtEnd(Arc<Over>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        // Release pairs with the Acquire in `wait`.
        self.0.is.store(true, Ordering::Release);
        self.0.waits.unpark();
    }
}

impl Over {
    /// Waits for the end of the work on a process. If that executes a program meanwhile, the kernel
    /// first has all its other threads end, and be reaped by whoever traces them, and lets nobody
    /// begin to trace the one that executes until then: so somebody else than the thread that
    /// traces has to reap them.
    fn wait(&self, pid: Tid) {
        /// Far longer than seizing a thread takes otherwise.
        const LOOKS: Duration = Duration::from_millis(5);
        let mut seized = false;
        while !self.is.load(Ordering::Acquire) {
            std::thread::park_timeout(LOOKS);
            let seizes = ptrace::is_seizing();
            if seizes && seized {
                // Only those are reaped that this process traces and that have ended.
                let threads = proc::threads(pid).unwrap_or_default();
                threads.into_iter().filter(|tid| *tid != pid).for_each(ptrace::reap_if_ended);
            }
            seized = seizes;
        }
    }
}

/// Waits until a thread of ours that has been joined traces nothing any more, which comes a moment
/// later.
pub(crate) fn await_end(tid: Tid) {
    while fs::exists(format!("/proc/self/task/{tid}")).unwrap_or(false) {
        std::thread::yield_now();
    }
}

impl Tracer {
    pub(crate) fn new(target: Target) -> Result<Self, Error> {
        Self::with_options(target, options::PLAIN)
    }

    pub(crate) fn with_options(target: Target, options: usize) -> Result<Self, Error> {
        let (memory, gadget) = open(&target)?;
        let (late, helpers) = (Vec::new(), Vec::new());
        let (call_limit, not_send) = (CALL_LIMIT, PhantomData);
        Ok(Self { target, memory, gadget, late, helpers, options, call_limit, not_send })
    }

    /// The process.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Reads memory of the process, whose threads run.
    ///
    /// # Errors
    /// If not all of it is mapped.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.memory.read(address, bytes).map_err(Error::own("reading the process's memory"))
    }

    pub(crate) fn pid(&self) -> Tid {
        self.target.pid()
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn gadget(&self) -> u64 {
        self.gadget
    }

    /// Whether a thread that stands so is where a tracer that was killed has left it, for a moment.
    pub(crate) fn is_in_gadget(&self, registers: &Registers) -> bool {
        let inside = arch::instruction(registers).wrapping_sub(self.gadget);
        inside < gadget::CALL_AND_RETURN.len() as u64
    }

    /// Begins to trace a thread, which goes on. False: it has ended.
    pub(crate) fn seize(&mut self, tid: Tid) -> Result<bool, Error> {
        if self.late.contains(&tid) {
            return Ok(true);
        }
        if let Err(error) = ptrace::seize(tid, self.options) {
            return match Status::read(self.pid(), tid) {
                Ok(status) if status.has_ended() => Ok(false),
                Ok(status) if status.tracer != 0 => {
                    let name = proc::name(status.tracer).unwrap_or_default();
                    let why = Refusal::Traced { tracer: status.tracer, name };
                    Err(Refused { pid: self.pid(), why }.into())
                }
                Ok(_) if error.raw_os_error() != Some(libc::ESRCH) => {
                    Err(Error::Own { what: "tracing a thread", source: error })
                }
                _ => Ok(false),
            };
        }
        // From here on the thread is known, and let go whatever happens.
        self.late.push(tid);
        Ok(true)
    }

    /// Asks a thread to stop that is traced.
    pub(crate) fn interrupt(&self, tid: Tid) {
        // It can have ended, which waiting for it says.
        let _ = ptrace::interrupt(tid);
    }

    /// Waits for a thread that was asked to stop; nothing if it has ended or does not stop in time.
    /// Signals that arrive until then are delivered.
    pub(crate) fn settle(&mut self, tid: Tid) -> Option<Thread> {
        let (pid, deadline) = (self.pid(), Instant::now() + PATIENCE);
        loop {
            match ptrace::wait_unless(tid, || cannot_stop(pid, tid, deadline)) {
                Waited::Running => return None,
                Waited::Ended => {
                    self.forget(tid);
                    return None;
                }
                Waited::Stopped(stop @ (Stop::Trap | Stop::Group)) => {
                    let Ok(registers) = stand(tid, stop) else { continue };
                    self.late.retain(|late| *late != tid);
                    return Some(Thread { tid, registers });
                }
                Waited::Stopped(other) => pass_on(tid, other),
            }
        }
    }

    fn forget(&mut self, tid: Tid) {
        self.late.retain(|late| *late != tid);
        if tid != self.pid() {
            ptrace::reap(tid);
        }
    }

    /// Lets a thread go that stands.
    pub(crate) fn release(&mut self, tid: Tid) {
        if ptrace::detach(tid).is_err() && ptrace::poll(tid) == Waited::Ended {
            self.forget(tid);
        }
    }

    /// Lets those go that have stopped later than they should. Waited for are those that can stop:
    /// their calls have been interrupted, and it must be seen to that they are made again.
    pub(crate) fn release_late(&mut self) {
        let now = Instant::now();
        for tid in self.late.clone() {
            while self.late.contains(&tid) {
                match ptrace::wait_unless(tid, || cannot_stop(self.pid(), tid, now)) {
                    Waited::Running => break,
                    Waited::Ended => self.forget(tid),
                    Waited::Stopped(stop @ (Stop::Trap | Stop::Group)) => {
                        // An error is that it has been killed.
                        let _ = stand(tid, stop);
                        self.late.retain(|late| *late != tid);
                        self.release(tid);
                    }
                    Waited::Stopped(other) => pass_on(tid, other),
                }
            }
        }
    }

    /// Threads that were asked to stop and have not.
    pub(crate) fn late(&self) -> &[Tid] {
        &self.late
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // What cannot stop even now is let go by the end of this thread.
        self.release_late();
    }
}

/// Takes note of a thread that has come to stand, and sees to the system call that it is in.
pub(crate) fn stand(tid: Tid, stop: Stop) -> io::Result<Registers> {
    let mut registers = ptrace::registers(tid)?;
    // At once, so that it holds for a tracer that is killed. A call that job control has ended has
    // ended for good.
    if stop == Stop::Trap && restart::ask_for_restart(&mut registers) {
        ptrace::set_registers(tid, &registers)?;
    }
    Ok(registers)
}

/// Lets a thread go on from a stop that was not asked for, with the signal that it was about to
/// get. If that is one that the program ignores, it would not even have been sent without a tracer,
/// and must not end a system call: the kernel decides, as at other stops.
pub(crate) fn pass_on(tid: Tid, stop: Stop) {
    pass_on_by(tid, stop, ptrace::resume);
}

/// As [`pass_on`], up to where `resume` lets it run.
pub(crate) fn pass_on_by(tid: Tid, stop: Stop, resume: impl Fn(Tid, i32) -> io::Result<()>) {
    let signal = if let Stop::Signal(signal) = stop { signal } else { 0 };
    if signal != 0
        && let Ok(mut registers) = ptrace::registers(tid)
        && restart::ask_for_restart(&mut registers)
    {
        let _ = ptrace::set_registers(tid, &registers);
    }
    // It can have been killed meanwhile, which the next wait reports.
    let _ = resume(tid, signal);
}

/// Whether a thread that was asked to stop will not soon: one that waits for a child that borrows
/// its memory, and, after `deadline`, any that cannot be interrupted. All others come to it when
/// they get a processor.
pub(crate) fn cannot_stop(pid: Tid, tid: Tid, deadline: Instant) -> bool {
    is_uninterruptible(pid, tid) && (Instant::now() >= deadline || is_in_vfork(pid, tid))
}

fn is_uninterruptible(pid: Tid, tid: Tid) -> bool {
    Status::read(pid, tid).is_ok_and(|status| status.state == 'D')
}

/// Whether the thread waits for a child that borrows its memory.
pub(crate) fn is_in_vfork(pid: Tid, tid: Tid) -> bool {
    let call = Call::read(pid, tid).and_then(|call| call.number);
    call.is_some_and(restart::is_vfork) && is_uninterruptible(pid, tid)
}

/// The process's memory, and [`dead_code`] in it. While it executes another program there is
/// neither for a moment: whoever has started a process comes here before that has ended.
fn open(target: &Target) -> Result<(Memory, u64), Error> {
    let deadline = Instant::now() + EXECUTES;
    loop {
        let opened = |tid| Memory::open(target.pid(), tid);
        let memory = target.of_living("opening the process's memory", opened)?;
        match dead_code(target, &memory) {
            Err(Error::Busy) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            gadget => return Ok((memory, gadget?)),
        }
    }
}

/// Where code can be put that the program never runs through: between the end of its own code and
/// the end of the page, and otherwise at its first instruction, which has been executed.
fn dead_code(target: &Target, memory: &Memory) -> Result<u64, Error> {
    let read = |tid| Auxiliary::read(target.pid(), tid);
    let auxiliary = target.of_living("reading the program's auxiliary vector", read)?;
    let get = |key| auxiliary.get(key).ok_or(Error::Busy);
    let (entry, headers, count) =
        (get(libc::AT_ENTRY)?, get(libc::AT_PHDR)?, get(libc::AT_PHNUM)?.min(64));
    let found = segments(memory, headers, count).and_then(|segments| {
        let base = base(memory, headers, entry)?;
        let code = segments.iter().filter(|segment| segment.is_code());
        code.map(|segment| base.wrapping_add(segment.end)).find(|end| room_in_page(*end))
    });
    Ok(found.map_or(entry, |end| end.next_multiple_of(4)))
}

/// Whether the gadget fits between `end` and the end of the page.
fn room_in_page(end: u64) -> bool {
    let left = end.next_multiple_of(arch::PAGE) - end;
    left >= 4 + gadget::CALL_AND_RETURN.len() as u64
}

/// How far the program lies from where its file says: its header, in front of the program headers,
/// has its entry point.
fn base(memory: &Memory, headers: u64, entry: u64) -> Option<u64> {
    /// Bytes of an ELF header, and in it where the entry point is.
    const HEADER: u64 = 64;
    const ENTRY: u64 = 24;
    let start = headers.checked_sub(HEADER)?;
    let mut magic = [0; 4];
    memory.read(start, &mut magic).ok()?;
    (magic == object::elf::ELFMAG).then_some(())?;
    Some(entry.wrapping_sub(memory.word(start + ENTRY).ok()?))
}

/// A program header.
struct Segment {
    kind: u32,
    flags: u32,
    end: u64,
}

impl Segment {
    fn is_code(&self) -> bool {
        self.kind == object::elf::PT_LOAD.0 && self.flags & object::elf::PF_X.0 != 0
    }
}

/// The program headers, as they are in memory.
fn segments(memory: &Memory, headers: u64, count: u64) -> Option<Vec<Segment>> {
    /// Bytes of a header.
    const EACH: usize = 56;
    let mut bytes = vec![0; EACH * count as usize];
    memory.read(headers, &mut bytes).ok()?;
    let segment = |header: &[u8]| {
        let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight"));
        let half = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four"));
        let end = word(16).checked_add(word(40))?;
        Some(Segment { kind: half(0), flags: half(4), end })
    };
    bytes.chunks_exact(EACH).map(segment).collect()
}
