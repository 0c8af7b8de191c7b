//! Questions of agents: "this object appeared, what of it shall I probe?"
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

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const POSTED: u32 = 2;
const ANSWERED: u32 = 3;
const ABANDONED: u32 = 4;
const TAKEN: u32 = 5;
/// The answer when nothing of the object is to be probed.
const NOTHING: u32 = u32::MAX;

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

/// A question that waits for an answer.
#[derive(Debug)]
pub struct Request {
    index: usize,
    /// Process that asks, as it says.
    pub pid: u32,
    /// An address at which it has the object mapped, as it says.
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
        let (at, state) = (0..REQUESTS).find_map(|i| self.claim(i)).ok_or(())?;
        write_identity(&self.fixed, at, object);
        self.fixed.store32(at + PID, pid);
        self.fixed.store64(at + ADDRESS, address);
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
                    pid: self.fixed.load32(at + PID),
                    address: self.fixed.load64(at + ADDRESS),
                    object: read_identity(&self.fixed, at),
                }),
                Err(ABANDONED) => state.store(FREE, Ordering::Release),
                Err(_) => {}
            }
        }
        self.tables.store32(head::ANSWERING, found.len() as u32);
        found
    }

    /// For the command line: answers with the object's index, after its functions were added. Each
    /// of [`Segment::requests`] is answered once.
    pub fn answer(&self, request: &Request, object: Option<usize>) {
        let left = self.tables.load32(head::ANSWERING).saturating_sub(1);
        self.tables.store32(head::ANSWERING, left);
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
        let Some(bell) = self.fixed.u32(count::BELL) else { return seen };
        futex::wait(bell, seen, patience);
        bell.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Patience, STATE, TAKEN};
    use crate::{Identity, Segment, Shape};
    use core::time::Duration;

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
