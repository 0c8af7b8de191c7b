//! Questions of agents: "this object appeared, what of it shall I probe?", and of images, which
//! have nothing done by themselves: [`What`].
//!
//! # States of a request, and who may write what when
//! `FREE` -> `CLAIMED` by the agent's compare-and-swap; it fills the entry -> `POSTED`, and rings
//! the bell -> `TAKEN` by the command line, which resolves the object and adds it to the tables ->
//! `ANSWERED` with the object's index, and the agent is woken -> it reads the answer -> `FREE`. An
//! agent that gave up waiting leaves `ABANDONED`, which the command line turns into `FREE`.
//!
//! While somebody is at work, which stands in the tables (`head::ANSWERING`), agents wait: a
//! library with a hundred thousand functions on a busy machine takes seconds, and who asked for
//! another one meanwhile waits, too. What stands in a request does not make anybody wait longer:
//! all write it.

use crate::futex;
use crate::layout::{OBJECT_BYTES, REQUESTS, count, head};
use crate::object::{Identity, read_identity, write_identity};
use crate::segment::Segment;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

const STATE: usize = OBJECT_BYTES;
const PID: usize = OBJECT_BYTES + 4;
const ANSWER: usize = OBJECT_BYTES + 8;
const ADDRESS: usize = OBJECT_BYTES + 16;
const WHAT: usize = OBJECT_BYTES + 24;
const THREAD: usize = OBJECT_BYTES + 28;
const DIRECTORY: usize = OBJECT_BYTES + 32;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const POSTED: u32 = 2;
const ANSWERED: u32 = 3;
const ABANDONED: u32 = 4;
const TAKEN: u32 = 5;
/// The answer when nothing of the object is to be probed.
const NOTHING: u32 = u32::MAX;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An object that is mapped at the question's address: what of it is to be probed? An agent
    /// arms by the answer.
    Object,
    /// What is loaded is not what it was: an image is to be told to arm, and its changes written.
    /// It goes on when that was done.
    Loaded,
    /// A thread is about to execute a program, whose path is at the question's address, if it has
    /// one. It goes on when it is traced, or will not be.
    Execute {
        /// Its number.
        thread: u32,
        /// The descriptor of the directory that the path begins in, or, without a path, of the
        /// program; `AT_FDCWD`: the process's own.
        directory: i32,
    },
}

impl What {
    fn words(self) -> [u32; 3] {
        match self {
            Self::Object => [0; 3],
            Self::Loaded => [1, 0, 0],
            Self::Execute { thread, directory } => [2, thread, directory.cast_unsigned()],
        }
    }

    /// Numbers that are not known are an object's.
    fn of([what, thread, directory]: [u32; 3]) -> Self {
        match what {
            1 => Self::Loaded,
            2 => Self::Execute { thread, directory: directory.cast_signed() },
            _ => Self::Object,
        }
    }
}

/// How long an agent sleeps before it looks again whether somebody is at work.
const LOOK: Duration = Duration::from_millis(200);

/// How long an agent waits for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// While nobody is at work on any question.
    pub idle: Duration,
    /// In any case.
    pub longest: Duration,
}

/// A question that waits for an answer. Of copies one is to be answered.
#[derive(Clone, Debug)]
pub struct Request {
    index: usize,
    /// What about.
    pub what: What,
    /// Process that asks, as it says.
    pub pid: u32,
    /// An address at which it has the object mapped, or that of a path, as it says.
    pub address: u64,
    /// The object that it has loaded.
    pub object: Identity,
}

impl Segment {
    /// For the agent: asks about what is mapped at `address` and waits as `patience` says, and as
    /// long as the command line is `alive`.
    /// `Ok(false)`: nothing of it is to be probed. `Ok(true)`: the object is in the table now.
    /// Where it is there, everybody who counts could have changed on the way: look it up by what it
    /// is. `Err`: no answer in time, or no room to ask.
    ///
    /// # Errors
    /// `()`: the caller counts [`crate::Loss::Unanswered`].
    ///
    /// # Context
    /// Makes futex system calls.
    #[expect(clippy::result_unit_err, reason = "there is one way to fail")]
    pub fn ask(
        &self,
        pid: u32,
        object: &Identity,
        address: u64,
        patience: Patience,
        alive: impl Fn() -> bool,
    ) -> Result<bool, ()> {
        self.ask_about(What::Object, pid, object, address, patience, alive)
    }

    /// As [`Segment::ask`], about anything. `Ok(false)`: it was not done.
    ///
    /// # Errors
    /// `()`, as there.
    ///
    /// # Context
    /// As there.
    #[expect(clippy::result_unit_err, reason = "there is one way to fail")]
    pub fn ask_about(
        &self,
        what: What,
        pid: u32,
        object: &Identity,
        address: u64,
        patience: Patience,
        alive: impl Fn() -> bool,
    ) -> Result<bool, ()> {
        let (at, state) = (0..REQUESTS).find_map(|i| self.claim(i)).ok_or(())?;
        write_identity(&self.fixed, at, object);
        self.fixed.store32(at + PID, pid);
        self.fixed.store64(at + ADDRESS, address);
        for (place, word) in [WHAT, THREAD, DIRECTORY].into_iter().zip(what.words()) {
            self.fixed.store32(at + place, word);
        }
        // Release pairs with the Acquire in `requests`.
        state.store(POSTED, Ordering::Release);
        if let Some(bell) = self.fixed.u32(count::BELL) {
            // Relaxed: the state carries the message, the bell only wakes.
            bell.fetch_add(1, Ordering::Relaxed);
            futex::wake(bell);
        }
        let asked = futex::now();
        let end = asked.after(patience.longest);
        let mut idle = asked.after(patience.idle);
        loop {
            // Acquire pairs with the Release in `answer`: the object's functions are in the table.
            let found = state.load(Ordering::Acquire);
            if found == ANSWERED {
                let answer = self.fixed.load32(at + ANSWER);
                state.store(FREE, Ordering::Release);
                return Ok(answer != NOTHING);
            }
            let time = futex::now();
            if self.answering() {
                idle = time.after(patience.idle);
            } else if time >= idle {
                break;
            }
            if time >= end || !alive() {
                break;
            }
            futex::wait(state, found, LOOK.min(patience.idle));
        }
        // Either we give up first, or the answer came between the load and this: then it is thrown
        // away.
        let give_up = |from| {
            state.compare_exchange(from, ABANDONED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if !give_up(POSTED) && !give_up(TAKEN) {
            state.store(FREE, Ordering::Release);
        }
        Err(())
    }

    /// Says that nobody answers, so that others do not wait in vain, too, until the command line is
    /// heard of again.
    pub fn note_silence(&self) {
        self.fixed.store32(count::SILENT, 1);
    }

    /// Whether [`Segment::note_silence`] was called, and nothing was heard since.
    pub fn is_silent(&self) -> bool {
        self.fixed.load32(count::SILENT) != 0
    }

    /// Whether the command line is at work on a question. It says so where nobody else can write.
    fn answering(&self) -> bool {
        self.tables.load32(head::ANSWERING) != 0
    }

    fn claim(&self, index: usize) -> Option<(usize, &AtomicU32)> {
        let at = self.layout.request(index)?;
        let state = self.fixed.u32(at + STATE)?;
        // Acquire pairs with the Release of whoever freed it.
        state
            .compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| (at, state))
    }

    /// For the command line: the questions that wait, which it now works on. Allocates.
    pub fn requests(&self) -> Vec<Request> {
        let mut found = Vec::new();
        for index in 0..REQUESTS {
            let Some(at) = self.layout.request(index) else { break };
            let Some(state) = self.fixed.u32(at + STATE) else { break };
            // Acquire pairs with the Release in `ask`.
            match state.compare_exchange(POSTED, TAKEN, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => found.push(Request {
                    index,
                    what: What::of([WHAT, THREAD, DIRECTORY].map(|w| self.fixed.load32(at + w))),
                    pid: self.fixed.load32(at + PID),
                    address: self.fixed.load64(at + ADDRESS),
                    object: read_identity(&self.fixed, at),
                }),
                Err(ABANDONED) => state.store(FREE, Ordering::Release),
                Err(_) => {}
            }
        }
        if let Some(answering) = self.tables.u32(head::ANSWERING) {
            // Relaxed, as below: it is only looked at for not being 0.
            answering.fetch_add(found.len() as u32, Ordering::Relaxed);
        }
        found
    }

    /// For the command line: answers with the object's index, after its functions were added; about
    /// anything else with any number, if it was done. Each of [`Segment::requests`] is answered
    /// once, by any thread.
    pub fn answer(&self, request: &Request, object: Option<usize>) {
        if let Some(answering) = self.tables.u32(head::ANSWERING) {
            answering.fetch_sub(1, Ordering::Relaxed);
        }
        let Some(at) = self.layout.request(request.index) else { return };
        self.fixed.store32(at + ANSWER, object.map_or(NOTHING, |o| o as u32));
        let Some(state) = self.fixed.u32(at + STATE) else { return };
        // Release pairs with the Acquire in `ask`. A failure means that the agent gave up.
        if state.compare_exchange(TAKEN, ANSWERED, Ordering::Release, Ordering::Relaxed).is_err() {
            state.store(FREE, Ordering::Release);
        }
        futex::wake(state);
    }

    /// For the command line: waits until an agent asks something, or up to `patience`. `seen` is
    /// what this returned last time, 0 at first.
    pub fn wait_for_requests(&self, seen: u32, patience: Duration) -> u32 {
        self.fixed.store32(count::SILENT, 0);
        let Some(bell) = self.fixed.u32(count::BELL) else { return seen };
        futex::wait(bell, seen, patience);
        bell.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Patience, STATE, TAKEN, What};
    use crate::{Identity, Segment, Shape};
    use core::time::Duration;

    #[test]
    fn what_is_asked_is_what_is_read() {
        let execute = What::Execute { thread: 77, directory: -100 };
        for what in [What::Object, What::Loaded, execute] {
            assert_eq!(What::of(what.words()), what);
        }
        assert_eq!(What::of([3, 1, 1]), What::Object);
    }

    /// That somebody is at work stands where only the command line writes: whatever others write
    /// into a request, nobody waits for them.
    #[test]
    fn what_others_write_makes_nobody_wait() {
        let shape = Shape {
            objects: 1,
            functions: 1,
            blocks: 1,
            cell_bytes: 4096,
            budget: 1 << 20,
            per_thread: false,
            scarce: false,
            stacks: None,
        };
        let file = crate::test_file();
        let segment = Segment::create(file, shape).unwrap();
        let at = segment.layout.request(7).unwrap() + STATE;
        segment.fixed.store32(at, TAKEN);
        // For ever, if it were believed.
        let longest = Duration::from_secs(1 << 20);
        let patience = Patience { idle: Duration::from_millis(1), longest };
        let asked = segment.ask(1, &Identity::default(), 0, patience, || true);
        assert_eq!(asked, Err(()));
    }
}
